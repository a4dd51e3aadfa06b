package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// vmArgument is embedded by the inputs of tools that work on one VM.
type vmArgument struct {
	VM string `json:"vm,omitempty" jsonschema:"maxLength=253" jsonschema_description:"Default: your only VM"`
}

// resolve finds the VM that arg means: the one with that hostname, else the
// one with the tag name=arg. An empty arg means the one VM that this server
// owns. The error lists what there is and says what to call.
func (t *Toolset) resolve(ctx context.Context, arg string) (slicer.SlicerNode, error) {
	vms, err := t.client.ListVMs(ctx)
	if err != nil {
		return slicer.SlicerNode{}, err
	}
	t.sightings.saw(vms)
	if arg == "" {
		return t.onlyOwned(vms)
	}
	for _, vm := range vms {
		if vm.Hostname == arg {
			return vm, nil
		}
	}
	for _, vm := range vms {
		if slices.Contains(vm.Tags, tagName+arg) {
			return vm, nil
		}
	}
	return slicer.SlicerNode{}, t.noSuchVM(arg, vms)
}

func (t *Toolset) onlyOwned(vms []slicer.SlicerNode) (slicer.SlicerNode, error) {
	var mine []slicer.SlicerNode
	for _, vm := range vms {
		if t.owned(vm) {
			mine = append(mine, vm)
		}
	}
	switch {
	case len(mine) == 1:
		return mine[0], nil
	case len(mine) > 1:
		return slicer.SlicerNode{}, refuse("vm was left out, but this server owns %d VMs: %s. Say which: vm=%s.",
			len(mine), namesOf(mine), quote(handle(mine[0])))
	case len(vms) > 0:
		return slicer.SlicerNode{}, refuse("vm was left out, but this server owns no VM. Call create_vm first, and wait for its answer. (There are others, not made by this server, that vm can name: %s.)", namesOf(vms))
	}
	return slicer.SlicerNode{}, refuse("there is no VM yet. Call create_vm first, and wait for its answer.")
}

func (t *Toolset) noSuchVM(arg string, vms []slicer.SlicerNode) error {
	if seen, ok := t.sightings.find(arg); ok {
		there := "There is no VM now."
		if len(vms) > 0 {
			there = "There is: " + namesOf(vms) + "."
		}
		return refuse("no VM named %s any more: it is gone: %s, with all that was in it. %s Call create_vm for a new one, or list_vms to see what is there.", quote(arg), seen, there)
	}
	if len(vms) == 0 {
		return refuse("no VM named %s: there is no VM at all. Call create_vm first, and wait for its answer.", quote(arg))
	}
	// What this server owns comes first, as the likelier one to be meant.
	vms = slices.Clone(vms)
	slices.SortStableFunc(vms, func(a, b slicer.SlicerNode) int {
		switch mine := t.owned(a); {
		case mine == t.owned(b):
			return 0
		case mine:
			return -1
		}
		return 1
	})
	var names []string
	for _, vm := range vms {
		names = append(names, handle(vm), vm.Hostname)
	}
	hint := ""
	if near := nearest(arg, names); near != "" {
		hint = fmt.Sprintf(" Did you mean %s?", quote(near))
	}
	return refuse("no VM named %s.%s There is: %s. It may have been deleted or have ended. Call list_vms(all=true) for the details, or create_vm for a new one.",
		quote(arg), hint, namesOf(vms))
}

// handle is what a model calls vm: its friendly name, else its hostname.
func handle(vm slicer.SlicerNode) string {
	if name := tagValue(vm, tagName); name != "" {
		return name
	}
	return vm.Hostname
}

// namesOf lists VMs for an error: hostname, and the friendly name in brackets.
func namesOf(vms []slicer.SlicerNode) string {
	const most = 20
	var names []string
	for _, vm := range vms {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(vms)-most))
			break
		}
		name := oneLine(vm.Hostname, 64)
		if friendly := tagValue(vm, tagName); friendly != "" {
			name += " (" + oneLine(friendly, 64) + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
