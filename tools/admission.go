package tools

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// defaultMaxVMs is how many VMs an owner may have where nothing else is said.
const defaultMaxVMs = 20

// admission lets calls of create_vm begin while there are fewer VMs than the
// limit. Another server of the same owner counts by itself.
type admission struct {
	turn chan struct{} // holds one token while a call is being decided on

	mu     sync.Mutex
	making map[string]bool // creation tags of the VMs that are being made
}

// admit refuses a VM beyond the limit. Else done is called when the daemon has
// made it, or hasn't.
func (t *Toolset) admit(ctx context.Context, creation string) (done func(), err error) {
	a := &t.admission
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	making := a.pending() // before the list, so that none is missing in both
	vms, err := t.client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: tagOwner + t.owner})
	if err != nil {
		return nil, err
	}
	vms = slices.DeleteFunc(vms, func(vm slicer.SlicerNode) bool {
		// A daemon that doesn't know the query lists everybody's.
		return !t.owned(vm) || making[tagCreation+tagValue(vm, tagCreation)]
	})
	if len(vms)+len(making) >= t.maxVMs {
		return nil, t.tooMany(vms, len(making))
	}
	a.mark(creation, true)
	return func() { a.mark(creation, false) }, nil
}

func (a *admission) pending() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.making)
}

func (a *admission) mark(creation string, making bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !making {
		delete(a.making, creation)
		return
	}
	if a.making == nil {
		a.making = make(map[string]bool)
	}
	a.making[creation] = true
}

func (t *Toolset) tooMany(vms []slicer.SlicerNode, making int) error {
	limit := count(int64(t.maxVMs), "VM")
	beside := ""
	if making > 0 {
		beside = fmt.Sprintf(", and is making %d more", making)
	}
	if len(vms) == 0 {
		return refuse("no VM was created: the limit of this server is %s%s. Wait for list_vms to show them.", limit, beside)
	}
	return refuse("no VM was created: the limit of this server is %s, and it owns %s%s. Use one of them, or delete one that isn't needed, such as delete_vm(vm=%s), then retry. If all are needed, the user can raise the limit.",
		limit, namesOf(vms), beside, quote(handle(vms[0])))
}
