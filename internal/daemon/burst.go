package daemon

import "time"

// maxBurst is how many changes are held back at once; beyond it the oldest go
// out before their time.
const maxBurst = 10_000

// heldChange is a change that waits whether it happens again.
type heldChange struct {
	WatchChange
	at  time.Time // of the last time that it happened
	due time.Time
}

// burst holds changes back for a while, so that those of one kind to one path
// go out as one, and keeps their order.
type burst struct {
	wait   time.Duration
	held   []*heldChange // in the order of due
	latest map[string]map[WatchOp]*heldChange
}

func newBurst(wait time.Duration) *burst {
	return &burst{wait: wait, latest: make(map[string]map[WatchOp]*heldChange)}
}

// add takes a change that happened now. It joins an equal one that waits,
// unless the file has come or gone in between: whoever follows the changes
// must end up with what is there.
func (b *burst) add(c WatchChange, now time.Time) {
	ops := b.latest[c.Path]
	if same := ops[c.Op]; same != nil {
		same.Size, same.Dir, same.at = c.Size, c.Dir, now
		return
	}
	comes := c.Op == WatchCreate || c.Op == WatchRemove || c.Op == WatchRename
	if ops == nil || comes {
		ops = make(map[WatchOp]*heldChange)
		b.latest[c.Path] = ops
	}
	ops[c.Op] = &heldChange{WatchChange: c, at: now, due: now.Add(b.wait)}
	b.held = append(b.held, ops[c.Op])
}

// next returns when the oldest change is due.
func (b *burst) next() (due time.Time, ok bool) {
	if len(b.held) == 0 {
		return time.Time{}, false
	}
	return b.held[0].due, true
}

// take returns the oldest change when it is due, or when there are too many.
func (b *burst) take(now time.Time) *heldChange {
	if len(b.held) == 0 || b.held[0].due.After(now) && len(b.held) <= maxBurst {
		return nil
	}
	return b.pop()
}

// pop returns the oldest change, nil when there is none.
func (b *burst) pop() *heldChange {
	if len(b.held) == 0 {
		return nil
	}
	c := b.held[0]
	b.held[0] = nil
	b.held = b.held[1:]
	if ops := b.latest[c.Path]; ops[c.Op] == c {
		delete(ops, c.Op)
		if len(ops) == 0 {
			delete(b.latest, c.Path)
		}
	}
	return c
}
