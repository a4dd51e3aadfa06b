package slicertest

import (
	"context"
	"errors"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Disks implements daemon.Hypervisor.
func (*machines) Disks(context.Context) ([]daemon.Disk, error) { return nil, nil }

// CopyDisk implements daemon.Hypervisor.
func (*machines) CopyDisk(context.Context, string, string, []byte) error {
	return errors.ErrUnsupported
}

// LabelDisk implements daemon.Hypervisor.
func (*machines) LabelDisk(context.Context, string, []byte) error { return errors.ErrUnsupported }

// RemoveDisk implements daemon.Hypervisor.
func (*machines) RemoveDisk(context.Context, string) error { return errors.ErrUnsupported }
