package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	disksFolder = "disks" // in the state folder

	// newPrefix and gonePrefix begin the names of disks that are being made
	// and removed. No disk's own name begins so.
	newPrefix, gonePrefix = ".new-", ".gone-"

	maxLabelBytes = 1 << 20
	maxAboutBytes = 4 << 10
)

// The files beside a disk's root and layers. Guests see neither.
const (
	labelFile = "label"
	aboutFile = "disk.json"
)

var diskName = regexp.MustCompile(`^[a-z0-9-]{1,100}$`)

// diskStore is the folder of the disks that are kept. The first server that
// needs it takes its lock and has it until it ends.
type diskStore struct {
	path   string
	ids    string // whose ids the files have
	copy   func(ctx context.Context, from, to string) error
	remove func(dir string) error
	log    *slog.Logger

	mu    sync.Mutex
	lock  *os.File       // nil until the folder is needed
	users map[string]int // by disk: how many copies read it, or aGuest

	labels sync.Mutex // held while a label is written
}

// aGuest in diskStore.users stands for the only user that a disk can have while
// it changes: a guest, its making or its removal.
const aGuest = -1

// diskAbout is what the store itself keeps with a disk.
type diskAbout struct {
	Version  int    `json:"version"`
	IDs      string `json:"ids"`
	Hostname string `json:"hostname"` // of the guest that has used it last
}

const aboutVersion = 1

// open takes the folder's lock, unless this server has it. Without create a
// folder that isn't there is an error that wraps fs.ErrNotExist.
func (s *diskStore) open(create bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		return nil
	}
	for range 10 {
		if create {
			if err := os.Mkdir(s.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make folder of disks: %w", err)
			}
		}
		if target, err := os.Readlink(s.path); err == nil {
			return fmt.Errorf("%s is a link to %s; name a state folder there with --state-dir instead", s.path, target)
		}
		lock, err := lockDir(s.path)
		switch {
		case err == nil:
			s.lock = lock
			s.sweep()
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", s.path, daemon.ErrDisksBusy)
		case create && errors.Is(err, fs.ErrNotExist):
			continue // another server has just removed the empty folder
		}
		return err
	}
	return fmt.Errorf("lock %s: too many servers start at once", s.path)
}

// sweep removes what a killed server was making or removing.
func (s *diskStore) sweep() {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		s.log.Warn("can't look for half-made disks", "error", err)
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasPrefix(e.Name(), gonePrefix) {
			continue
		}
		if err := s.remove(filepath.Join(s.path, e.Name())); err != nil {
			s.log.Warn("can't remove a half-made disk", "name", e.Name(), "error", err)
		}
	}
}

// close lets go of the folder, and removes it when no disk is in it.
func (s *diskStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return
	}
	_ = os.Remove(s.path) // fails when there are disks
	s.lock.Close()
	s.lock = nil
}

func (s *diskStore) dir(name string) string { return filepath.Join(s.path, name) }

func checkDiskName(name string) error {
	if !diskName.MatchString(name) {
		return fmt.Errorf("bad name of a disk %q: it has lower-case letters, digits and hyphens, 100 at most", name)
	}
	return nil
}

// claim makes the caller the disk's user until it calls release: the only one,
// or one of those that read it.
func (s *diskStore) claim(ctx context.Context, name string, reads bool) (release func(), err error) {
	if release, err = s.register(name, reads); err != nil {
		return nil, err
	}
	if err := s.awaitAgent(ctx, name); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// register is claim among this server's own users.
func (s *diskStore) register(name string, reads bool) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.users[name]
	if n == aGuest || n > 0 && !reads {
		return nil, fmt.Errorf("disk %q is in use", name)
	}
	if reads {
		s.users[name] = n + 1
	} else {
		s.users[name] = aGuest
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if reads && s.users[name] > 1 {
			s.users[name]--
			return
		}
		delete(s.users, name)
	}), nil
}

// about reads what is kept with a disk; its error wraps fs.ErrNotExist when
// there is none.
func (s *diskStore) about(name string) (diskAbout, error) {
	var about diskAbout
	if _, err := os.Lstat(s.dir(name)); err != nil {
		return about, fmt.Errorf("no disk %q: %w", name, err)
	}
	text, err := readBounded(filepath.Join(s.dir(name), aboutFile), maxAboutBytes)
	if err != nil {
		return about, fmt.Errorf("%s isn't a disk: %v", s.dir(name), err) //nolint:errorlint // it must not pass for a disk that isn't there
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&about); err != nil || about.Version != aboutVersion {
		return about, fmt.Errorf("disk %q was made by another version of this program (%s)", name, filepath.Join(s.dir(name), aboutFile))
	}
	return about, nil
}

// usable reads about a disk whose files are to be used, which must have been
// made with this server's ids.
func (s *diskStore) usable(name string) (diskAbout, error) {
	about, err := s.about(name)
	if err == nil && about.IDs != s.ids {
		err = fmt.Errorf("disk %q belongs to guests of %s, and this server's are those of %s; run the server as it ran when the disk was made, or remove the disk", name, about.IDs, s.ids)
	}
	return about, err
}

// make makes a disk under a temporary name, empty or as a copy of base, for a
// guest called hostname if there is one yet. It returns its folder and the name
// of the guest that used base.
func (s *diskStore) make(ctx context.Context, base, hostname string, label []byte) (dir, was string, err error) {
	if len(label) > maxLabelBytes {
		return "", "", fmt.Errorf("the disk's label has %d bytes, over %d", len(label), maxLabelBytes)
	}
	if dir, err = os.MkdirTemp(s.path, newPrefix); err != nil {
		return "", "", err
	}
	about := diskAbout{Version: aboutVersion, IDs: s.ids}
	if base != "" {
		about, err = s.copyOf(ctx, base, dir)
		was = about.Hostname
	}
	if hostname != "" {
		about.Hostname = hostname
	}
	if err == nil {
		err = errors.Join(s.writeAbout(dir, about), writeDurably(filepath.Join(dir, labelFile), label))
	}
	if err != nil {
		return "", "", errors.Join(err, s.remove(dir))
	}
	return dir, was, nil
}

// copyOf copies a disk's files into a folder.
func (s *diskStore) copyOf(ctx context.Context, base, dir string) (diskAbout, error) {
	release, err := s.claim(ctx, base, true)
	if err != nil {
		return diskAbout{}, err
	}
	defer release()
	about, err := s.usable(base)
	if err == nil {
		err = s.copy(ctx, s.dir(base), dir)
	}
	return about, err
}

// finish gives a disk that was made its name.
func (s *diskStore) finish(dir, name string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, s.dir(name), unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("name disk %q: %w", name, err)
	}
	return syncFolder(s.path)
}

func (s *diskStore) writeAbout(dir string, about diskAbout) error {
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(dir, aboutFile), text)
}

// readBounded reads a small regular file.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is over %d bytes", name, limit)
	}
	return text, err
}

// writeDurably replaces a file at once or not at all, also when the machine
// stops. One caller at a time may write a file.
func writeDurably(name string, text []byte) error {
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
