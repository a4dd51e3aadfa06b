package daemon

import (
	"context"
	"sync"
)

// gate keeps the operations on a guest and its freezing apart: while the gate
// is shut nobody is inside. The zero value is open.
type gate struct {
	mu      sync.Mutex
	shut    bool
	inside  int
	changed chan struct{} // closed at the next change; nil when nobody waits
}

// tryEnter goes in unless the gate is shut.
func (g *gate) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

// enter goes in as soon as the gate is open. It returns ctx's cause when ctx
// ends first.
func (g *gate) enter(ctx context.Context) error {
	return g.wait(ctx, func() bool {
		if g.shut {
			return false
		}
		g.inside++
		return true
	})
}

// leave is called by whoever went in.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.wake()
}

// close shuts the gate and returns when everybody has left. When ctx ends
// first the gate is open again and the error is ctx's cause.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	err := g.wait(ctx, func() bool { return g.inside == 0 })
	if err != nil {
		g.open()
	}
	return err
}

// open lets everybody in again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	g.wake()
}

func (g *gate) wake() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// wait returns when ready, called under the lock, has said true.
func (g *gate) wait(ctx context.Context, ready func() bool) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.mu.Lock()
		if ready() {
			g.mu.Unlock()
			return nil
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
