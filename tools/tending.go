package tools

import (
	"context"
	"slices"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// tendEvery is how often what is over is looked for.
	tendEvery = time.Minute

	// unread is how long a process that has ended stays when nobody has read
	// it to its end.
	unread = time.Hour
)

// Tend looks after what these tools have made, until ctx ends: now and every
// minute it removes this owner's VMs whose ttl is over, and forgets the
// processes that have ended and are old. It is for one goroutine.
func (t *Toolset) Tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		t.tend(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (t *Toolset) tend(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tendEvery/2)
	defer cancel()
	vms, err := t.client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: tagOwner + t.owner})
	if err != nil {
		t.log.Debug("look after VMs", "reason", explanation(err))
		return
	}
	t.sightings.saw(vms)
	now := time.Now()
	vms = slices.DeleteFunc(vms, func(vm slicer.SlicerNode) bool {
		return !t.owned(vm) || t.mayExpire(vm, now) && t.expire(ctx, vm)
	})
	for _, vm := range vms {
		t.reap(ctx, vm)
	}
}

// OwnedVMs is how many VMs this owner has, as the daemon says now.
func (t *Toolset) OwnedVMs(ctx context.Context) (int, error) {
	vms, err := t.client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: tagOwner + t.owner})
	if err != nil {
		return 0, err
	}
	return len(slices.DeleteFunc(vms, func(vm slicer.SlicerNode) bool { return !t.owned(vm) })), nil
}

// reap forgets a VM's processes that have ended: those that were read to the
// end after readable, the others after unread.
func (t *Toolset) reap(ctx context.Context, vm slicer.SlicerNode) {
	list, err := t.client.ExecList(ctx, vm.Hostname)
	if err != nil {
		return // a VM that is paused, or an old agent's
	}
	for _, e := range list {
		if e.Running || e.EndedAt == nil || time.Since(*e.EndedAt) < readable {
			continue
		}
		if time.Since(*e.EndedAt) < unread && !t.readOut.has(e.ExecID) {
			continue
		}
		if _, err := t.client.ExecDelete(ctx, vm.Hostname, e.ExecID); err == nil {
			t.readOut.remove(e.ExecID)
		}
	}
}

// finished notes that a process has ended, and whether all of it was read.
func (t *Toolset) finished(p process, readOut bool) {
	t.timers.stop(p)
	if !readOut {
		return
	}
	if l, ok := p.(*local); ok {
		l.markRead()
		return
	}
	t.readOut.add(p.id())
}

// handles is a set of process handles. It only spares room: what it forgets
// stays longer in the daemon.
type handles struct {
	mu  sync.Mutex
	set map[string]bool
}

const mostHandles = 10_000

func (h *handles) add(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.set == nil || len(h.set) >= mostHandles {
		h.set = make(map[string]bool)
	}
	h.set[id] = true
}

func (h *handles) has(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.set[id]
}

func (h *handles) remove(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.set, id)
}

// timers end processes whose lifetime is over, where the guest itself doesn't.
type timers struct {
	mu     sync.Mutex
	closed bool
	left   map[string]*time.Timer
	calls  sync.WaitGroup // those that are ending a process
}

// start ends p after d.
func (ts *timers) start(p process, d time.Duration) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.left == nil {
		ts.left = make(map[string]*time.Timer)
	}
	ts.left[p.id()] = time.AfterFunc(d, func() {
		if !ts.take(p) {
			return
		}
		defer ts.calls.Done()
		ctx, cancel := context.WithTimeout(context.Background(), killTime)
		defer cancel()
		// Whoever asks about the process sees whether it has ended.
		_ = p.signal(ctx, "TERM")
	})
}

// take removes p's timer, which has gone off. It reports false when p needs no
// ending any more; else the caller calls ts.calls.Done.
func (ts *timers) take(p process) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || ts.left[p.id()] == nil {
		return false
	}
	delete(ts.left, p.id())
	ts.calls.Add(1)
	return true
}

// stop forgets p, which has ended.
func (ts *timers) stop(p process) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if timer := ts.left[p.id()]; timer != nil {
		timer.Stop()
		delete(ts.left, p.id())
	}
}

// close stops every timer. The guests' own go on.
func (ts *timers) close() {
	ts.mu.Lock()
	ts.closed = true
	for _, timer := range ts.left {
		timer.Stop()
	}
	ts.left = nil
	ts.mu.Unlock()
	ts.calls.Wait()
}
