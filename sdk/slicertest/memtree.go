package slicertest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	defaultDisk = 256 << 20 // bytes
	maxSymlinks = 40
)

// memTree is a daemon.FileTree in memory. Names are absolute and clean.
type memTree struct {
	// busy, unless nil, is called at the beginning of each operation of the
	// daemon's.
	busy func(what string)

	limit int64 // bytes that it may hold

	mu      sync.Mutex
	root    *node
	used    int64 // bytes of files, and of those being written
	watches map[*memWatch]bool
}

// node is a file, folder or symlink. A file's data is replaced, never changed.
type node struct {
	mode     fs.FileMode
	uid, gid uint32
	modTime  time.Time
	data     []byte
	target   string
	children map[string]*node // of a folder
}

// newMemTree returns a tree that may hold limit bytes; 0 is defaultDisk.
func newMemTree(limit int64) *memTree {
	if limit == 0 {
		limit = defaultDisk
	}
	return &memTree{limit: limit, root: &node{mode: fs.ModeDir | 0o755, modTime: time.Now(), children: make(map[string]*node)}}
}

func (t *memTree) enter(what string) {
	if t.busy != nil {
		t.busy(what)
	}
}

// place is where a name leads: the folder that it is in, what it is called
// there, what stands there, nil when nothing does, and its name without
// symlinks on the way.
type place struct {
	dir  *node
	base string
	node *node
	real string
}

// find resolves name, with the symlinks in it, and with the last one if
// follow is set. Only the last part may be missing.
func (t *memTree) find(name string, follow bool) (place, error) {
	above, names := []*node{t.root}, []string{"/"}
	at := place{dir: t.root, base: "/", node: t.root}
	parts := split(name)
	for links := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		if at.node == nil {
			return place{}, fs.ErrNotExist
		}
		if !at.node.mode.IsDir() {
			return place{}, syscall.ENOTDIR
		}
		if part == ".." {
			above, names = above[:max(1, len(above)-1)], names[:max(1, len(names)-1)]
			at = place{dir: above[max(0, len(above)-2)], base: "..", node: above[len(above)-1]}
			continue
		}
		dir := at.node
		at = place{dir: dir, base: part, node: dir.children[part]}
		if at.node != nil && at.node.mode&fs.ModeSymlink != 0 && (follow || len(parts) > 0) {
			if links++; links > maxSymlinks {
				return place{}, syscall.ELOOP
			}
			parts = append(split(at.node.target), parts...)
			if path.IsAbs(at.node.target) {
				above, names = above[:1], names[:1]
			}
			at = place{dir: dir, base: ".", node: above[len(above)-1]}
			continue
		}
		if at.node != nil && at.node.mode.IsDir() {
			above, names = append(above, at.node), append(names, path.Join(names[len(names)-1], part))
		}
	}
	at.real = names[len(names)-1]
	if at.node == nil || !at.node.mode.IsDir() {
		at.real = path.Join(at.real, at.base)
	}
	return at, nil
}

// get is find for something that must be there.
func (t *memTree) get(name string, follow bool) (place, error) {
	at, err := t.find(name, follow)
	if err == nil && at.node == nil {
		err = fs.ErrNotExist
	}
	return at, err
}

// split returns name's parts, without empty ones and dots.
func split(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." })
}

// allows reports whether user, nil being root, has the permission bit (4 is
// read, 2 write) on n.
func (n *node) allows(user *owner, bit fs.FileMode) bool {
	switch {
	case user == nil || user.uid == 0:
		return true
	case user.uid == n.uid:
		return n.mode&(bit<<6) != 0
	case user.gid == n.gid:
		return n.mode&(bit<<3) != 0
	}
	return n.mode&bit != 0
}

func (n *node) info(name string) daemon.FileInfo {
	size := int64(len(n.data))
	if n.mode&fs.ModeSymlink != 0 {
		size = int64(len(n.target))
	}
	return daemon.FileInfo{
		Name: path.Base(name), Size: size, Mode: n.mode, ModTime: n.modTime, UID: n.uid, GID: n.gid, Target: n.target,
	}
}

// newNode makes a node of the given type with attr's attributes.
func newNode(kind, perm fs.FileMode, attr daemon.FileAttr) *node {
	n := &node{mode: kind | perm, uid: ordinaryUser, gid: ordinaryUser, modTime: attr.ModTime}
	if attr.Mode != 0 {
		n.mode = kind | attr.Mode.Perm()
	}
	if attr.UID != nil {
		n.uid, n.gid = *attr.UID, *attr.UID
	}
	if attr.GID != nil {
		n.gid = *attr.GID
	}
	if n.modTime.IsZero() {
		n.modTime = time.Now()
	}
	if kind.IsDir() {
		n.children = make(map[string]*node)
	}
	return n
}

// Stat implements daemon.FileTree.
func (t *memTree) Stat(_ context.Context, name string) (daemon.FileInfo, error) {
	t.enter("Stat")
	return t.stat(name, true)
}

// Lstat implements daemon.FileTree.
func (t *memTree) Lstat(_ context.Context, name string) (daemon.FileInfo, error) {
	t.enter("Lstat")
	return t.stat(name, false)
}

