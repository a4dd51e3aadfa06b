package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "cp_to_vm",
	Title:       "Copy files into a microVM",
	Description: "Copy a host file or folder into a microVM, straight from disk. A folder's contents go into vm_path. Missing folders are made, files of the same name replaced, symlinks kept, special files skipped.",
	Toolset:     toolsetFiles,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).cpToVM)

type cpToVMInput struct {
	HostPath string `json:"host_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"File or folder on the host, under an allowed folder"`
	VMPath   string `json:"vm_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Where it goes in the VM, absolute or from ~. A file: its new path, or a folder with / at the end"`
	vmArgument
	Exclude []string `json:"exclude,omitempty" jsonschema:"maxItems=100" jsonschema_description:"Globs of what to leave out of a folder, such as node_modules or **/*.o"`
	User    string   `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"Who owns the copy: ubuntu, root or a uid"`
}

// copiedRecord is cp_to_vm's answer.
type copiedRecord struct {
	VM       string  `json:"vm"`
	VMPath   string  `json:"vm_path"`
	Files    int     `json:"files"`
	Bytes    int64   `json:"bytes"`
	Symlinks int     `json:"symlinks,omitempty"`
	Skipped  int     `json:"skipped,omitempty"` // special files
	Seconds  float64 `json:"seconds"`
	SHA256   string  `json:"sha256,omitempty"` // of a single file

	MadeFolder string `json:"made_folder,omitempty"` // the folder of a single file, that wasn't there
}

func (t *Toolset) cpToVM(ctx context.Context, in cpToVMInput) (Result, error) {
	began := time.Now()
	if err := checkVMPath("vm_path", in.VMPath); err != nil {
		return Result{}, err
	}
	if err := checkExclude(in.Exclude); err != nil {
		return Result{}, err
	}
	uid, gid, err := parseUser(in.User)
	if err != nil {
		return Result{}, err
	}
	entry, err := t.roots.open("host_path", in.HostPath)
	if err != nil {
		return Result{}, err
	}
	defer entry.Close()
	if entry.dir == nil {
		if len(in.Exclude) > 0 {
			return Result{}, refuse("exclude is for folders, and host_path %s is a file. Leave it out.", quote(in.HostPath))
		}
		if strings.HasSuffix(in.VMPath, "/") {
			in.VMPath = path.Join(in.VMPath, entry.name)
		}
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}

	up := newUpload(entry, in)
	up.uid, up.gid = uid, gid
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	madeFolder := ""
	err = up.send(limited, t.client, vm)
	if isMissing(err) && up.intoFolder() {
		madeFolder = up.vmPath
		err = up.send(limited, t.client, vm)
	}
	sent := up.read.sent()
	if err != nil {
		return Result{}, t.copyFailed(ctx, err, vm, in, sent, time.Since(began))
	}
	rec := copiedRecord{
		VM: vm.Hostname, VMPath: in.VMPath, Files: sent.files, Bytes: sent.bytes, Symlinks: sent.symlinks, Skipped: sent.skipped,
		Seconds: roundedSeconds(time.Since(began)), MadeFolder: madeFolder,
	}
	if entry.dir == nil {
		rec.SHA256 = hex.EncodeToString(up.read.sum())
	}
	what := count(int64(rec.Files), "file")
	if rec.Symlinks > 0 {
		what += " and " + count(int64(rec.Symlinks), "symlink")
	}
	text := fmt.Sprintf("Copied %s, %s, in %s to %s in %s.", what, size(rec.Bytes),
		seconds(time.Since(began)), quote(rec.VMPath), label(vm.Hostname, tagValue(vm, tagName)))
	if rec.Skipped > 0 {
		text += fmt.Sprintf(" Skipped %s.", count(int64(rec.Skipped), "special file"))
	}
	if madeFolder != "" {
		text += fmt.Sprintf(" Made the missing folder %s.", quote(madeFolder))
	}
	if rec.SHA256 != "" {
		text += " SHA-256 " + rec.SHA256 + "."
	}
	return Result{Text: text, Record: rec}, nil
}

// checkExclude refuses globs that can't be matched.
func checkExclude(globs []string) error {
	for i, glob := range globs {
		_, err := path.Match(strings.ReplaceAll(glob, "[!", "[^"), "")
		switch {
		case err != nil:
			return refuse("exclude[%d] %s is not a well-formed glob: * and ? match in one name, ** across folders, [a-z] one character.", i, quote(glob))
		case strings.HasPrefix(glob, "!"):
			return refuse("exclude[%d] %s can't be used: a glob can't take back another one. Name only what is to be left out.", i, quote(glob))
		case slices.Contains(strings.Split(glob, "/"), ".."):
			return refuse("exclude[%d] %s can't be used: globs are matched inside host_path, without .. in them.", i, quote(glob))
		}
	}
	return nil
}

