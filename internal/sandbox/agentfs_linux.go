package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// The agent's file requests. They run inside the guest, so a name, a symlink
// or a folder that is swapped meanwhile can only lead to the guest's own files.

const (
	maxListed      = 100_000
	maxOpenWriters = 1024
	secretsDir     = "/run/slicer/secrets"
)

// doFile carries out a request on the file tree.
func (a *agent) doFile(req *request, r *reply) (*os.File, error) {
	switch req.Op {
	case "stat", "lstat":
		stat := os.Stat
		if req.Op == "lstat" {
			stat = os.Lstat
		}
		info, err := stat(req.Name)
		if err != nil {
			return nil, err
		}
		r.Info = describe(path.Dir(req.Name), info)
		return nil, nil
	case "readdir":
		return nil, readDir(req, r)
	case "open":
		f, err := openRegular(req.Name, r)
		if err != nil {
			return nil, err
		}
		return settled(f, r)
	case "create":
		return a.files.create(req, r)
	case "commit":
		return nil, a.files.commit(req.Handle)
	case "abort":
		a.files.abort(req.Handle)
		return nil, nil
	case "mkdir":
		return nil, makeDir(a.kind, req)
	case "symlink":
		return nil, makeSymlink(a.kind, req)
	case "remove":
		return nil, remove(req.Name, req.Flag)
	}
	return nil, syscall.ENOSYS
}

func describe(dir string, info fs.FileInfo) *daemon.FileInfo {
	d := &daemon.FileInfo{Name: info.Name(), Size: info.Size(), Mode: info.Mode(), ModTime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		d.UID, d.GID = st.Uid, st.Gid
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		// A link that has just gone is described without its text.
		d.Target, _ = os.Readlink(filepath.Join(dir, info.Name()))
	}
	return d
}

func readDir(req *request, r *reply) error {
	f, err := openFolder(req.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	limit := req.Limit
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	entries, err := f.ReadDir(limit)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if req.Limit == 0 && len(entries) == maxListed {
		return fmt.Errorf("%s has over %d entries: %w", req.Name, maxListed, syscall.E2BIG)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it went away while we looked
		}
		r.Entries = append(r.Entries, *describe(req.Name, info))
	}
	return nil
}

// openFolder opens a folder and nothing else: opening a fifo would block.
func openFolder(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openRegular opens a file for reading. Anything but a regular file could
// block or have effects, so it is refused.
func openRegular(name string, r *reply) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	r.Info = describe(path.Dir(name), info)
	return f, nil
}

func regular(info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return syscall.EISDIR
	case !info.Mode().IsRegular():
		return fmt.Errorf("not a regular file: %w", syscall.EINVAL)
	}
	return nil
}

// writers are the files being written under temporary names.
type writers struct {
	kind idmapKind

	mu     sync.Mutex
	open   map[uint64]*writer
	lastID uint64
}

// writer is one of them. Its folder is held open, so that it is renamed where
// it was made.
type writer struct {
	folder    *os.File
	file      *os.File
	temporary string
	name      string
	attr      attr
}

func newWriters(kind idmapKind) *writers {
	return &writers{kind: kind, open: map[uint64]*writer{}}
}

func (ws *writers) create(req *request, r *reply) (*os.File, error) {
	if req.Attr == nil {
		return nil, syscall.EINVAL
	}
	name, err := finalName(req.Name)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(path.Dir(name))
	if err != nil {
		return nil, err
	}
	w := &writer{folder: folder, temporary: ".slicer-" + rand.Text(), name: path.Base(name), attr: *req.Attr}
	fd, err := unix.Openat(int(folder.Fd()), w.temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		folder.Close()
		return nil, err
	}
	w.file = os.NewFile(uintptr(fd), w.temporary)
	ws.mu.Lock()
	if len(ws.open) >= maxOpenWriters {
		ws.mu.Unlock()
		w.discard()
		return nil, syscall.EMFILE
	}
	ws.lastID++
	ws.open[ws.lastID] = w
	r.Handle = ws.lastID
	ws.mu.Unlock()

	// The reply needs a descriptor of its own: this one is for commit.
	dup, err := unix.FcntlInt(w.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		ws.abort(r.Handle)
		return nil, err
	}
	return os.NewFile(uintptr(dup), w.temporary), nil
}

