package tools

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// processArgument is embedded by the inputs of tools that work on one process.
type processArgument struct {
	Process string `json:"process" jsonschema:"required,minLength=1,maxLength=64" jsonschema_description:"Handle such as ex_…"`
	vmArgument
}

// findProcess finds a process and the VM that it runs in: the VM that is named,
// else whichever of this server's VMs has it.
func (t *Toolset) findProcess(ctx context.Context, in processArgument) (processAnswer, error) {
	a := processAnswer{named: in.VM != "", earlier: true}
	if !processHandle(in.Process) {
		return a, refuse("process %s is no handle of a process: it is like ex_… or px_…. Call list_processes to see which there are.", quote(in.Process))
	}
	if strings.HasPrefix(in.Process, localPrefix) {
		p := t.locals.find(in.Process)
		if p == nil {
			return a, refuse("this server has no process %s: it ended and was forgotten, or it ended with the server that ran it. Call list_processes to see which there are.", quote(in.Process))
		}
		a.process = p
		vm, err := t.resolve(ctx, p.vm)
		if err != nil {
			vm = slicer.SlicerNode{Hostname: p.vm} // what it wrote can be read still
		}
		a.vm = vm
		return a, nil
	}
	vms, err := t.candidates(ctx, in.VM)
	if err != nil {
		return a, err
	}
	var last error
	var missed slicer.SlicerNode // whose error last is
	for _, vm := range vms {
		a.vm = vm
		if strings.EqualFold(vm.Status, statusStopped) {
			continue // its processes ended with it
		}
		p := &remote{client: t.client, vm: vm.Hostname, execID: in.Process}
		_, err := p.info(ctx)
		if err == nil {
			a.process, a.vm = p, vm
			return a, nil
		}
		if !slicer.IsAPIStatus(err, http.StatusNotFound) || last == nil {
			last, missed = err, vm
		}
	}
	if last == nil {
		return a, refuse("no process %s: VM %s is stopped, and its processes ended with it. Their output is gone; relaunch(vm=%s) starts the VM again.", quote(in.Process), quote(handle(a.vm)), quote(handle(a.vm)))
	}
	return a, t.noProcess(last, in, missed, len(vms))
}

// candidates are the VMs that a process may be in.
func (t *Toolset) candidates(ctx context.Context, arg string) ([]slicer.SlicerNode, error) {
	if arg != "" {
		vm, err := t.resolve(ctx, arg)
		return []slicer.SlicerNode{vm}, err
	}
	vms, err := t.client.ListVMs(ctx)
	if err != nil {
		return nil, err
	}
	var mine []slicer.SlicerNode
	for _, vm := range vms {
		if t.owned(vm) {
			mine = append(mine, vm)
		}
	}
	if len(mine) == 0 {
		_, err := t.onlyOwned(vms)
		return nil, err
	}
	return mine, nil
}

func (t *Toolset) noProcess(err error, in processArgument, vm slicer.SlicerNode, looked int) error {
	var api *slicer.APIError
	if !errors.As(err, &api) {
		return err
	}
	name := quote(handle(vm))
	switch api.StatusCode {
	case http.StatusGone:
		return refuse("process %s has ended and its output is no longer kept. Run the command again with exec(vm=%s, command=…) if you need it.", quote(in.Process), name)
	case http.StatusNotFound:
		where := "VM " + name
		if looked > 1 {
			where = fmt.Sprintf("any of the %d VMs that this server owns", looked)
		}
		return refuse("no process %s in %s. Processes end with their VM. Call list_processes to see which there are.", quote(in.Process), where)
	}
	return onVM(handle(vm), err)
}

// processHandle says whether s has the form of a handle.
func processHandle(s string) bool {
	if !strings.HasPrefix(s, "ex_") && !strings.HasPrefix(s, localPrefix) {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}
