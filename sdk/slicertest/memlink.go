package slicertest

import (
	"context"
	"io/fs"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Symlink implements daemon.FileTree.
func (t *memTree) Symlink(_ context.Context, name, target string, attr daemon.FileAttr) error {
	t.enter("Symlink")
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.spot(name)
	if err != nil {
		return err
	}
	attr.Mode = 0 // a symlink has none of its own
	n := newNode(fs.ModeSymlink, 0o777, attr)
	n.target = target
	return t.place(at, nil, n)
}

// symlink makes a symlink for user, where nothing stands yet.
func (t *memTree) symlink(target, name string, attr daemon.FileAttr, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.find(name, false)
	switch {
	case err != nil:
		return err
	case at.node != nil:
		return fs.ErrExist
	case !at.dir.allows(user, 2):
		return fs.ErrPermission
	}
	n := newNode(fs.ModeSymlink, 0o777, attr)
	n.target = target
	t.set(at, n)
	return nil
}
