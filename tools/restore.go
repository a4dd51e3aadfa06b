package tools

import (
	"context"
	"time"
)

var _ = define(Tool{
	Name:        "restore",
	Title:       "Restore a microVM",
	Description: "Restore a suspended microVM: its processes go on where they stood. Waits for its agent.",
	Toolset:     toolsetVMs,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).restore)

type restoreInput struct{ vmArgument }

func (t *Toolset) restore(ctx context.Context, in restoreInput) (Result, error) {
	began := time.Now()
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	if err := t.client.RestoreVM(ctx, vm.Hostname); err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	return t.backUp(ctx, vm, began)
}
