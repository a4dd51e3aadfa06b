package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "edit_file",
	Title:       "Edit a file",
	Description: "Edit a text file in a microVM: replace exact strings, in order, all or none. The answer is a diff.",
	Toolset:     toolsetFiles,
	Effect:      Changes,
}, (*Toolset).editFile)

type editFileInput struct {
	FilePath string `json:"file_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Text file in the VM, 1 MiB at most"`
	Edits    []edit `json:"edits" jsonschema:"required,minItems=1,maxItems=100" jsonschema_description:"In order"`
	vmArgument
}

// largestEdit bounds a file that is edited, in bytes.
const largestEdit = 1 << 20

func (t *Toolset) editFile(ctx context.Context, in editFileInput) (Result, error) {
	if err := checkVMPath("file_path", in.FilePath); err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	vm, err := t.resolve(limited, in.VM)
	if err != nil {
		return Result{}, err
	}
	there, err := t.beforeWrite(limited, vm, in.FilePath)
	if err != nil {
		return Result{}, t.editFailed(ctx, err, vm, in.FilePath)
	}
	if there == nil {
		return Result{}, t.notThere(vm, in.FilePath)
	}
	old, err := t.textToEdit(limited, vm, in.FilePath)
	if err != nil {
		return Result{}, t.editFailed(ctx, err, vm, in.FilePath)
	}
	text := newRevision(old)
	replaced := 0
	for i, e := range in.Edits {
		n, err := text.apply(fmt.Sprintf("edits[%d]", i), e)
		if err != nil {
			return Result{}, err
		}
		replaced += n
	}
	if text.text == old {
		return Result{}, refuse("the edits cancel each other out: %s in VM %s stays as it is.", quote(in.FilePath), quote(handle(vm)))
	}
	if err := t.unchanged(limited, vm, in.FilePath, there); err != nil {
		return Result{}, t.editFailed(ctx, err, vm, in.FilePath)
	}
	// Without ids the daemon leaves the file its owner.
	w := fileWrite{
		vm: vm, path: in.FilePath, data: []byte(text.text), mode: fmt.Sprintf("%04o", there.FileMode().Perm()),
		uid: slicer.NonRootUser, gid: slicer.NonRootUser,
	}
	if err := w.send(limited, t.client); err != nil {
		return Result{}, t.writeFailed(ctx, err, w, false)
	}
	answer := fmt.Sprintf("Edited %s in %s: %s, now %s and %s", quote(in.FilePath), label(vm.Hostname, tagValue(vm, tagName)),
		count(int64(replaced), "replacement"), count(lineCount(w.data), "line"), count(int64(len(w.data)), "byte"))
	if text.crlf {
		answer += ", CRLF"
	}
	return Result{Text: answer + ", SHA-256 " + w.sum() + ".\n" + text.diff(old)}, nil
}

// textToEdit reads a file whole, and refuses one that isn't for editing.
func (t *Toolset) textToEdit(ctx context.Context, vm slicer.SlicerNode, p string) (string, error) {
	file, err := t.client.OpenFile(ctx, vm.Hostname, p)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, largestEdit+1))
	if err != nil {
		return "", err
	}
	name, machine := quote(p), quote(handle(vm))
	if len(data) > largestEdit {
		return "", refuse("%s in VM %s has more than %s, which is the most that edit_file takes. Use exec with sed, or a script.", name, machine, count(largestEdit, "byte"))
	}
	start := data[:min(len(data), sniffed)]
	if bytes.IndexByte(data, 0) >= 0 || isBinary(start, http.DetectContentType(start)) {
		return "", refuse("%s in VM %s is binary, so it has no text to edit. Replace it whole with cp_to_vm, or change it with exec.", name, machine)
	}
	return string(data), nil
}

// unchanged refuses a file that is no longer what it was, as far as its size
// and time tell; a change in the moment between this and the writing is not
// seen.
func (t *Toolset) unchanged(ctx context.Context, vm slicer.SlicerNode, p string, was *slicer.SlicerFSInfo) error {
	now, err := t.client.Stat(ctx, vm.Hostname, p)
	if err != nil {
		return err
	}
	if now.Size == was.Size && now.ModTime.Equal(was.ModTime) {
		return nil
	}
	return refuse("%s in VM %s was changed by something else while it was edited. Nothing was written. Read it again with read_file(vm=%s, file_path=%s), then retry.",
		quote(p), quote(handle(vm)), quote(handle(vm)), quote(p))
}

// editFailed says why a file was not edited, before anything was written.
func (t *Toolset) editFailed(ctx context.Context, err error, vm slicer.SlicerNode, p string) error {
	name, machine := quote(p), quote(handle(vm))
	var told *refusal
	switch {
	case errors.As(err, &told):
		return err
	case isMissing(err):
		return t.notThere(vm, p)
	case errors.Is(err, context.DeadlineExceeded):
		if s := t.standingOf(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("%s in VM %s was not read in time; nothing was written. Retry, or use exec.", name, machine)
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: p, instead: otherUser(0),
		brokeOff: fmt.Sprintf("the connection to the daemon broke while %s in VM %s was read; nothing was written. Call list_vms to see the VM's status, then retry.", name, machine),
	})
}