// finalName follows name's last component while it is a symlink, and refuses
// what a file can't replace.
func finalName(name string) (string, error) {
	for range 40 {
		info, err := os.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name, nil
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink == 0:
			return name, regular(info)
		}
		target, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			// The folder's own symlinks must be followed before "..".
			folder, err := filepath.EvalSymlinks(path.Dir(name))
			if err != nil {
				return "", err
			}
			target = filepath.Join(folder, target)
		}
		name = target
	}
	return "", syscall.ELOOP
}

func (ws *writers) take(handle uint64) *writer {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.open[handle]
	delete(ws.open, handle)
	return w
}

func (ws *writers) abort(handle uint64) {
	if w := ws.take(handle); w != nil {
		w.discard()
	}
}

func (ws *writers) commit(handle uint64) error {
	w := ws.take(handle)
	if w == nil {
		return syscall.EBADF
	}
	err := setAttr(ws.kind, w.file, w.attr, 0o644)
	if err == nil {
		dir := int(w.folder.Fd())
		err = unix.Renameat(dir, w.temporary, dir, w.name)
	}
	if err != nil {
		w.discard()
		return err
	}
	w.file.Close()
	w.folder.Close()
	return nil
}

// discard removes the temporary file.
func (w *writer) discard() {
	// A temporary file that the guest has removed itself is as good as gone.
	_ = unix.Unlinkat(int(w.folder.Fd()), w.temporary, 0)
	w.file.Close()
	w.folder.Close()
}

// setAttr gives an open file or folder its owner, mode and time.
func setAttr(kind idmapKind, f *os.File, at attr, defaultMode fs.FileMode) error {
	uid, gid := kind.own(owner(at))
	if err := f.Chown(uid, gid); err != nil {
		return fmt.Errorf("give the file to %d:%d: %w", uid, gid, err)
	}
	mode := fs.FileMode(at.Mode) & fs.ModePerm
	if at.Mode == 0 {
		mode = defaultMode
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if at.ModTime.IsZero() {
		return nil
	}
	times := []unix.Timeval{timeval(time.Now()), timeval(at.ModTime)}
	return unix.Futimes(int(f.Fd()), times)
}

func timeval(t time.Time) unix.Timeval {
	return unix.NsecToTimeval(t.UnixNano())
}

// owner is who a new file belongs to: the ordinary user where nobody is named.
func owner(at attr) (uid, gid uint32) {
	uid = ubuntuID
	if at.UID != nil {
		uid = *at.UID
	}
	if at.GID != nil {
		return uid, *at.GID
	}
	return uid, lookupAccount(uid).gid
}

func makeDir(kind idmapKind, req *request) error {
	if req.Attr == nil {
		return syscall.EINVAL
	}
	if !req.Flag {
		return makeOne(kind, req.Name, *req.Attr)
	}
	if info, err := os.Stat(req.Name); err == nil {
		if !info.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	var missing []string
	for name := req.Name; ; name = path.Dir(name) {
		if _, err := os.Stat(name); err == nil || name == path.Dir(name) {
			break
		}
		missing = append(missing, name)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		at := *req.Attr
		if i > 0 {
			at.Mode, at.ModTime = 0, time.Time{}
		}
		if err := makeOne(kind, missing[i], at); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func makeOne(kind idmapKind, name string, at attr) error {
	if err := os.Mkdir(name, 0o700); err != nil {
		return err
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return setAttr(kind, f, at, 0o755)
}

func remove(name string, recursive bool) error {
	if name == "/" {
		return syscall.EBUSY
	}
	if _, err := os.Lstat(name); err != nil {
		return err
	}
	if recursive {
		return os.RemoveAll(name)
	}
	return os.Remove(name)
}

// putSecret writes a file under /run/slicer/secrets in one step.
func putSecret(kind idmapKind, req *request) error {
	if req.Attr == nil || path.Base(req.Name) != req.Name {
		return syscall.EINVAL
	}
	f, err := os.CreateTemp(secretsDir, ".new-")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name()) // fails once it is renamed
	if _, err := f.Write(req.Data); err != nil {
		return err
	}
	if err := setAttr(kind, f, *req.Attr, 0o600); err != nil {
		return err
	}
	return os.Rename(f.Name(), path.Join(secretsDir, req.Name))
}

func removeSecret(name string) error {
	if path.Base(name) != name {
		return syscall.EINVAL
	}
	err := os.Remove(path.Join(secretsDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readUpTo fills buf from r as far as it goes.
func readUpTo(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return n, nil
	}
	return n, err
}
