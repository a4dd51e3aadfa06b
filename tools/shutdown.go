package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "shutdown",
	Title:       "Shut down a microVM",
	Description: "Shut down or reboot a microVM that you own. Unless persistent it is gone then, with its disk; else relaunch starts it.",
	Toolset:     toolsetVMs,
	Effect:      Destroys,
}, (*Toolset).shutdown)

type shutdownInput struct {
	VM     string `json:"vm" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"VM name"`
	Action string `json:"action,omitempty" jsonschema:"maxLength=8,enum=shutdown,enum=reboot,default=shutdown" jsonschema_description:"Reboot may end it as well"`
}

// endTime is how long a VM that was shut down is watched for its end, and
// endPause how long between two looks.
const (
	endTime  = 3 * time.Second
	endPause = 100 * time.Millisecond
)

func (t *Toolset) shutdown(ctx context.Context, in shutdownInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	if err := t.mayDestroy(vm, "shut down"); err != nil {
		return Result{}, err
	}
	if err := t.client.Shutdown(ctx, vm.Hostname, &slicer.SlicerShutdownRequest{Action: in.Action}); err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	rec := stateRecord{VM: vm.Hostname, Name: tagValue(vm, tagName)}
	status := t.awaitShutdown(ctx, vm)
	name := quote(handle(vm))
	switch {
	case status == "":
		t.sightings.lost(vm, "shutdown ended it")
		rec.Status, rec.Next = "gone with its disk", "Call create_vm for a new one."
	case status == statusStopped:
		rec.Status, rec.Next = statusStopped, fmt.Sprintf("Its disk stays. Call relaunch(vm=%s) to start it again, delete_vm(vm=%s) to remove it.", name, name)
	case in.Action == "reboot":
		rec.Status, rec.Next = "rebooting", fmt.Sprintf("Call get_vm(vm=%s) to see when it is back.", name)
	default:
		rec.Status = "shutting down"
		rec.Note = fmt.Sprintf("It is listed as %s still: it may take a while, and some daemons don't notice that a guest has powered off.", oneLine(status, 32))
		rec.Next = fmt.Sprintf("Call get_vm(vm=%s) later; if it stays so, delete_vm(vm=%s), or shutdown with action=\"reboot\" for a persistent one.", name, name)
	}
	return rec.result(), nil
}

// awaitShutdown watches a VM until it has ended, for a little. It returns its status
// in lower case, "" if it is gone.
func (t *Toolset) awaitShutdown(ctx context.Context, vm slicer.SlicerNode) string {
	ctx, cancel := context.WithTimeout(ctx, min(endTime, t.within(killTime)))
	defer cancel()
	status := orElse(strings.ToLower(vm.Status), "unknown")
	for {
		vms, err := t.client.ListVMs(ctx)
		if err == nil {
			status = statusIn(vms, vm.Hostname)
		}
		// A daemon may list an ephemeral VM as stopped while it removes it.
		if status == "" || status == statusStopped && vm.Persistent {
			return status
		}
		timer := time.NewTimer(endPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return status
		}
	}
}

// statusIn is the status of a VM in a list, in lower case, or "".
func statusIn(vms []slicer.SlicerNode, hostname string) string {
	for _, vm := range vms {
		if vm.Hostname == hostname {
			return orElse(strings.ToLower(vm.Status), "unknown")
		}
	}
	return ""
}