// upload is one copy into a VM.
type upload struct {
	entry *hostEntry
	read  *meter

	vmPath      string
	files       fs.FS
	name        string // in files
	permissions string
	mode        string
	uid, gid    uint32
	exclude     []string
}

func newUpload(entry *hostEntry, in cpToVMInput) *upload {
	u := &upload{entry: entry, vmPath: in.VMPath, exclude: in.Exclude}
	if entry.dir != nil {
		u.read = &meter{}
		u.files = folderFS{dir: entry.dir, meter: u.read}
		u.name, u.mode = ".", "tar"
		return u
	}
	u.mode, u.permissions = "binary", fmt.Sprintf("%04o", entry.info.Mode().Perm())
	u.begin(entry.name)
	return u
}

// begin makes the copy of a file start anew, as one of a file called name.
func (u *upload) begin(name string) {
	u.read = &meter{hash: sha256.New(), total: tally{files: 1}}
	u.name = name
	u.files = fileFS{entry: u.entry, name: name, meter: u.read}
}

// intoFolder turns the copy of a file to vmPath into one of an archive with
// that file, which goes into the folder above and makes the missing ones. It
// reports false when there is nothing to turn.
func (u *upload) intoFolder() bool {
	folder, name := path.Split(u.vmPath)
	if u.mode != "binary" || folder == "" || name == "" || name == "." || name == ".." {
		return false
	}
	u.vmPath, u.mode = path.Clean(folder), "tar"
	u.begin(name)
	return true
}

func (u *upload) send(ctx context.Context, client *slicer.SlicerClient, vm slicer.SlicerNode) error {
	return client.CpFSToVM(ctx, vm.Hostname, u.files, u.name, u.vmPath, u.uid, u.gid, u.permissions, u.mode, u.exclude...)
}

// isMissing says whether err is the daemon's word that a path isn't there, and
// not one about a host file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) && errors.As(err, new(*slicer.APIError))
}

// copyFailed says why a copy broke off.
func (t *Toolset) copyFailed(ctx context.Context, err error, vm slicer.SlicerNode, in cpToVMInput, sent tally, took time.Duration) error {
	var local *fs.PathError
	refused := errors.As(err, new(*slicer.APIError))
	name, machine := quote(in.VMPath), quote(handle(vm))
	switch {
	case errors.Is(err, slicer.ErrBadPattern):
		return refuse("exclude can't be used: %s. * and ? match in one name, ** across folders, [a-z] one character; no glob takes another back.", innermost(err))
	case errors.Is(err, slicer.ErrIsDirectory):
		return refuse("vm_path %s is a folder in VM %s. Give the file's own path there, such as %s.",
			name, machine, quote(path.Join(in.VMPath, filepath.Base(in.HostPath))))
	case isMissing(err):
		folder := path.Dir(path.Clean(in.VMPath))
		return refuse("vm_path %s can't be made in VM %s%s: its folder isn't there, or takes nothing new. Make it with exec(vm=%s, user=%q, command=%s) and retry, or use another path.",
			name, machine, saidIn(err), machine, "root", quote("mkdir -p -- "+shellWord(folder)))
	case refused:
	case errors.Is(err, context.DeadlineExceeded):
		next := "Leave out what isn't needed with exclude, or copy subfolders one by one."
		if s := t.standingOf(ctx, vm); s.text != "" {
			next = s.text
		}
		return refuse("the copy was not done after %s and was given up; %s (%s) had been read, and what has arrived stays in the VM. %s",
			seconds(took), count(int64(sent.files), "file"), size(sent.bytes), next)
	case errors.As(err, &local):
		return refuse("the copy was given up: %s in %s could not be read (%s). What has arrived stays in the VM. Leave that file out with exclude, or retry when nothing changes it.",
			quote(local.Path), quote(in.HostPath), innermost(local.Err))
	}
	uid, _, _ := parseUser(in.User) // has been read before
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: in.VMPath, instead: otherUser(uid),
		brokeOff: fmt.Sprintf("the connection to the daemon broke during the copy; %s (%s) had been read, and what has arrived stays in the VM. Call list_vms to see the VM's status, then retry.",
			count(int64(sent.files), "file"), size(sent.bytes)),
	})
}
