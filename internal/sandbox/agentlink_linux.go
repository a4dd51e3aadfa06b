package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeSymlink makes a symlink under a temporary name and then gives it its
// own, in the place of whatever file stands there. Its folder is held open
// meanwhile.
func makeSymlink(kind idmapKind, req *request) error {
	if req.Attr == nil || len(req.Data) == 0 {
		return syscall.EINVAL
	}
	switch info, err := os.Lstat(req.Name); {
	case err == nil && info.IsDir():
		return syscall.EISDIR
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	folder, err := openFolder(path.Dir(req.Name))
	if err != nil {
		return err
	}
	defer folder.Close()
	dir, temporary := int(folder.Fd()), ".slicer-"+rand.Text()
	if err := unix.Symlinkat(string(req.Data), dir, temporary); err != nil {
		return err
	}
	err = setLinkAttr(kind, dir, temporary, *req.Attr)
	if err == nil {
		err = unix.Renameat(dir, temporary, dir, path.Base(req.Name))
	}
	if err != nil {
		// One that the guest has removed itself is as good as gone.
		_ = unix.Unlinkat(dir, temporary, 0)
	}
	return err
}

// setLinkAttr gives a symlink its owner and time; it has no mode of its own.
func setLinkAttr(kind idmapKind, dir int, name string, at attr) error {
	uid, gid := kind.own(owner(at))
	if err := unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("give the symlink to %d:%d: %w", uid, gid, err)
	}
	if at.ModTime.IsZero() {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_NOW}, unix.NsecToTimespec(at.ModTime.UnixNano())}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}
