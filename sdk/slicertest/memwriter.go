package slicertest

import (
	"bytes"
	"context"
	"io/fs"
	"syscall"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Create implements daemon.FileTree.
func (t *memTree) Create(_ context.Context, name string, attr daemon.FileAttr) (daemon.FileWriter, error) {
	t.enter("Create")
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.spot(name); err != nil {
		return nil, err
	}
	return &memWriter{tree: t, name: name, attr: attr}, nil
}

// spot is where a file called name would be put.
func (t *memTree) spot(name string) (place, error) {
	at, err := t.find(name, false)
	if err == nil && at.node != nil && at.node.mode.IsDir() {
		err = syscall.EISDIR
	}
	return at, err
}

// memWriter is a file being written.
type memWriter struct {
	tree  *memTree
	name  string
	attr  daemon.FileAttr
	buf   bytes.Buffer
	ended bool
}

// Write implements daemon.FileWriter.
func (w *memWriter) Write(p []byte) (int, error) {
	w.tree.enter("Write")
	w.tree.mu.Lock()
	defer w.tree.mu.Unlock()
	if w.ended {
		return 0, fs.ErrClosed
	}
	if w.tree.used+int64(len(p)) > w.tree.limit {
		return 0, syscall.ENOSPC
	}
	w.tree.used += int64(len(p))
	return w.buf.Write(p)
}

// Commit implements daemon.FileWriter.
func (w *memWriter) Commit() error {
	w.tree.enter("Commit")
	w.tree.mu.Lock()
	defer w.tree.mu.Unlock()
	if w.ended {
		return fs.ErrClosed
	}
	at, err := w.tree.spot(w.name)
	if err != nil {
		return err
	}
	w.ended = true
	if at.node != nil {
		w.tree.used -= int64(len(at.node.data))
	}
	n := newNode(0, 0o644, w.attr)
	n.data = w.buf.Bytes()
	w.tree.set(at, n)
	return nil
}

// Abort implements daemon.FileWriter.
func (w *memWriter) Abort() {
	w.tree.mu.Lock()
	defer w.tree.mu.Unlock()
	if !w.ended {
		w.ended = true
		w.tree.used -= int64(w.buf.Len())
	}
}
