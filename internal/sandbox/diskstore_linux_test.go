package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/processtest"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

func TestDiskLabels(t *testing.T) {
	h, state := diskHypervisor(t)
	ctx := t.Context()
	want := []daemon.Disk{{Name: "commit-1", Label: []byte("of the copy")}, {Name: "vm-1", Label: []byte("first")}}
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1", DiskLabel: []byte("first")}, "ls /label /disk.json 2>/dev/null; true")
	if err := h.CopyDisk(ctx, "vm-1", "commit-1", []byte("of the copy")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, disks(t, h)); diff != "" {
		t.Errorf("disks differ (-want +got):\n%s", diff)
	}
	t.Run("a boot doesn't change one", func(t *testing.T) {
		onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1", DiskLabel: []byte("other")}, "true")
		if diff := cmp.Diff(want, disks(t, h)); diff != "" {
			t.Errorf("disks differ (-want +got):\n%s", diff)
		}
	})
	t.Run("one is replaced", func(t *testing.T) {
		want[1].Label = bytes.Repeat([]byte{0, 255}, 1<<19)
		if err := h.LabelDisk(ctx, "vm-1", want[1].Label); err != nil {
			t.Errorf("LabelDisk() of 1 MiB = %v", err)
		}
		if got := disks(t, h); len(got) != 2 || !bytes.Equal(got[1].Label, want[1].Label) {
			t.Error("the label differs from what was written")
		}
	})
	refusals := []struct {
		name string
		call func() error
		want error
	}{
		{"a big one", func() error { return h.LabelDisk(ctx, "vm-1", make([]byte, 1<<20+1)) }, nil},
		{"a big one of a copy", func() error { return h.CopyDisk(ctx, "vm-1", "vm-2", make([]byte, 1<<20+1)) }, nil},
		{"of no disk", func() error { return h.LabelDisk(ctx, "vm-9", nil) }, fs.ErrNotExist},
		{"a copy of no disk", func() error { return h.CopyDisk(ctx, "vm-9", "vm-2", nil) }, fs.ErrNotExist},
		{"a copy over a disk", func() error { return h.CopyDisk(ctx, "vm-1", "commit-1", nil) }, fs.ErrExist},
		{"no base", func() error {
			_, err := h.Boot(ctx, daemon.GuestSpec{Hostname: "sbox-2", Disk: "vm-2", Base: "vm-9"})
			return err
		}, fs.ErrNotExist},
	}
	for _, tt := range refusals {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			err := tt.call()
			if tt.want == nil && (err == nil || !strings.Contains(err.Error(), "label has 1048577 bytes")) {
				t.Errorf("error %v, want that the label is too big", err)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	for _, name := range []string{"", "A", "a/b", "..", ".new-1", "a b", strings.Repeat("a", 101)} {
		t.Run(fmt.Sprintf("the name %.10q is refused", name), func(t *testing.T) {
			for _, err := range []error{h.LabelDisk(ctx, name, nil), h.RemoveDisk(ctx, name), h.CopyDisk(ctx, name, "vm-2", nil), h.CopyDisk(ctx, "vm-1", name, nil)} {
				if err == nil || !strings.Contains(err.Error(), "bad name") {
					t.Errorf("error %v, want that the name is bad", err)
				}
			}
			if name == "" {
				return // stands for no disk
			}
			for _, spec := range []daemon.GuestSpec{{Disk: name}, {Base: name}} {
				if _, err := h.Boot(ctx, spec); err == nil || !strings.Contains(err.Error(), "bad name") {
					t.Errorf("Boot(%+v) = %v, want that the name is bad", spec, err)
				}
			}
		})
	}
	t.Run("a disk that isn't there is removed", func(t *testing.T) {
		if err := h.RemoveDisk(ctx, "vm-9"); err != nil {
			t.Errorf("RemoveDisk() = %v", err)
		}
	})
	if got := dirNames(t, filepath.Join(state, "disks")); !cmp.Equal(got, []string{"commit-1", "vm-1"}) {
		t.Errorf("the folder of disks has %q, want the two alone", got)
	}
}

func dirNames(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOneServerHasTheDisks(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	first, second := hypervisorAt(t, sandbox.Config{StateDir: state}), hypervisorAt(t, sandbox.Config{StateDir: state})
	ctx := t.Context()
	for _, h := range []*sandbox.Hypervisor{first, second} {
		if got := disks(t, h); len(got) > 0 {
			t.Errorf("Disks() = %v, want none", got)
		}
	}
	if _, err := os.Stat(filepath.Join(state, "disks")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the folder of disks = %v, want that there is none before the first disk", err)
	}
	onDisk(t, first, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	tests := []struct {
		name string
		call func() error
	}{
		{"Disks", func() error { _, err := second.Disks(ctx); return err }},
		{"CopyDisk", func() error { return second.CopyDisk(ctx, "vm-1", "vm-2", nil) }},
		{"LabelDisk", func() error { return second.LabelDisk(ctx, "vm-1", nil) }},
		{"RemoveDisk", func() error { return second.RemoveDisk(ctx, "vm-1") }},
		{"Boot of a disk", func() error { _, err := second.Boot(ctx, daemon.GuestSpec{Disk: "vm-2"}); return err }},
		{"Boot of a base", func() error { _, err := second.Boot(ctx, daemon.GuestSpec{Base: "vm-1"}); return err }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); !errors.Is(err, daemon.ErrDisksBusy) {
				t.Errorf("%s = %v, want %v", tt.name, err, daemon.ErrDisksBusy)
			}
		})
	}
	stop(t, boot(t, second, daemon.GuestSpec{Hostname: "sbox-1"})) // needs no disk
	closeHypervisor(t, first)
	if got := disks(t, second); len(got) != 1 {
		t.Errorf("Disks() after the first server's end = %v, want its disk", got)
	}
	onDisk(t, second, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	if err := second.RemoveDisk(ctx, "vm-1"); err != nil {
		t.Errorf("RemoveDisk() = %v", err)
	}
	closeHypervisor(t, second)
	if _, err := os.Stat(filepath.Join(state, "disks")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the folder of disks = %v, want that it goes with the last disk", err)
	}
}

func TestABootThatFailsRemovesOnlyANewDisk(t *testing.T) {
	h, state := diskHypervisor(t)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "echo kept >/root/f")
	bad := []daemon.SecretFile{{Name: "no/name"}}
	for _, spec := range []daemon.GuestSpec{{Disk: "vm-1"}, {Disk: "vm-2"}, {Disk: "vm-3", Base: "vm-1"}, {Base: "vm-1"}} {
		spec.Hostname, spec.Secrets = "sbox-2", bad
		if g, err := h.Boot(t.Context(), spec); err == nil {
			stop(t, g)
			t.Fatalf("Boot(%+v) succeeds, want an error", spec)
		}
	}
	if got := dirNames(t, filepath.Join(state, "disks")); !cmp.Equal(got, []string{"vm-1"}) {
		t.Errorf("the folder of disks has %q, want vm-1 alone", got)
	}
	if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "cat /root/f; cat /etc/hostname"); got != "kept\nsbox-1\n" {
		t.Errorf("the disk has %q, want what it had", got)
	}
}

func TestACopyEndsWithItsContext(t *testing.T) {
	h, state := diskHypervisor(t)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "mkdir /srv/d; cd /srv/d; seq 1 1500 | xargs touch")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- h.CopyDisk(ctx, "vm-1", "vm-2", nil) }()
	for {
		if begun, _ := filepath.Glob(filepath.Join(state, "disks", ".new-*", "root")); len(begun) > 0 {
			break
		}
		select {
		case err := <-result:
			t.Fatalf("CopyDisk() = %v before it could be cancelled", err)
		case <-time.After(time.Millisecond): // another process copies: its progress can only be polled
		}
	}
	wantNiceCopies(t)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("CopyDisk() = %v, want %v", err, context.Canceled)
	}
	if got := dirNames(t, filepath.Join(state, "disks")); !cmp.Equal(got, []string{"vm-1"}) {
		t.Errorf("the folder of disks has %q, want vm-1 alone", got)
	}
	if err := h.CopyDisk(t.Context(), "vm-1", "vm-2", nil); err != nil {
		t.Errorf("CopyDisk() after that = %v", err)
	}
}

