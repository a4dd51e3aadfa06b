package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "write_file",
	Title:       "Write a file",
	Description: "Write a whole text file in a microVM, atomically. edit_file changes a part; cp_to_vm copies large or binary ones.",
	Toolset:     toolsetFiles,
	Effect:      Destroys,
	Idempotent:  true,
}, (*Toolset).writeFile)

type writeFileInput struct {
	FilePath string `json:"file_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"File in the VM"`
	Content  string `json:"content" jsonschema:"required,maxLength=1048576" jsonschema_description:"All of its text"`
	vmArgument
	Mode          string `json:"mode,omitempty" jsonschema:"maxLength=5" jsonschema_description:"Octal. Default: as it was, else 0644"`
	User          string `json:"user,omitempty" jsonschema:"maxLength=32" jsonschema_description:"Owner: name or uid. Default: as it was, else ubuntu"`
	CreateParents bool   `json:"create_parents,omitempty" jsonschema:"default=false" jsonschema_description:"Make missing folders"`
}

// writtenRecord is write_file's answer.
type writtenRecord struct {
	VM       string `json:"vm"`
	Name     string `json:"name,omitempty"`
	FilePath string `json:"file_path"`
	Outcome  string `json:"outcome"` // created or overwritten
	Bytes    int64  `json:"bytes"`
	Lines    int64  `json:"lines"`
	Mode     string `json:"mode"`
	SHA256   string `json:"sha256"`

	MadeFolder string `json:"made_folder,omitempty"` // the folder of the file, that wasn't there
}

func (t *Toolset) writeFile(ctx context.Context, in writeFileInput) (Result, error) {
	if err := checkVMPath("file_path", in.FilePath); err != nil {
		return Result{}, err
	}
	if _, base := splitVMPath(in.FilePath); base == "" || strings.HasSuffix(in.FilePath, "/") {
		return Result{}, refuse("file_path %s names a folder. Add the name of a file.", quote(in.FilePath))
	}
	mode := ""
	if in.Mode != "" {
		var err error
		if mode, err = parseMode(in.Mode); err != nil {
			return Result{}, err
		}
		if mode == "0000" {
			// The daemon takes no permissions for its default.
			return Result{}, refuse("mode %s can't be used: nobody could read the file. Use exec with chmod if that is meant.", quote(in.Mode))
		}
	}
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	vm, err := t.resolve(limited, in.VM)
	if err != nil {
		return Result{}, err
	}
	w := fileWrite{vm: vm, path: in.FilePath, data: []byte(in.Content)}
	if w.uid, w.gid, err = t.lookupUser(limited, vm, in.User); err != nil {
		return Result{}, err
	}
	if in.User == ordinaryUser {
		// For the daemon no user is the one that the file has.
		w.uid, w.gid = ordinaryUID, ordinaryUID
	}
	if w.uid == 0 {
		// What asks for the file's state doesn't know of the user.
		w.path = expandHome(w.path, rootsHome)
	}
	there, err := t.beforeWrite(limited, vm, w.path)
	if err != nil {
		return Result{}, t.writeFailed(ctx, err, w, in.CreateParents)
	}
	rec := writtenRecord{
		VM: vm.Hostname, Name: tagValue(vm, tagName), FilePath: w.path, Outcome: "overwritten", Bytes: int64(len(w.data)), Lines: lineCount(w.data),
		Mode: orElse(mode, "0644"),
	}
	if there == nil {
		rec.Outcome = "created"
	} else if mode == "" {
		rec.Mode = fmt.Sprintf("%04o", there.FileMode().Perm())
	}
	w.mode = rec.Mode
	err = w.send(limited, t.client)
	if isMissing(err) && in.CreateParents {
		rec.MadeFolder = folderOf(w.path)
		err = w.sendWithFolder(limited, t.client)
	}
	if err != nil {
		return Result{}, t.writeFailed(ctx, err, w, in.CreateParents)
	}
	rec.SHA256 = w.sum()
	text := fmt.Sprintf("%s %s in %s: %s, %s, mode %s, SHA-256 %s.", capital(rec.Outcome), quote(rec.FilePath),
		label(rec.VM, rec.Name), count(rec.Lines, "line"), count(rec.Bytes, "byte"), rec.Mode, rec.SHA256)
	if rec.MadeFolder != "" {
		text += fmt.Sprintf(" Made the missing folder %s.", quote(rec.MadeFolder))
	}
	return Result{Text: text, Record: rec}, nil
}

