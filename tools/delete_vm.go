package tools

import (
	"context"
	"fmt"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "delete_vm",
	Title:       "Delete a microVM",
	Description: "Delete a microVM for good, with its disk. Works only on VMs that you own. Copy out what you need first.",
	Toolset:     toolsetVMs,
	Effect:      Destroys,
}, (*Toolset).deleteVM)

type deleteVMInput struct {
	VM string `json:"vm" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"VM name"`
}

// deletedRecord is delete_vm's answer.
type deletedRecord struct {
	VM      string `json:"vm"`
	Name    string `json:"name,omitempty"`
	Deleted bool   `json:"deleted"`
	Note    string `json:"note"`
}

func (t *Toolset) deleteVM(ctx context.Context, in deleteVMInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	if err := t.mayDestroy(vm, "deleted"); err != nil {
		return Result{}, err
	}
	res, err := t.client.DeleteVM(ctx, groupOf(vm), vm.Hostname)
	if err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	t.sightings.lost(vm, "delete_vm removed it")
	rec := deletedRecord{VM: oneLine(vm.Hostname, 253), Name: oneLine(tagValue(vm, tagName), 64), Deleted: true, Note: "Its disk is gone with it; the name is free again."}
	if res != nil && res.Error != "" {
		rec.Note = fmt.Sprintf("The daemon adds: %s.", strings.TrimRight(oneLine(res.Error, 300), ". "))
	}
	return Result{Text: fmt.Sprintf("%s is deleted. %s", label(rec.VM, rec.Name), rec.Note), Record: rec}, nil
}

// mayDestroy refuses a VM that this server doesn't own. done is what would
// have been done to it.
func (t *Toolset) mayDestroy(vm slicer.SlicerNode, done string) error {
	if t.owned(vm) {
		return nil
	}
	whose := "it has no owner tag, so this server did not create it"
	if owner := tagValue(vm, tagOwner); owner != "" {
		whose = fmt.Sprintf("it belongs to owner=%s, and this server is owner=%s", oneLine(owner, 64), oneLine(t.owner, 64))
	}
	return refuse("VM %s was left alone: %s. Only VMs that this server owns can be %s; list_vms shows them. If this one has to go, ask the user.", quote(handle(vm)), whose, done)
}
