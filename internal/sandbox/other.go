//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"runtime"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// RunIfInit does nothing on this system.
func RunIfInit() {}

// Hypervisor exists on Linux only.
type Hypervisor struct{}

// New returns an error: guests of namespaces need Linux.
func New(Config) (*Hypervisor, error) {
	return nil, needsLinux(runtime.GOOS)
}

// Boot is never reached: New fails.
func (*Hypervisor) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) {
	return nil, errors.ErrUnsupported
}

// Disks is never reached: New fails.
func (*Hypervisor) Disks(context.Context) ([]daemon.Disk, error) { return nil, errors.ErrUnsupported }

// CopyDisk is never reached: New fails.
func (*Hypervisor) CopyDisk(context.Context, string, string, []byte) error {
	return errors.ErrUnsupported
}

// LabelDisk is never reached: New fails.
func (*Hypervisor) LabelDisk(context.Context, string, []byte) error { return errors.ErrUnsupported }

// RemoveDisk is never reached: New fails.
func (*Hypervisor) RemoveDisk(context.Context, string) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Hypervisor) Close() error { return nil }

// RunDir is never reached: New fails.
func (*Hypervisor) RunDir() string { return "" }
