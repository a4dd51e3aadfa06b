package slicertest

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// set puts n at a place and tells the watches. What stood there and is
// replaced was written, what is new was made, and written when it is a file.
func (t *memTree) set(at place, n *node) {
	at.dir.children[at.base] = n
	if at.node == nil {
		t.tell(daemon.WatchCreate, at.real, n)
	}
	if n.mode.IsRegular() {
		t.tell(daemon.WatchWrite, at.real, n)
	}
}

// tellRemoved tells the watches of n's removal, and before it of those of what
// was in it.
func (t *memTree) tellRemoved(name string, n *node) {
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		t.tellRemoved(path.Join(name, base), n.children[base])
	}
	t.tell(daemon.WatchRemove, name, n)
}

// chmod changes a file's permissions, which its owner and root may. It follows
// symlinks.
func (t *memTree) chmod(name string, perm fs.FileMode, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, true)
	if err != nil {
		return err
	}
	if user != nil && user.uid != 0 && user.uid != at.node.uid {
		return fs.ErrPermission
	}
	at.node.mode = at.node.mode&^fs.ModePerm | perm.Perm()
	t.tell(daemon.WatchChmod, at.real, at.node)
	return nil
}

// rename moves a file or folder, which takes the place of a file that is
// there.
func (t *memTree) rename(from, to string, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	src, err := t.get(from, false)
	if err != nil {
		return err
	}
	dst, err := t.find(to, false)
	switch {
	case err != nil:
		return err
	case src.node == t.root, src.node.mode.IsDir() && strings.HasPrefix(dst.real+"/", src.real+"/"):
		return fs.ErrInvalid
	case src.node == dst.node:
		return nil
	case dst.node != nil && (dst.node.mode.IsDir() || src.node.mode.IsDir()):
		return fs.ErrExist
	case !src.dir.allows(user, 2), !dst.dir.allows(user, 2):
		return fs.ErrPermission
	}
	if dst.node != nil {
		t.used -= dst.node.bytes()
	}
	delete(src.dir.children, src.base)
	dst.dir.children[dst.base] = src.node
	t.tell(daemon.WatchRename, src.real, src.node)
	t.tell(daemon.WatchCreate, dst.real, src.node)
	return nil
}