// wantNiceCopies fails the test unless copies are under way, which give way to
// guests.
func wantNiceCopies(t *testing.T) {
	t.Helper()
	copies := 0
	for pid := range processtest.Below(os.Getpid()) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // what has just ended has none
		if string(name) != "cp\n" {
			continue
		}
		copies++
		if left, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || left != 20-19 {
			t.Errorf("a copy has the nice value %d, %v, want 19", 20-left, err)
		}
	}
	if copies == 0 {
		t.Error("no cp is running, want one")
	}
}

func TestADiskOfOtherIDsIsRefused(t *testing.T) {
	h, state := diskHypervisor(t)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	for name, about := range map[string]string{
		"belongs to guests of user 4711": `{"version":1,"ids":"user 4711 with one id","hostname":"sbox-1"}`,
		"another version":                `{"version":2,"ids":"root","hostname":"sbox-1"}`,
	} {
		if err := os.WriteFile(filepath.Join(state, "disks", "vm-1", "disk.json"), []byte(about), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := h.Boot(t.Context(), daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"})
		for call, err := range map[string]error{"Boot": err, "CopyDisk": h.CopyDisk(t.Context(), "vm-1", "vm-2", nil)} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of a disk of %s = %v, want one with %q", call, about, err, name)
			}
		}
	}
	if err := os.Remove(filepath.Join(state, "disks", "vm-1", "disk.json")); err != nil {
		t.Fatal(err)
	}
	for call, err := range map[string]error{"RemoveDisk": h.RemoveDisk(t.Context(), "vm-1"), "LabelDisk": h.LabelDisk(t.Context(), "vm-1", nil)} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a folder that isn't a disk = %v, want one that says so", call, err)
		}
	}
	if err := os.WriteFile(filepath.Join(state, "disks", "vm-1", "disk.json"), []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADiskWaitsForAKilledServersGuest(t *testing.T) {
	h, state := diskHypervisor(t)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	dying := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	note := func(started string) {
		t.Helper()
		text := fmt.Sprintf("%d %s\n", dying.Process.Pid, started)
		if err := os.WriteFile(filepath.Join(state, "disks", "vm-1", "agent"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	note("1")
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true") // its number is another process's

	note(processtest.Below(os.Getpid())[dying.Process.Pid])
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for call, err := range map[string]error{"CopyDisk": h.CopyDisk(ctx, "vm-1", "vm-2", nil), "RemoveDisk": h.RemoveDisk(ctx, "vm-1")} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s while a guest of a killed server ends = %v, want %v", call, err, context.DeadlineExceeded)
		}
	}
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- errors.Join(dying.Process.Kill(), dying.Wait())
	}()
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
	if err := <-ended; err == nil {
		t.Error("Wait() = nil, want the kill")
	}
}

func TestALinkIsNoFolderOfDisks(t *testing.T) {
	h, state := diskHypervisor(t)
	link := filepath.Join(state, "disks")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Disks(t.Context()); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("Disks() = %v, want one that names --state-dir", err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
}

func TestAKilledServersDisks(t *testing.T) {
	newHypervisor(t) // skips where there is no sandbox
	state := filepath.Join(t.TempDir(), "state")
	killServer(t, state, serverDisksEnv+"=1")
	for _, name := range []string{".new-half", ".gone-half", "Foreign", "foreign"} {
		if err := os.MkdirAll(filepath.Join(state, "disks", name, "root"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	h := hypervisorAt(t, sandbox.Config{StateDir: state, Log: slog.New(slog.NewTextHandler(&log, nil))})
	// The foreign folder takes its name: nothing can be made there.
	want := []daemon.Disk{{Name: "foreign"}, {Name: "vm-1", Label: []byte("label 1")}, {Name: "vm-2", Label: []byte("label 2")}}
	if diff := cmp.Diff(want, disks(t, h)); diff != "" {
		t.Errorf("disks after the kill differ (-want +got):\n%s", diff)
	}
	if got := dirNames(t, filepath.Join(state, "disks")); !cmp.Equal(got, []string{"Foreign", "foreign", "vm-1", "vm-2"}) {
		t.Errorf("the folder of disks has %q, want all but what was half made", got)
	}
	if !strings.Contains(log.String(), "name=foreign") {
		t.Errorf("the log has %q, want the foreign folder", log.String())
	}
	for _, d := range want[1:] {
		if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: d.Name}, "cat /etc/f /home/ubuntu/f; echo more >>/etc/f"); got != "etc\nhome\n" {
			t.Errorf("%s has %q, want what the killed server's guest wrote", d.Name, got)
		}
	}
	for _, name := range []string{"Foreign", "foreign"} {
		if err := os.RemoveAll(filepath.Join(state, "disks", name)); err != nil {
			t.Fatal(err)
		}
	}
	removeDisks(t, h)
	closeHypervisor(t, h)
}
