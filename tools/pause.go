package tools

import (
	"context"
	"fmt"
)

var _ = define(Tool{
	Name:        "pause",
	Title:       "Pause a microVM",
	Description: "Pause a microVM: its processes stand still and use no CPU, memory and disk stay. Until resume, exec, read_file and cp_to_vm on it are refused.",
	Toolset:     toolsetVMs,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).pause)

type pauseInput struct{ vmArgument }

// stateRecord is the answer of the tools that change a VM's state.
type stateRecord struct {
	VM     string `json:"vm"`
	Name   string `json:"name,omitempty"`
	Status string `json:"status"`
	Next   string `json:"next"`
}

func (r stateRecord) result() Result {
	return Result{Text: fmt.Sprintf("%s is %s. %s", label(r.VM, r.Name), r.Status, r.Next), Record: r}
}

func (t *Toolset) pause(ctx context.Context, in pauseInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	if err := t.client.PauseVM(ctx, vm.Hostname); err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	return stateRecord{
		VM: vm.Hostname, Name: tagValue(vm, tagName), Status: "paused",
		Next: fmt.Sprintf("Call resume(vm=%s) before using it again.", quote(handle(vm))),
	}.result(), nil
}
