package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Disks implements daemon.Hypervisor. A folder without disks isn't made.
func (h *Hypervisor) Disks(context.Context) ([]daemon.Disk, error) {
	done, err := h.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	s := h.disks
	err = s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var disks []daemon.Disk
	for _, e := range entries {
		if checkDiskName(e.Name()) != nil {
			continue
		}
		// What has a disk's name takes that name, also when it is none.
		_, err := s.about(e.Name())
		var label []byte
		if err == nil {
			label, err = readBounded(filepath.Join(s.dir(e.Name()), labelFile), maxLabelBytes)
		}
		if err != nil {
			s.log.Warn("a disk's label can't be read", "name", e.Name(), "error", err)
			label = nil
		}
		disks = append(disks, daemon.Disk{Name: e.Name(), Label: label})
	}
	return disks, nil
}

// CopyDisk implements daemon.Hypervisor.
func (h *Hypervisor) CopyDisk(ctx context.Context, from, to string, label []byte) error {
	done, err := h.begin()
	if err != nil {
		return err
	}
	defer done()
	s := h.disks
	if err := errors.Join(checkDiskName(from), checkDiskName(to)); err != nil {
		return err
	}
	if err := s.open(false); err != nil {
		return fmt.Errorf("copy disk %q: %w", from, err)
	}
	release, err := s.claim(ctx, to, false)
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Lstat(s.dir(to)); err == nil {
		return fmt.Errorf("copy disk %q to %q: %w", from, to, fs.ErrExist)
	}
	dir, _, err := s.make(ctx, from, "", label)
	if err != nil {
		return fmt.Errorf("copy disk %q: %w", from, err)
	}
	if err := s.finish(dir, to); err != nil {
		return errors.Join(err, s.remove(dir))
	}
	return nil
}

// LabelDisk implements daemon.Hypervisor.
func (h *Hypervisor) LabelDisk(_ context.Context, name string, label []byte) error {
	done, err := h.begin()
	if err != nil {
		return err
	}
	defer done()
	s := h.disks
	if err := checkDiskName(name); err != nil {
		return err
	}
	if len(label) > maxLabelBytes {
		return fmt.Errorf("the disk's label has %d bytes, over %d", len(label), maxLabelBytes)
	}
	if err := s.open(false); err != nil {
		return fmt.Errorf("label disk %q: %w", name, err)
	}
	s.labels.Lock()
	defer s.labels.Unlock()
	if _, err := s.about(name); err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(s.dir(name), labelFile), label); err != nil {
		return fmt.Errorf("label disk %q: %w", name, err)
	}
	return nil
}

// RemoveDisk implements daemon.Hypervisor.
func (h *Hypervisor) RemoveDisk(ctx context.Context, name string) error {
	done, err := h.begin()
	if err != nil {
		return err
	}
	defer done()
	s := h.disks
	if err := checkDiskName(name); err != nil {
		return err
	}
	err = s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	release, err := s.claim(ctx, name, false)
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.about(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	gone, err := os.MkdirTemp(s.path, gonePrefix)
	if err != nil {
		return fmt.Errorf("remove disk %q: %w", name, err)
	}
	if err := unix.Rename(s.dir(name), filepath.Join(gone, name)); err != nil {
		return errors.Join(fmt.Errorf("remove disk %q: %w", name, err), os.Remove(gone))
	}
	// The disk is gone, whatever becomes of its files.
	if err := errors.Join(syncFolder(s.path), s.remove(gone)); err != nil {
		s.log.Warn("files of a removed disk are left until the next start", "name", name, "error", err)
	}
	return nil
}

// heldDisk is where a guest's files are while it runs.
type heldDisk struct {
	dir  string // has root and layers
	used bool   // a guest has been on it before
	was  string // that guest's hostname

	// What follows is a kept disk's alone.
	store   *diskStore
	name    string
	made    bool // dir is a temporary name
	release func()
}

// hold finds or makes the disk of a guest whose own folder is dir.
func (s *diskStore) hold(ctx context.Context, spec *daemon.GuestSpec, dir string) (*heldDisk, error) {
	if spec.Disk == "" && spec.Base == "" {
		return &heldDisk{dir: dir}, nil
	}
	if spec.Base != "" {
		if err := checkDiskName(spec.Base); err != nil {
			return nil, err
		}
	}
	if spec.Disk == "" {
		if err := s.open(false); err != nil {
			return nil, fmt.Errorf("copy disk %q: %w", spec.Base, err)
		}
		about, err := s.copyOf(ctx, spec.Base, dir)
		if err != nil {
			return nil, fmt.Errorf("copy disk %q: %w", spec.Base, err)
		}
		return &heldDisk{dir: dir, used: true, was: about.Hostname}, nil
	}
	if err := checkDiskName(spec.Disk); err != nil {
		return nil, err
	}
	if err := s.open(true); err != nil {
		return nil, err
	}
	release, err := s.claim(ctx, spec.Disk, false)
	if err != nil {
		return nil, err
	}
	d := &heldDisk{store: s, name: spec.Disk, dir: s.dir(spec.Disk), release: release}
	about, err := s.usable(spec.Disk)
	switch {
	case err == nil:
		// What has a name has been booted, or is a copy of what has.
		d.used, d.was = true, about.Hostname
		if d.was != spec.Hostname { // known before the boot changes files
			about.Hostname = spec.Hostname
			err = s.writeAbout(d.dir, about)
		}
	case errors.Is(err, fs.ErrNotExist):
		d.made, d.used = true, spec.Base != ""
		d.dir, d.was, err = s.make(ctx, spec.Base, spec.Hostname, spec.DiskLabel)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("disk %q: %w", spec.Disk, err)
	}
	return d, nil
}

// keep gives a disk that was made for a guest its name, now that the guest
// runs.
func (d *heldDisk) keep() error {
	if !d.made {
		return nil
	}
	if err := d.store.finish(d.dir, d.name); err != nil {
		return err
	}
	d.made, d.dir = false, d.store.dir(d.name)
	return nil
}

// drop lets go of the disk of a guest that doesn't run, and removes it when it
// was made for that guest.
func (d *heldDisk) drop() error {
	if d.name == "" {
		return nil
	}
	defer d.release()
	if d.made {
		return d.store.remove(d.dir)
	}
	return d.store.forgetAgent(d.name)
}
