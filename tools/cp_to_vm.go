package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "cp_to_vm",
	Title:       "Copy files into a microVM",
	Description: "Copy a host file or folder into a microVM. A folder's contents join those of vm_path, symlinks as such, without what its .slicerignore names. Files of the same name are replaced. After 30 s it goes on as a process for read_process.",
	Toolset:     toolsetFiles,
	Effect:      Destroys,
	Idempotent:  true,
}, (*Toolset).cpToVM)

type cpToVMInput struct {
	HostPath string `json:"host_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"On the host, under an allowed folder"`
	VMPath   string `json:"vm_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Its new path in the VM; a file also takes a folder ending in /"`
	vmArgument
	Exclude []string `json:"exclude,omitempty" jsonschema:"maxItems=100" jsonschema_description:"Globs to leave out, such as **/*.o"`
	User    string   `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"Owner: name or uid"`
	Mode    string   `json:"mode,omitempty" jsonschema:"maxLength=4" jsonschema_description:"Octal, of every file. Default: their own"`
}

func (t *Toolset) cpToVM(ctx context.Context, in cpToVMInput) (Result, error) {
	if err := checkVMPath("vm_path", in.VMPath); err != nil {
		return Result{}, err
	}
	if err := checkExclude(in.Exclude); err != nil {
		return Result{}, err
	}
	if in.Mode != "" {
		mode, err := parseMode(in.Mode)
		if err != nil {
			return Result{}, err
		}
		in.Mode = mode
	}
	entry, err := t.roots.open("host_path", in.HostPath)
	if err != nil {
		return Result{}, err
	}
	up, err := newUpload(entry, in)
	if err != nil {
		entry.Close()
		return Result{}, err
	}
	if up.vm, err = t.resolve(ctx, in.VM); err == nil {
		up.uid, up.gid, err = t.lookupUser(ctx, up.vm, in.User)
	}
	if err != nil {
		entry.Close()
		return Result{}, err
	}
	return t.runCopy(ctx, copying{
		vm: up.vm, named: in.VM != "", what: fmt.Sprintf("cp_to_vm %s to %s", quote(in.HostPath), quote(up.in.VMPath)),
		hostPath: in.HostPath, vmPath: up.in.VMPath,
		run:   func(ctx context.Context) (copiedRecord, error) { return up.run(ctx, t) },
		sofar: up.sofar, done: entry.Close,
	})
}

// checkExclude refuses globs that can't be matched.
func checkExclude(globs []string) error {
	for i, glob := range globs {
		if fault := globFault(glob); fault != "" {
			return refuse("exclude[%d] %s %s", i, quote(glob), fault)
		}
	}
	return nil
}

// globFault says in a sentence what is wrong with a glob of what to leave out.
func globFault(glob string) string {
	_, err := path.Match(strings.ReplaceAll(glob, "[!", "[^"), "")
	switch {
	case err != nil:
		return "is not a well-formed glob: * and ? match in one name, ** across folders, [a-z] one character."
	case strings.HasPrefix(glob, "!"):
		return "can't be used: a glob can't take back another one. Name only what is to be left out."
	case slices.Contains(strings.Split(glob, "/"), ".."):
		return "can't be used: globs are matched inside the folder, without .. in them."
	}
	return ""
}

// upload is one copy into a VM.
type upload struct {
	in    cpToVMInput
	vm    slicer.SlicerNode
	entry *hostEntry
	meter *meter
	hash  hash.Hash // of a single file

	vmPath   string
	files    fs.FS
	name     string // in files
	mode     string // of the API: binary or tar
	uid, gid uint32
	exclude  []string
	ignored  int // how many of them come from a .slicerignore
}

func newUpload(entry *hostEntry, in cpToVMInput) (*upload, error) {
	u := &upload{in: in, entry: entry, meter: &meter{}, exclude: in.Exclude}
	if entry.dir == nil {
		if len(in.Exclude) > 0 {
			return nil, refuse("exclude is for folders, and host_path %s is a file. Leave it out.", quote(in.HostPath))
		}
		if strings.HasSuffix(in.VMPath, "/") {
			u.in.VMPath = path.Join(in.VMPath, entry.name)
		}
		if in.Mode == "" {
			u.in.Mode = fmt.Sprintf("%04o", entry.info.Mode().Perm())
		}
		u.mode, u.vmPath = "binary", u.in.VMPath
		u.begin(entry.name)
		return u, nil
	}
	globs, err := readIgnoreFile(entry)
	if err != nil {
		return nil, err
	}
	u.ignored = len(globs)
	u.exclude = slices.Concat(in.Exclude, globs)
	u.files = folderFS{dir: entry.dir, meter: u.meter}
	u.name, u.mode, u.vmPath = ".", "tar", in.VMPath
	return u, nil
}

