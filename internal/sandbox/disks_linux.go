package sandbox

import (
	"context"
	"errors"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Disks implements daemon.Hypervisor.
func (*Hypervisor) Disks(context.Context) ([]daemon.Disk, error) { return nil, nil }

// CopyDisk implements daemon.Hypervisor.
func (*Hypervisor) CopyDisk(context.Context, string, string, []byte) error {
	return errors.ErrUnsupported
}

// LabelDisk implements daemon.Hypervisor.
func (*Hypervisor) LabelDisk(context.Context, string, []byte) error { return errors.ErrUnsupported }

// RemoveDisk implements daemon.Hypervisor.
func (*Hypervisor) RemoveDisk(context.Context, string) error { return errors.ErrUnsupported }
