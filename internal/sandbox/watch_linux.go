package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// maxWatchedFolders bounds the folders of one watch.
const maxWatchedFolders = 8192

// watch is the daemon's side of a watch: a socket of its own, so that a flood
// of changes holds up nothing else. Its end is the watch's.
type watch struct {
	ctx  context.Context
	conn *net.UnixConn
	stop func() bool
}

var _ daemon.Watch = (*watch)(nil)

// watchChange is a frame from the agent on a watch's socket.
type watchChange struct {
	Error  string              `json:"error,omitempty"`
	Change *daemon.WatchChange `json:"change,omitempty"`
}

// Watch implements daemon.Guest.
func (g *guest) Watch(ctx context.Context, spec daemon.WatchSpec) (daemon.Watch, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if _, err := g.call(ctx, &request{Op: "watch", Watch: &spec}, theirs); err != nil {
		ours.Close()
		return nil, err
	}
	w := &watch{ctx: ctx, conn: ours}
	w.stop = context.AfterFunc(ctx, func() { ours.Close() })
	return w, nil
}

// Next implements daemon.Watch.
func (w *watch) Next() (daemon.WatchChange, error) {
	var f watchChange
	files, err := readFrame(w.conn, &f)
	closeAll(files)
	switch {
	case w.ctx.Err() != nil:
		return daemon.WatchChange{}, w.ctx.Err()
	case err != nil:
		return daemon.WatchChange{}, fmt.Errorf("%w: %w", daemon.ErrEnded, err)
	case f.Error != "":
		return daemon.WatchChange{}, errors.New(f.Error)
	case f.Change == nil:
		return daemon.WatchChange{}, syscall.EPROTO
	}
	return *f.Change, nil
}

// Close implements daemon.Watch.
func (w *watch) Close() error {
	w.stop()
	return w.conn.Close()
}

// startWatch begins a watch that reports on a socket until its other end is
// closed. It runs in the agent.
func startWatch(spec *daemon.WatchSpec, files []*os.File) error {
	if spec == nil || len(files) != 1 {
		return syscall.EINVAL
	}
	conn, err := connOf(files[0])
	if err != nil {
		return err
	}
	notifier, err := fsnotify.NewWatcher()
	if err != nil {
		conn.Close()
		return err
	}
	w := &folderWatch{notifier: notifier, conn: conn, recursive: spec.Recursive}
	for _, path := range spec.Paths {
		if err := w.add(path, true); err != nil {
			notifier.Close()
			conn.Close()
			return err
		}
	}
	go w.untilClosed()
	go w.report()
	return nil
}

// folderWatch is the agent's side of a watch.
type folderWatch struct {
	notifier  *fsnotify.Watcher
	conn      *net.UnixConn
	recursive bool
	folders   int
}

// add watches a path, and the folders below it. Below the named ones, what
// went away meanwhile is passed over.
func (w *folderWatch) add(path string, named bool) error {
	if w.folders >= maxWatchedFolders {
		return fmt.Errorf("over %d folders to watch: %w", maxWatchedFolders, syscall.ENOSPC)
	}
	info, err := os.Lstat(path)
	if err == nil {
		err = w.notifier.Add(path)
	}
	if err != nil {
		if !named && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	w.folders++
	if !w.recursive || !info.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := w.add(filepath.Join(path, e.Name()), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// untilClosed ends the watch when the daemon closes its socket: the daemon
// never writes to it.
func (w *folderWatch) untilClosed() {
	var b [1]byte
	_, _ = w.conn.Read(b[:]) // the end of the socket is what is waited for
	w.notifier.Close()
}

// report sends changes until the notifier is closed.
func (w *folderWatch) report() {
	defer w.conn.Close()
	for {
		var changes []daemon.WatchChange
		select {
		case e, ok := <-w.notifier.Events:
			if !ok {
				return
			}
			changes = changesOf(e)
		case err, ok := <-w.notifier.Errors:
			if !ok {
				return
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				_ = writeFrame(w.conn, &watchChange{Error: err.Error()}) // the watch is over either way
				w.notifier.Close()
				return
			}
			changes = []daemon.WatchChange{{Op: daemon.WatchOverflow}}
		}
		for i := range changes {
			c := &changes[i]
			if info, err := os.Lstat(c.Path); err == nil {
				c.Dir = info.IsDir()
				if info.Mode().IsRegular() {
					c.Size = info.Size()
				}
			}
			if err := writeFrame(w.conn, &watchChange{Change: c}); err != nil {
				w.notifier.Close()
				return
			}
			if c.Op == daemon.WatchCreate && c.Dir && w.recursive {
				if err := w.add(c.Path, false); err != nil {
					_ = writeFrame(w.conn, &watchChange{Error: err.Error()}) // the watch is over either way
					w.notifier.Close()
					return
				}
			}
		}
	}
}

// changesOf is one change for each operation of an event.
func changesOf(e fsnotify.Event) []daemon.WatchChange {
	var changes []daemon.WatchChange
	for _, k := range []struct {
		op   fsnotify.Op
		name daemon.WatchOp
	}{
		{fsnotify.Create, daemon.WatchCreate},
		{fsnotify.Write, daemon.WatchWrite},
		{fsnotify.Remove, daemon.WatchRemove},
		{fsnotify.Rename, daemon.WatchRename},
		{fsnotify.Chmod, daemon.WatchChmod},
	} {
		if e.Op.Has(k.op) {
			changes = append(changes, daemon.WatchChange{Op: k.name, Path: filepath.Clean(e.Name)})
		}
	}
	return changes
}
