package tools

import (
	"context"
	"fmt"
	"net/http"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "suspend",
	Title:       "Suspend a microVM",
	Description: "Suspend a microVM: its processes stand still, saved to disk where the daemon can, until restore.",
	Toolset:     toolsetVMs,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).suspend)

type suspendInput struct{ vmArgument }

func (t *Toolset) suspend(ctx context.Context, in suspendInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	name := quote(handle(vm))
	if err := t.client.SuspendVM(ctx, vm.Hostname); err != nil {
		if slicer.IsAPIStatus(err, http.StatusNotImplemented) {
			return Result{}, refuse("this daemon can't suspend VMs%s. Use pause(vm=%s), which keeps the memory in use, or leave it running.", saidIn(err), name)
		}
		return Result{}, onVM(handle(vm), err)
	}
	return stateRecord{
		VM: vm.Hostname, Name: tagValue(vm, tagName), Status: statusSuspended,
		Next: fmt.Sprintf("Call restore(vm=%s) before using it again.", name),
	}.result(), nil
}
