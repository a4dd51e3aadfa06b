package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// askTime is kept of a call that may go wrong, for asking the daemon what
	// has become of the VM.
	askTime = 2 * time.Second

	// settleTime is how long a daemon has to notice that a VM has ended.
	settleTime = 200 * time.Millisecond
)

// standing is how a VM stands, where that explains why a call on it went wrong.
type standing struct {
	// text says it, with the next step. It is empty when the VM runs, and when
	// nothing can be found out.
	text string

	gone bool // the VM is not there any more, or about to go

	// still is the status of a VM that stands still with all that runs in it,
	// paused or suspended, or "".
	still string
}

// standingOf asks the daemon how vm stands.
func (t *Toolset) standingOf(ctx context.Context, vm slicer.SlicerNode) standing {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	vms, err := t.client.ListVMs(ctx)
	if err != nil {
		return standing{}
	}
	i := slices.IndexFunc(vms, func(other slicer.SlicerNode) bool { return other.Hostname == vm.Hostname })
	if i < 0 {
		return standing{gone: true, text: t.goneText(vm)}
	}
	return t.standsAs(vms[i])
}

// standsAs is the standing of a VM as the daemon lists it.
func (t *Toolset) standsAs(vm slicer.SlicerNode) standing {
	switch status := strings.ToLower(vm.Status); {
	case status == statusStopped && !vm.Persistent:
		return standing{gone: true, text: t.goneText(vm)}
	case status == statusPaused, status == statusSuspended:
		return standing{text: wakeText(handle(vm), status), still: status}
	case status == statusStopped:
		return standing{text: wakeText(handle(vm), status)}
	}
	return standing{}
}

// The statuses of a VM that doesn't run, in lower case.
const (
	statusPaused    = "paused"
	statusSuspended = "suspended"
	statusStopped   = "stopped"
)

// wakingTool is the tool that brings back a VM that is paused, suspended or
// stopped, or "". No call does so by itself.
func wakingTool(status string) string {
	switch status {
	case statusPaused:
		return "resume"
	case statusSuspended:
		return "restore"
	case statusStopped:
		return "relaunch"
	}
	return ""
}

// wakeText says that a VM doesn't run and what brings it back.
func wakeText(vm, status string) string {
	return fmt.Sprintf("VM %s is %s. Call %s(vm=%s) first, then retry.", quote(vm), status, wakingTool(status), quote(vm))
}

// standingAfter is standingOf for a call whose VM may have ended a moment ago:
// a VM that seems to run is asked for again.
func (t *Toolset) standingAfter(ctx context.Context, vm slicer.SlicerNode) standing {
	s := t.standingOf(ctx, vm)
	if s != (standing{}) {
		return s
	}
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		return t.standingOf(ctx, vm)
	case <-ctx.Done():
		return standing{}
	}
}

// goneText says that a VM is gone, and why and when where this server knows.
func (t *Toolset) goneText(vm slicer.SlicerNode) string {
	how := "it was deleted or has ended"
	if seen, ok := t.sightings.find(vm.Hostname); ok && seen.ended() {
		how = seen.String()
	}
	return fmt.Sprintf("VM %s is gone: %s, with all that was in it. Call list_vms to see what is there, or create_vm for a new one.", quote(handle(vm)), how)
}
