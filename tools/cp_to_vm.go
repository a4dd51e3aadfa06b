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
	Description: "Copy a host file or folder into a microVM, straight from disk. A folder's contents go into vm_path, which is made if missing; files there of the same name are replaced. Symlinks and special files are skipped.",
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
	VM      string  `json:"vm"`
	VMPath  string  `json:"vm_path"`
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Skipped int     `json:"skipped,omitempty"` // symlinks and special files
	Seconds float64 `json:"seconds"`
	SHA256  string  `json:"sha256,omitempty"` // of a single file
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

	var files fs.FS
	var read *meter
	name, permissions, mode := ".", "", "tar"
	if entry.dir != nil {
		read = &meter{}
		files = folderFS{dir: entry.dir, meter: read}
	} else {
		read = &meter{hash: sha256.New(), total: tally{files: 1}}
		files = fileFS{entry: entry, meter: read}
		name, permissions, mode = entry.name, fmt.Sprintf("%04o", entry.info.Mode().Perm()), "binary"
	}
	err = t.client.CpFSToVM(ctx, vm.Hostname, files, name, in.VMPath, uid, gid, permissions, mode, in.Exclude...)
	sent := read.sent()
	if err != nil {
		return Result{}, copyFailed(err, vm, in, sent, time.Since(began))
	}
	rec := copiedRecord{
		VM: vm.Hostname, VMPath: in.VMPath, Files: sent.files, Bytes: sent.bytes, Skipped: sent.skipped,
		Seconds: roundedSeconds(time.Since(began)),
	}
	if entry.dir == nil {
		rec.SHA256 = hex.EncodeToString(read.sum())
	}
	text := fmt.Sprintf("Copied %s, %s, in %s to %s in %s.", count(int64(rec.Files), "file"), size(rec.Bytes),
		seconds(time.Since(began)), quote(rec.VMPath), label(vm.Hostname, tagValue(vm, tagName)))
	if rec.Skipped > 0 {
		text += fmt.Sprintf(" Skipped %s.", count(int64(rec.Skipped), "symlink or special file"))
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

// copyFailed says why a copy broke off.
func copyFailed(err error, vm slicer.SlicerNode, in cpToVMInput, sent tally, took time.Duration) error {
	var api *slicer.APIError
	var local *fs.PathError
	switch {
	case errors.Is(err, slicer.ErrIsDirectory):
		return refuse("vm_path %s is a folder in VM %s. Give the file's own path there, such as %s.",
			quote(in.VMPath), quote(handle(vm)), quote(path.Join(in.VMPath, filepath.Base(in.HostPath))))
	case errors.As(err, &api):
	case errors.Is(err, context.DeadlineExceeded):
		return refuse("the copy was not done after %s and was given up; %s (%s) had been read, and what has arrived stays in the VM. Leave out what isn't needed with exclude, or copy subfolders one by one.",
			seconds(took), count(int64(sent.files), "file"), size(sent.bytes))
	case errors.As(err, &local):
		return refuse("the copy was given up: %s in %s could not be read (%s). What has arrived stays in the VM. Leave that file out with exclude, or retry when nothing changes it.",
			quote(local.Path), quote(in.HostPath), innermost(local.Err))
	}
	return onVM(handle(vm), err)
}
