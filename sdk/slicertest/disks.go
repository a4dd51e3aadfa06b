package slicertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// maxLabel is how long a disk's label may be, in bytes.
const maxLabel = 1 << 20

var (
	diskName = regexp.MustCompile(`^[a-z0-9-]{1,100}$`)

	errDiskInUse = errors.New("a guest uses the disk")
)

// disk is what is kept of a guest's files. While a guest uses it, root is what
// they were when it booted.
type disk struct {
	root  *node
	label []byte
	used  bool
}

// checkDisk refuses a name and a label that no disk has.
func checkDisk(name string, label []byte) error {
	if !diskName.MatchString(name) {
		return fmt.Errorf("%q is no name of a disk", name)
	}
	if len(label) > maxLabel {
		return fmt.Errorf("label of disk %q: %d bytes are more than %d", name, len(label), maxLabel)
	}
	return nil
}

// Disks implements daemon.Hypervisor.
func (m *machines) Disks(context.Context) ([]daemon.Disk, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]daemon.Disk, 0, len(m.disks))
	for _, name := range slices.Sorted(maps.Keys(m.disks)) {
		list = append(list, daemon.Disk{Name: name, Label: slices.Clone(m.disks[name].label)})
	}
	return list, nil
}

// CopyDisk implements daemon.Hypervisor.
func (m *machines) CopyDisk(_ context.Context, from, to string, label []byte) error {
	if err := checkDisk(to, label); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch source := m.disks[from]; {
	case source == nil:
		return fmt.Errorf("copy disk %q: %w", from, fs.ErrNotExist)
	case source.used:
		return fmt.Errorf("copy disk %q: %w", from, errDiskInUse)
	case m.disks[to] != nil:
		return fmt.Errorf("copy disk %q to %q: %w", from, to, fs.ErrExist)
	default:
		m.disks[to] = &disk{root: source.root.clone(), label: slices.Clone(label)}
	}
	return nil
}

// LabelDisk implements daemon.Hypervisor.
func (m *machines) LabelDisk(_ context.Context, name string, label []byte) error {
	if err := checkDisk(name, label); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disks[name] == nil {
		return fmt.Errorf("label disk %q: %w", name, fs.ErrNotExist)
	}
	m.disks[name].label = slices.Clone(label)
	return nil
}

// RemoveDisk implements daemon.Hypervisor.
func (m *machines) RemoveDisk(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.disks[name]; d != nil && d.used {
		return fmt.Errorf("remove disk %q: %w", name, errDiskInUse)
	}
	delete(m.disks, name)
	return nil
}

// insert gives a guest that boots its disk. What is on a disk that is there is
// put into the guest's tree; a new one begins as its base. eject must be called
// when the guest is not booted.
func (m *machines) insert(spec daemon.GuestSpec, tree *memTree) (eject func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	root, d := tree.root, m.disks[spec.Disk]
	switch {
	case d != nil && d.used:
		return nil, fmt.Errorf("disk %q: %w", spec.Disk, errDiskInUse)
	case d != nil:
		root = d.root.clone()
	case spec.Base != "" && m.disks[spec.Base] == nil:
		return nil, fmt.Errorf("base %q: %w", spec.Base, fs.ErrNotExist)
	case spec.Base != "":
		root = m.disks[spec.Base].root.clone()
	}
	tree.root, tree.used = root, root.bytes()
	if spec.Disk == "" {
		return func() {}, nil
	}
	made := d == nil
	if made {
		if err := checkDisk(spec.Disk, spec.DiskLabel); err != nil {
			return nil, err
		}
		d = &disk{root: root.clone(), label: slices.Clone(spec.DiskLabel)}
		m.disks[spec.Disk] = d
	}
	d.used = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		d.used = false
		if made {
			delete(m.disks, spec.Disk)
		}
	}, nil
}

// keep puts what is in g's tree on its disk, but for what lies below /run,
// which is memory. It does so once.
func (m *machines) keep(g *guest) {
	g.tree.mu.Lock()
	root := g.tree.root.clone()
	g.tree.mu.Unlock()
	delete(root.children, "run")
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.disks[g.disk]; d != nil && m.guests[g.hostname] == g {
		d.root, d.used = root, false
	}
}

// clone is a copy of n and all below it. The data is shared, as it is never
// changed.
func (n *node) clone() *node {
	c := *n
	if n.children != nil {
		c.children = make(map[string]*node, len(n.children))
		for name, child := range n.children {
			c.children[name] = child.clone()
		}
	}
	return &c
}
