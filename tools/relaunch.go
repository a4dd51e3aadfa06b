package tools

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "relaunch",
	Title:       "Relaunch a microVM",
	Description: "Relaunch a stopped persistent microVM with the disk that it had. Waits for its agent.",
	Toolset:     toolsetVMs,
	Effect:      Changes,
	Idempotent:  true,
}, (*Toolset).relaunch)

type relaunchInput struct{ vmArgument }

func (t *Toolset) relaunch(ctx context.Context, in relaunchInput) (Result, error) {
	began := time.Now()
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	_, err = t.client.RelaunchVM(ctx, vm.Hostname)
	if slicer.IsAPIStatus(err, http.StatusConflict) {
		// What isn't stopped either runs or stands still.
		s := t.standingOf(ctx, vm)
		if s.text != "" {
			return Result{}, &refusal{text: s.text}
		}
		return stateRecord{
			VM: vm.Hostname, Name: tagValue(vm, tagName), Status: "running", Note: "It ran already, so nothing was done.",
			Next: fmt.Sprintf("Use exec(vm=%s, command=…).", quote(handle(vm))),
		}.result(), nil
	}
	if err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	return t.backUp(ctx, vm, began)
}

// backUp is the answer about a VM that was brought back, once its agent answers
// or the call's time is over.
func (t *Toolset) backUp(ctx context.Context, vm slicer.SlicerNode, began time.Time) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, t.within(killTime)-time.Since(began))
	defer cancel()
	ready, err := t.awaitReady(limited, vm, false, began)
	if err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	return stateRecord{
		VM: vm.Hostname, Name: tagValue(vm, tagName), Status: strings.ToLower(ready.status()),
		Note: ready.note(vm), Next: ready.next(vm),
	}.result(), nil
}
