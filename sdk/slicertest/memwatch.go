package slicertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// maxUnread is how many changes a watch keeps for its reader.
const maxUnread = 4096

// memWatch is a daemon.Watch of a memTree.
type memWatch struct {
	tree      *memTree
	ctx       context.Context
	ended     <-chan struct{} // closed when the guest has ended
	recursive bool
	paths     []watchedPath
	changes   chan daemon.WatchChange
	lost      atomic.Bool
	closed    chan struct{}
}

// watchedPath is a path that is watched, as it was asked for and without
// symlinks.
type watchedPath struct{ asked, real string }

// Watch implements daemon.Guest.
func (g *guest) Watch(ctx context.Context, spec daemon.WatchSpec) (daemon.Watch, error) {
	g.checkThawed("Watch")
	return g.tree.watch(ctx, spec, g.done)
}

func (t *memTree) watch(ctx context.Context, spec daemon.WatchSpec, ended <-chan struct{}) (*memWatch, error) {
	w := &memWatch{
		tree: t, ctx: ctx, ended: ended, recursive: spec.Recursive,
		changes: make(chan daemon.WatchChange, maxUnread), closed: make(chan struct{}),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range spec.Paths {
		at, err := t.get(name, true)
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", name, err)
		}
		w.paths = append(w.paths, watchedPath{asked: name, real: at.real})
	}
	if t.watches == nil {
		t.watches = make(map[*memWatch]bool)
	}
	t.watches[w] = true
	return w, nil
}

// tell tells the watches of a change to n, whose name without symlinks is
// real. It is called under the lock.
func (t *memTree) tell(op daemon.WatchOp, real string, n *node) {
	for w := range t.watches {
		name, ok := w.sees(real)
		if !ok {
			continue
		}
		c := daemon.WatchChange{Op: op, Path: name, Dir: n.mode.IsDir()}
		if n.mode.IsRegular() && op != daemon.WatchRemove && op != daemon.WatchRename {
			c.Size = int64(len(n.data))
		}
		select {
		case w.changes <- c:
		default:
			w.lost.Store(true)
		}
	}
}

// sees returns the name under which a watch tells of a change.
func (w *memWatch) sees(real string) (name string, ok bool) {
	for _, p := range w.paths {
		if real == p.real {
			return p.asked, true
		}
		below, ok := strings.CutPrefix(real, strings.TrimSuffix(p.real, "/")+"/")
		if ok && (w.recursive || !strings.Contains(below, "/")) {
			return path.Join(p.asked, below), true
		}
	}
	return "", false
}

var errGuestEnded = errors.New("the guest has ended")

// Next implements daemon.Watch.
func (w *memWatch) Next() (daemon.WatchChange, error) {
	select {
	case c := <-w.changes:
		return c, nil
	default:
	}
	if w.lost.Swap(false) {
		return daemon.WatchChange{Op: daemon.WatchOverflow}, nil
	}
	select {
	case c := <-w.changes:
		return c, nil
	case <-w.ctx.Done():
		return daemon.WatchChange{}, context.Cause(w.ctx)
	case <-w.ended:
		return daemon.WatchChange{}, errGuestEnded
	case <-w.closed:
		return daemon.WatchChange{}, fs.ErrClosed
	}
}

// Close implements daemon.Watch.
func (w *memWatch) Close() error {
	w.tree.mu.Lock()
	defer w.tree.mu.Unlock()
	if !w.tree.watches[w] {
		return fs.ErrClosed
	}
	delete(w.tree.watches, w)
	close(w.closed)
	return nil
}
