package tools

import (
	"context"
	"fmt"
)

var _ = define(Tool{
	Name:        "pause",
	Title:       "Pause a microVM",
	Description: "Pause a microVM: its processes stand still in memory until resume.",
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
	Note   string `json:"note,omitempty"`
	Next   string `json:"next"`
}

func (r stateRecord) result() Result {
	r.VM, r.Name = oneLine(r.VM, 253), oneLine(r.Name, 64)
	text := fmt.Sprintf("%s is %s.", label(r.VM, r.Name), r.Status)
	for _, s := range []string{r.Note, r.Next} {
		if s != "" {
			text += " " + s
		}
	}
	return Result{Text: text, Record: r}
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
		VM: vm.Hostname, Name: tagValue(vm, tagName), Status: statusPaused,
		Next: fmt.Sprintf("Call resume(vm=%s) before using it again.", quote(handle(vm))),
	}.result(), nil
}
