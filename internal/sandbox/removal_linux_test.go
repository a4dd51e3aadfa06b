package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// nested makes so many folders in each other in a folder of the guest's, with a
// file in the last one.
func nested(dir string, levels int) string {
	return fmt.Sprintf(`perl -e 'chdir "%s" or die; for (1..%d) { mkdir "d" or die; chdir "d" or die } open F, ">f" or die; chmod 0, "."'`, dir, levels)
}

// fewDescriptors bounds this process's descriptors during the test.
func fewDescriptors(t *testing.T, limit uint64) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
}

func TestNestedFoldersGoWithTheVM(t *testing.T) {
	s := newService(t)
	fewDescriptors(t, 200)
	vm := s.create()
	s.sh(vm, nested("/home/ubuntu", 6000)+" && "+nested("/tmp", 6000))
	if got := s.call(http.MethodDelete, "/hostgroup/sbox/nodes/"+vm, nil); got.status != http.StatusOK {
		t.Errorf("DELETE of a VM with 6,000 folders in each other = %d %.300s, want 200", got.status, got.body)
	}
}

func TestNestedFoldersOnADisk(t *testing.T) {
	h, state := diskHypervisor(t)
	fewDescriptors(t, 200)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, nested("/home/ubuntu", 6000))
	t.Run("don't stop a boot", func(t *testing.T) {
		onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "test -d /home/ubuntu/d/d/d")
	})
	t.Run("are too deep for a copy, whose error is plain", func(t *testing.T) {
		err := h.CopyDisk(t.Context(), "vm-1", "vm-2", nil)
		if err == nil || !strings.Contains(err.Error(), "nested too deep") || strings.Contains(err.Error(), state) || len(err.Error()) > 300 {
			t.Errorf("CopyDisk() = %.1000v, want a short one without the state folder that says that folders are nested too deep", err)
		}
		if got := dirNames(t, filepath.Join(state, "disks")); !cmp.Equal(got, []string{"vm-1"}) {
			t.Errorf("the folder of disks has %q, want vm-1 alone", got)
		}
	})
	t.Run("go with the disk", func(t *testing.T) {
		if err := h.RemoveDisk(t.Context(), "vm-1"); err != nil {
			t.Errorf("RemoveDisk() = %v", err)
		}
		if got := dirNames(t, filepath.Join(state, "disks")); len(got) > 0 {
			t.Errorf("the folder of disks has %q, want nothing", got)
		}
	})
}

// wantNoDisks fails the test when the last disk's removal left something.
func wantNoDisks(t *testing.T, state string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(state, "disks")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the folder of disks = %v, want that it goes with the last disk", err)
	}
}

func TestADiskIsGoneBeforeItsFilesAre(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	var log strings.Builder
	h := hypervisorAt(t, sandbox.Config{StateDir: state, Log: slog.New(slog.NewTextHandler(&log, nil))})
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-2"}, "true")
	h.RemoveDisksWith(func(string, func(string) error) error { return errors.New("refused by the test") })
	if err := h.RemoveDisk(t.Context(), "vm-1"); err != nil {
		t.Errorf("RemoveDisk() = %v, want nil: there is no such disk any more", err)
	}
	if diff := cmp.Diff([]daemon.Disk{{Name: "vm-2", Label: []byte{}}}, disks(t, h)); diff != "" {
		t.Errorf("disks differ (-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), "refused by the test") {
		t.Errorf("the log has %q, want why files are left", log.String())
	}
	closeHypervisor(t, h)

	h = hypervisorAt(t, sandbox.Config{StateDir: state})
	removeDisks(t, h)
	closeHypervisor(t, h)
	wantNoDisks(t, state) // the next server has removed what was left
}

func TestCloseWaitsForDisks(t *testing.T) {
	tests := []struct {
		name string
		call func(h *sandbox.Hypervisor) error // removes files
		want error
	}{
		{"that are removed", func(h *sandbox.Hypervisor) error { return h.RemoveDisk(context.Background(), "vm-1") }, nil},
		{"that are copied", func(h *sandbox.Hypervisor) error { return h.CopyDisk(context.Background(), "vm-9", "vm-2", nil) }, fs.ErrNotExist},
		{"of boots that fail", func(h *sandbox.Hypervisor) error {
			_, err := h.Boot(context.Background(), daemon.GuestSpec{Disk: "vm-2", Base: "vm-9"})
			return err
		}, fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			h := hypervisorAt(t, sandbox.Config{StateDir: state})
			onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
			next := hypervisorAt(t, sandbox.Config{StateDir: state})
			closed := make(chan error, 1)
			h.RemoveDisksWith(func(dir string, removeAll func(string) error) error {
				go func() { closed <- h.Close() }()
				<-time.After(200 * time.Millisecond) // that nothing happens can't be waited for
				if _, err := next.Disks(context.Background()); !errors.Is(err, daemon.ErrDisksBusy) {
					t.Errorf("Disks() of another server while Close has to wait = %v, want %v", err, daemon.ErrDisksBusy)
				}
				return removeAll(dir)
			})
			if err := tt.call(h); !errors.Is(err, tt.want) {
				t.Errorf("the call that Close waits for = %v, want %v", err, tt.want)
			}
			if err := <-closed; err != nil {
				t.Errorf("Close() = %v", err)
			}
			removeDisks(t, next)
			closeHypervisor(t, next)
			wantNoDisks(t, state)
		})
	}
}

func TestAClosedHypervisorRefuses(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	h := hypervisorAt(t, sandbox.Config{StateDir: state})
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	closeHypervisor(t, h)
	ctx := t.Context()
	tests := []struct {
		name string
		call func() error
	}{
		{"Disks", func() error { _, err := h.Disks(ctx); return err }},
		{"CopyDisk", func() error { return h.CopyDisk(ctx, "vm-1", "vm-2", nil) }},
		{"LabelDisk", func() error { return h.LabelDisk(ctx, "vm-1", nil) }},
		{"RemoveDisk", func() error { return h.RemoveDisk(ctx, "vm-1") }},
		{"Boot", func() error { _, err := h.Boot(ctx, daemon.GuestSpec{Hostname: "sbox-2"}); return err }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); err == nil || !strings.Contains(err.Error(), "has been closed") {
				t.Errorf("%s = %v, want that the hypervisor has been closed", tt.name, err)
			}
		})
	}
	next := hypervisorAt(t, sandbox.Config{StateDir: state}) // has the disks: nobody holds them
	removeDisks(t, next)
	closeHypervisor(t, next)
	wantNoDisks(t, state)
}