// beforeWrite describes the file that is about to be written; nil is none. A
// symlink is refused: what is written would stand in its place, and what it
// points to would stay as it is.
func (t *Toolset) beforeWrite(ctx context.Context, vm slicer.SlicerNode, p string) (*slicer.SlicerFSInfo, error) {
	info, err := t.client.Stat(ctx, vm.Hostname, p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		info = nil
	}
	name, machine := quote(p), quote(handle(vm))
	if t.isSymlink(ctx, vm, p) {
		return nil, refuse("%s in VM %s is a symlink, which writing would replace. Use the path that it leads to: exec(vm=%s, command=%s) tells it. Or remove the link first: remove_file(vm=%s, path=%s).",
			name, machine, machine, quote("readlink -f -- "+shellWord(p)), machine, name)
	}
	if info != nil && info.IsDir() {
		return nil, refuse("%s in VM %s is a folder. Add the name of a file; list_files(vm=%s, path=%s) shows what is in it.", name, machine, machine, name)
	}
	return info, nil
}

// fileWrite is the content of one file on its way into a VM. The daemon puts it
// under another name first, and renames that when it is whole.
type fileWrite struct {
	vm       slicer.SlicerNode
	path     string
	data     []byte
	mode     string // octal
	uid, gid uint32 // slicer.NonRootUser leaves them as they are
}

func (w fileWrite) send(ctx context.Context, client *slicer.SlicerClient) error {
	bits, err := strconv.ParseUint(w.mode, 8, 32)
	if err != nil {
		return err
	}
	return client.WriteFile(ctx, w.vm.Hostname, w.path, w.data, fs.FileMode(bits), w.uid, w.gid)
}

// sendWithFolder sends the file as an archive, for which the daemon makes the
// missing folders, as the file's owner.
func (w fileWrite) sendWithFolder(ctx context.Context, client *slicer.SlicerClient) error {
	dir, base := splitVMPath(w.path)
	return client.CpFSToVM(ctx, w.vm.Hostname, memoryFile{base, w.data}, base, dir, w.uid, w.gid, w.mode, "tar")
}

func (w fileWrite) sum() string {
	sum := sha256.Sum256(w.data)
	return hex.EncodeToString(sum[:])
}

// writeFailed says why a file was not written.
func (t *Toolset) writeFailed(ctx context.Context, err error, w fileWrite, parents bool) error {
	name, machine := quote(w.path), quote(handle(w.vm))
	var told *refusal
	switch {
	case errors.As(err, &told):
		return err
	case isMissing(err) && !parents:
		return refuse("%s can't be written in VM %s: there is no folder %s. Retry with create_parents=true, or correct the path: list_files(vm=%s, path=%s).",
			name, machine, quote(folderOf(w.path)), machine, quote(folderOf(folderOf(w.path))))
	case errors.Is(err, context.DeadlineExceeded):
		if s := t.standingOf(ctx, w.vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("writing %s in VM %s was not done in time. The file is as it was or whole, never a part: read_file(vm=%s, file_path=%s) tells. Then retry.", name, machine, machine, name)
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: w.vm, path: w.path, instead: otherUser(w.uid),
		brokeOff: fmt.Sprintf("the connection to the daemon broke while %s was written in VM %s. The file is as it was or whole, never a part. Call list_vms to see the VM's status, then retry.", name, machine),
	})
}

// lineCount is how many lines a text has, the last one with or without its
// newline.
func lineCount(text []byte) int64 {
	n := newlines(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// memoryFile is a file system of one file.
type memoryFile struct {
	name string
	data []byte
}

// Open implements fs.FS.
func (m memoryFile) Open(name string) (fs.File, error) {
	if name != m.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return memoryReader{bytes.NewReader(m.data), m}, nil
}

// memoryReader is a memoryFile that is read.
type memoryReader struct {
	io.Reader
	file memoryFile
}

// Stat implements fs.File.
func (r memoryReader) Stat() (fs.FileInfo, error) { return memoryInfo{r.file}, nil }

// Close implements fs.File.
func (r memoryReader) Close() error { return nil }

// memoryInfo describes a memoryFile.
type memoryInfo struct{ file memoryFile }

func (i memoryInfo) Name() string       { return i.file.name }
func (i memoryInfo) Size() int64        { return int64(len(i.file.data)) }
func (i memoryInfo) Mode() fs.FileMode  { return 0o644 }
func (i memoryInfo) ModTime() time.Time { return time.Now() }
func (i memoryInfo) IsDir() bool        { return false }
func (i memoryInfo) Sys() any           { return nil }