// begin makes the copy of a file start anew, as one of a file called name.
func (u *upload) begin(name string) {
	u.meter.mu.Lock()
	u.meter.total = tally{files: 1}
	u.meter.mu.Unlock()
	u.name, u.hash = name, sha256.New()
	u.files = fileFS{entry: u.entry, name: name, meter: u.meter, hash: u.hash}
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

func (u *upload) sofar() tally { return u.meter.sofar() }

// run copies to the end.
func (u *upload) run(ctx context.Context, t *Toolset) (copiedRecord, error) {
	rec := copiedRecord{VM: u.vm.Hostname, HostPath: u.in.HostPath, VMPath: u.in.VMPath, Ignored: u.ignored, Name: tagValue(u.vm, tagName)}
	err := u.send(ctx, t.client)
	if isMissing(err) && u.intoFolder() {
		rec.MadeFolder = u.vmPath
		err = u.send(ctx, t.client)
	}
	sent := u.sofar()
	if err != nil {
		return rec, t.copyFailed(ctx, err, u.vm, u.in, sent)
	}
	rec.Files, rec.Bytes, rec.Symlinks, rec.Skipped = sent.files, sent.bytes, sent.symlinks, sent.skipped
	if u.entry.dir == nil {
		rec.SHA256 = hex.EncodeToString(u.hash.Sum(nil))
		return rec, nil
	}
	rec.Folder, rec.SHA256 = true, u.meter.digest.sum()
	return rec, nil
}

func (u *upload) send(ctx context.Context, client *slicer.SlicerClient) error {
	return client.CpFSToVM(ctx, u.vm.Hostname, u.files, u.name, u.vmPath, u.uid, u.gid, u.in.Mode, u.mode, u.exclude...)
}

// isMissing says whether err is the daemon's word that a path isn't there, and
// not one about a host file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) && errors.As(err, new(*slicer.APIError))
}

// copyFailed says why a copy into a VM broke off.
func (t *Toolset) copyFailed(ctx context.Context, err error, vm slicer.SlicerNode, in cpToVMInput, sent tally) error {
	var local *fs.PathError
	refused := errors.As(err, new(*slicer.APIError))
	name, machine := quote(in.VMPath), quote(handle(vm))
	read := fmt.Sprintf("%s (%s) had been read, and what has arrived stays in the VM.", count(int64(sent.files), "file"), size(sent.bytes))
	switch {
	case errors.Is(err, slicer.ErrBadPattern):
		return refuse("exclude can't be used: %s. * and ? match in one name, ** across folders, [a-z] one character; no glob takes another back.", innermost(err))
	case errors.Is(err, errManyFiles):
		return refuse("the copy was given up: the folder has %s than one copy takes, which is %s. %s Leave out what isn't needed with exclude or %s, or copy subfolders one by one.",
			"more files and folders, or longer names,", thousands(mostCopied), read, ignoreFile)
	case errors.Is(err, slicer.ErrIsDirectory):
		return refuse("vm_path %s is a folder in VM %s. Give the file's own path there, such as %s.",
			name, machine, quote(path.Join(in.VMPath, filepath.Base(in.HostPath))))
	case isMissing(err):
		folder := path.Dir(path.Clean(in.VMPath))
		return refuse("vm_path %s can't be made in VM %s%s: its folder isn't there, or takes nothing new. Make it with exec(vm=%s, user=%q, command=%s) and retry, or use another path.",
			name, machine, saidIn(err), machine, "root", quote("mkdir -p -- "+shellWord(folder)))
	case refused:
	case ctx.Err() != nil:
		return refuse("the copy was ended before it was done; %s", read)
	case errors.As(err, &local):
		return refuse("the copy was given up: %s in %s could not be read (%s). What has arrived stays in the VM. Leave that file out with exclude, or retry when nothing changes it.",
			quote(local.Path), quote(in.HostPath), innermost(local.Err))
	}
	uid, _, _ := parseUser(in.User) // a name is somebody else than root
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: in.VMPath, instead: otherUser(uid),
		brokeOff: fmt.Sprintf("the connection to the daemon broke during the copy; %s Call list_vms to see the VM's status, then retry.", read),
	})
}
