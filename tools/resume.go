package tools

import (
	"context"
	"fmt"
)

var _ = define(Tool{
	Name:        "resume",
	Title:       "Resume a microVM",
	Description: "Resume a paused microVM: its processes go on where they stood.",
	Toolset:     toolsetVMs,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).resume)

type resumeInput struct{ vmArgument }

func (t *Toolset) resume(ctx context.Context, in resumeInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	if err := t.client.ResumeVM(ctx, vm.Hostname); err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	return stateRecord{
		VM: vm.Hostname, Name: tagValue(vm, tagName), Status: "running",
		Next: fmt.Sprintf("Use exec(vm=%s, command=…).", quote(handle(vm))),
	}.result(), nil
}
