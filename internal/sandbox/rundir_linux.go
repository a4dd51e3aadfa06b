package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runPrefix begins the names of run folders, so that nothing else in a state
// folder is taken for one.
const runPrefix = "slicervm-mcp-run-"

// runDir is the folder of one server. A lock held on it says that its server
// lives; one without is a dead server's and is removed by the next that starts.
type runDir struct {
	path string
	lock *os.File
	made []string // the folders above that this server made, innermost first
}

// stateDir settles Config.StateDir.
func stateDir(configured string) (string, error) {
	dir := configured
	if dir == "" {
		dir = os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(dir) {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("find a folder for the guests' disks: %w; name one with --state-dir", err)
			}
			dir = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(dir, "slicervm-mcp")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, nil
}

// newRunDir makes this server's folder.
func newRunDir(stateDir string) (*runDir, error) {
	for range 10 {
		r := &runDir{}
		if err := r.makeAbove(stateDir); err != nil {
			return nil, fmt.Errorf("make state folder: %w", err)
		}
		path, err := os.MkdirTemp(stateDir, runPrefix)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another server has just removed the empty folder
		}
		if err != nil {
			return nil, fmt.Errorf("make run folder: %w", err)
		}
		lock, err := lockDir(path)
		if err != nil {
			continue // another server took it for a dead one's
		}
		r.path, r.lock = path, lock
		return r, nil
	}
	return nil, fmt.Errorf("make run folder: too many servers start at once under %s", stateDir)
}

// makeAbove makes the state folder and what is missing above it.
func (r *runDir) makeAbove(dir string) error {
	var missing []string
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		missing = append(missing, dir)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := os.Mkdir(missing[i], 0o700)
		if err == nil {
			r.made = append([]string{missing[i]}, r.made...)
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// lockDir takes the lock of a folder; the error wraps EWOULDBLOCK when another
// server has it.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = sameFolder(f, path) // it may have been removed before the lock was taken
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sameFolder makes sure that path still names the open folder f.
func sameFolder(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err == nil && !os.SameFile(opened, named) {
		err = &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	return err
}

// sweep removes the run folders of dead servers. Their guests are dead too: an
// agent ends with its daemon.
func (r *runDir) sweep(removeAll func(string) error, log *slog.Logger) {
	parent := filepath.Dir(r.path)
	entries, err := os.ReadDir(parent)
	if err != nil {
		log.Warn("can't look for dead servers' folders", "error", err)
		return
	}
	alive := false
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), runPrefix) || path == r.path {
			continue
		}
		lock, err := lockDir(path)
		if err != nil {
			alive = alive || errors.Is(err, unix.EWOULDBLOCK)
			continue // its server lives, or another one is removing it
		}
		sweepListed(path, log)
		if err := removeAll(path); err != nil {
			log.Warn("can't remove a dead server's folder", "path", path, "error", err)
		}
		lock.Close()
	}
	if alive {
		log.Warn("another server uses the same state folder: the first that needs persistent VMs or commits has them alone; --state-dir names another folder", "path", parent)
	}
}

// remove removes the folder, and those above that this server made, as far as
// nothing else is in them.
func (r *runDir) remove() error {
	err := removeTree(r.path)
	r.lock.Close()
	for _, dir := range r.made {
		if os.Remove(dir) != nil {
			break // another server's folder is in it
		}
	}
	return err
}
