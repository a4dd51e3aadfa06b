package tools

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "remove_file",
	Title:       "Remove a file",
	Description: "Remove a file, symlink or folder in a microVM for good.",
	Toolset:     toolsetFiles,
	Effect:      Destroys,
}, (*Toolset).removeFile)

type removeFileInput struct {
	Path string `json:"path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Path in the VM"`
	vmArgument
	Recursive bool `json:"recursive,omitempty" jsonschema:"default=false" jsonschema_description:"A folder with all that is in it"`
}

// removedRecord is remove_file's answer.
type removedRecord struct {
	VM      string `json:"vm"`
	Name    string `json:"name,omitempty"`
	Path    string `json:"path"`
	Type    string `json:"type"`              // file, directory or symlink
	Entries *int   `json:"entries,omitempty"` // of a folder, on its first level; nil is unknown
	Bytes   *int64 `json:"bytes,omitempty"`   // of a file
}

// protectedFolders are those without which a VM doesn't run, or has lost what
// its user has: nobody means to remove one.
func protectedFolders() []string {
	return strings.Fields(`/ /bin /boot /dev /etc /home /home/ubuntu /lib /lib32 /lib64 /media /mnt /opt /proc /root /run
		/sbin /snap /srv /sys /tmp /usr /usr/bin /usr/lib /usr/local /usr/sbin /usr/share /var /var/lib`)
}

func (t *Toolset) removeFile(ctx context.Context, in removeFileInput) (Result, error) {
	if err := checkVMPath("path", in.Path); err != nil {
		return Result{}, err
	}
	if slices.Contains(protectedFolders(), plainPath(in.Path)) {
		return Result{}, refuse("%s is not removed: the VM, or all work in it, hangs on it. Name what is in it one by one; to be rid of everything, delete_vm removes the VM.", quote(in.Path))
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	rec, err := t.toRemove(limited, vm, in)
	if err != nil {
		return Result{}, t.removeFailed(ctx, err, vm, in.Path)
	}
	if in.Recursive && rec.Type == "directory" {
		err = t.client.RemoveAll(limited, vm.Hostname, in.Path)
	} else {
		err = t.client.Remove(limited, vm.Hostname, in.Path)
	}
	if err != nil {
		return Result{}, t.removeFailed(ctx, err, vm, in.Path)
	}
	text := fmt.Sprintf("Removed %s in %s: %s.", quote(in.Path), label(rec.VM, rec.Name), rec.what())
	return Result{Text: text, Record: rec}, nil
}

// what says what was removed.
func (r removedRecord) what() string {
	switch {
	case r.Type == "directory" && r.Entries == nil:
		return "a folder with all below"
	case r.Type == "directory" && *r.Entries > 0:
		return fmt.Sprintf("a folder with %s and all below", entries(*r.Entries))
	case r.Type == "directory":
		return "an empty folder, of 0 entries"
	case r.Type == "file" && r.Bytes != nil:
		return "a file of " + count(*r.Bytes, "byte")
	}
	return "a " + r.Type
}

// toRemove describes what is at the path, and refuses a folder that isn't to be
// removed with what is in it. It is asked for before, as not every daemon may
// refuse that.
func (t *Toolset) toRemove(ctx context.Context, vm slicer.SlicerNode, in removeFileInput) (removedRecord, error) {
	rec := removedRecord{VM: vm.Hostname, Name: tagValue(vm, tagName), Path: in.Path}
	info, err := t.client.Stat(ctx, vm.Hostname, in.Path)
	if err != nil && !aboutOnePath(err) {
		return rec, err
	}
	if t.isSymlink(ctx, vm, in.Path) { // also one that leads nowhere, or in a circle
		rec.Type = "symlink"
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	rec.Type = oneLine(info.Type, 32)
	if !info.IsDir() {
		rec.Bytes = new(info.Size)
		return rec, nil
	}
	list, err := t.client.ReadDir(ctx, vm.Hostname, in.Path)
	if err != nil && in.Recursive && aboutOnePath(err) {
		return rec, nil // it may have more than a daemon lists
	}
	if err != nil {
		return rec, err
	}
	rec.Entries = new(len(list))
	if len(list) > 0 && !in.Recursive {
		name, machine := quote(in.Path), quote(handle(vm))
		return rec, refuse("%s in VM %s is a folder with %s: list_files(vm=%s, path=%s) shows them. remove_file(vm=%s, path=%s, recursive=true) removes it with all that is in it.",
			name, machine, entries(len(list)), machine, name, machine, name)
	}
	return rec, nil
}

// entries counts what is in a folder.
func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return thousands(int64(n)) + " entries"
}

// removeFailed says why something was not removed.
func (t *Toolset) removeFailed(ctx context.Context, err error, vm slicer.SlicerNode, p string) error {
	name, machine := quote(p), quote(handle(vm))
	var told *refusal
	switch {
	case errors.As(err, &told):
		return err
	case isMissing(err):
		// A file of the host is of no interest to who wants it away.
		return refuse("VM %s has no %s: there is nothing to remove. List the folder above it with list_files(vm=%s, path=%s) if it should be there.", machine, name, machine, quote(folderOf(p)))
	case errors.Is(err, context.DeadlineExceeded):
		if s := t.standingOf(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("removing %s in VM %s was not done in time; a part of it may be gone. Retry, or remove it with exec(vm=%s, user=%q, command=%s).", name, machine, machine, "root", quote("rm -rf -- "+shellWord(p)))
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: p,
		instead:  fmt.Sprintf("Remove it with exec(vm=%s, user=%q, command=%s), or leave it.", machine, "root", quote("rm -r -- "+shellWord(p))),
		brokeOff: fmt.Sprintf("the connection to the daemon broke while %s in VM %s was removed; a part of it may be gone. Call list_vms to see the VM's status, then retry.", name, machine),
	})
}