func (t *memTree) stat(name string, follow bool) (daemon.FileInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, follow)
	if err != nil {
		return daemon.FileInfo{}, err
	}
	return at.node.info(name), nil
}

// ReadDir implements daemon.FileTree.
func (t *memTree) ReadDir(_ context.Context, name string, limit int) ([]daemon.FileInfo, error) {
	t.enter("ReadDir")
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, true)
	if err != nil {
		return nil, err
	}
	if !at.node.mode.IsDir() {
		return nil, syscall.ENOTDIR
	}
	var list []daemon.FileInfo
	for _, base := range slices.Sorted(maps.Keys(at.node.children)) {
		if limit > 0 && len(list) == limit {
			break
		}
		list = append(list, at.node.children[base].info(base))
	}
	return list, nil
}

// Open implements daemon.FileTree.
func (t *memTree) Open(_ context.Context, name string) (io.ReadCloser, daemon.FileInfo, error) {
	t.enter("Open")
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, true)
	if err != nil {
		return nil, daemon.FileInfo{}, err
	}
	if at.node.mode.IsDir() {
		return nil, daemon.FileInfo{}, syscall.EISDIR
	}
	return io.NopCloser(bytes.NewReader(at.node.data)), at.node.info(name), nil
}

// read returns a file's content for user.
func (t *memTree) read(name string, user *owner) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, true)
	switch {
	case err != nil:
		return nil, err
	case at.node.mode.IsDir():
		return nil, syscall.EISDIR
	case !at.node.allows(user, 4):
		return nil, fs.ErrPermission
	}
	return bytes.Clone(at.node.data), nil
}

// put writes a whole file, which takes the place of what stood there.
func (t *memTree) put(name string, data []byte, attr daemon.FileAttr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.spot(name)
	if err != nil {
		return err
	}
	return t.place(at, data, newNode(0, 0o644, attr))
}

// write writes a whole file for user, who must be allowed to. A file that is
// there keeps its attributes; symlinks are followed.
func (t *memTree) write(name string, data []byte, attr daemon.FileAttr, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.find(name, true)
	switch {
	case err != nil:
		return err
	case at.node == nil:
		if !at.dir.allows(user, 2) {
			return fs.ErrPermission
		}
		return t.place(at, data, newNode(0, 0o644, attr))
	case at.node.mode.IsDir():
		return syscall.EISDIR
	case !at.node.allows(user, 2):
		return fs.ErrPermission
	}
	n := *at.node
	n.modTime = time.Now()
	return t.place(at, data, &n)
}

// place puts n, with a copy of data, at a place that is no folder.
func (t *memTree) place(at place, data []byte, n *node) error {
	used := t.used + int64(len(data))
	if at.node != nil {
		used -= int64(len(at.node.data))
	}
	if used > t.limit {
		return syscall.ENOSPC
	}
	t.used = used
	n.data = bytes.Clone(data)
	t.set(at, n)
	return nil
}

// Mkdir implements daemon.FileTree.
func (t *memTree) Mkdir(_ context.Context, name string, attr daemon.FileAttr, parents bool) error {
	t.enter("Mkdir")
	return t.mkdir(name, attr, parents, nil)
}

func (t *memTree) mkdir(name string, attr daemon.FileAttr, parents bool, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parents {
		above := "/"
		for _, part := range split(path.Dir(name)) {
			above = path.Join(above, part)
			up := daemon.FileAttr{UID: attr.UID, GID: attr.GID}
			if err := t.mkdirOne(above, up, true, user); err != nil {
				return err
			}
		}
	}
	return t.mkdirOne(name, attr, parents, user)
}

func (t *memTree) mkdirOne(name string, attr daemon.FileAttr, existing bool, user *owner) error {
	at, err := t.find(name, true)
	switch {
	case err != nil:
		return err
	case at.node != nil && existing && at.node.mode.IsDir():
		return nil
	case at.node != nil && existing:
		return syscall.ENOTDIR
	case at.node != nil:
		return fs.ErrExist
	case !at.dir.allows(user, 2):
		return fs.ErrPermission
	}
	t.set(at, newNode(fs.ModeDir, 0o755, attr))
	return nil
}

// Remove implements daemon.FileTree.
func (t *memTree) Remove(_ context.Context, name string, recursive bool) error {
	t.enter("Remove")
	return t.remove(name, recursive, nil)
}

func (t *memTree) remove(name string, recursive bool, user *owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.get(name, false)
	switch {
	case err != nil:
		return err
	case at.node == t.root:
		return fs.ErrInvalid
	case !recursive && len(at.node.children) > 0:
		return syscall.ENOTEMPTY
	case !at.dir.allows(user, 2):
		return fs.ErrPermission
	}
	t.used -= at.node.bytes()
	delete(at.dir.children, at.base)
	t.tellRemoved(at.real, at.node)
	return nil
}

// bytes is what a node and all below it hold.
func (n *node) bytes() int64 {
	total := int64(len(n.data))
	for _, child := range n.children {
		total += child.bytes()
	}
	return total
}
