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

	gone   bool // the VM is not there any more, or about to go
	paused bool
}

// standingOf asks the daemon how vm stands.
func (t *Toolset) standingOf(ctx context.Context, vm slicer.SlicerNode) standing {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	vms, err := t.client.ListVMs(ctx)
	if err != nil {
		return standing{}
	}
	name := quote(handle(vm))
	i := slices.IndexFunc(vms, func(other slicer.SlicerNode) bool { return other.Hostname == vm.Hostname })
	if i < 0 {
		return standing{gone: true, text: goneText(vm)}
	}
	switch status := strings.ToLower(vms[i].Status); {
	case status == "paused":
		return standing{paused: true, text: fmt.Sprintf("VM %s is paused. Call resume(vm=%s) first, then retry.", name, name)}
	case status == "stopped" && !vms[i].Persistent:
		return standing{gone: true, text: goneText(vm)}
	case status == "stopped", status == "suspended":
		return standing{text: fmt.Sprintf("VM %s is not running, it is %s. Use another VM, or ask the user to bring it back.", name, status)}
	}
	return standing{}
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

func goneText(vm slicer.SlicerNode) string {
	return fmt.Sprintf("VM %s is gone: it was deleted or has ended, with all that was in it. Call list_vms to see what is there, or create_vm for a new one.", quote(handle(vm)))
}
