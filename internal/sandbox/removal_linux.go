package sandbox

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// removalDepth is how deep below its folder a removal goes: it has that many
// descriptors and one.
const removalDepth = 8

// removal removes a folder. A guest may nest folders in each other without end,
// so that no path, stack or number of descriptors is enough to get to the last
// one: what is too deep is moved to the top.
type removal struct {
	top   int   // the folder's descriptor
	first error // what was met first
}

// removeTree removes a folder and all below it, links but not what they lead
// to. That there is none is no error. Errors name no files: a guest chooses
// their names.
func removeTree(dir string) error {
	r := &removal{first: unix.ENOTEMPTY}
	r.remove(unix.AT_FDCWD, dir, 0)
	if err := unix.Lstat(dir, &unix.Stat_t{}); errors.Is(err, unix.ENOENT) {
		return nil
	}
	return r.first
}

// remove removes name from the folder whose descriptor is in, and says whether
// there is less than before.
func (r *removal) remove(in int, name string, depth int) bool {
	err := unix.Unlinkat(in, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err == nil
	}
	switch rmdir := unix.Unlinkat(in, name, unix.AT_REMOVEDIR); {
	case rmdir == nil:
		return true
	case errors.Is(rmdir, unix.ENOTDIR):
		return r.failed(err)
	case !errors.Is(rmdir, unix.ENOTEMPTY) && !errors.Is(rmdir, unix.EEXIST):
		return r.failed(rmdir)
	}
	if depth > removalDepth {
		err := unix.Renameat(in, name, r.top, strconv.FormatUint(rand.Uint64(), 36))
		return err == nil || r.failed(err)
	}
	fd, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return r.failed(err)
	}
	if depth == 0 {
		r.top = fd
	}
	less := r.empty(os.NewFile(uintptr(fd), ""), fd, depth+1)
	err = unix.Unlinkat(in, name, unix.AT_REMOVEDIR)
	return err == nil || r.failed(err) || less
}

// empty removes what is in a folder, closes it and says whether there is less
// than before. It reads again whatever changed while it was read.
func (r *removal) empty(dir *os.File, fd, depth int) (less bool) {
	defer dir.Close()
	for {
		again := false
		for {
			names, err := dir.Readdirnames(256)
			for _, name := range names {
				again = r.remove(fd, name, depth) || again
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return r.failed(err) || less || again
			}
		}
		if !again {
			return less
		}
		less = true
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return r.failed(err) || less
		}
	}
}

// failed notes an error and returns false.
func (r *removal) failed(err error) bool {
	if errors.Is(r.first, unix.ENOTEMPTY) {
		r.first = err
	}
	return false
}
