package sandbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

func TestGuestRootIsContained(t *testing.T) {
	before, err := os.Stat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	call := func(numbers map[string]int, args string) string {
		return fmt.Sprintf(`perl -e 'print syscall(%d, %s) < 0 ? int($!) : "ok"'`, numbers[runtime.GOARCH], args)
	}
	const eperm = "1"
	tests := []struct {
		name   string
		script string
		want   string
	}{
		{"the host's devices keep their mode", "chmod 0600 /dev/null; touch -d 2001-01-01 /dev/null; true", ""},
		{"no device can be made", "mknod /tmp/d b 8 0 2>/dev/null; echo $?", "1\n"},
		{"no file system can be mounted", "mount -t tmpfs x /mnt 2>/dev/null || echo refused", "refused\n"},
		{"no user namespace can be made", "unshare -Ur true 2>/dev/null || echo refused", "refused\n"},
		{"keys are out of reach", call(map[string]int{"amd64": 250, "arm64": 219}, "0, -3, 0"), eperm},
		{"bpf is out of reach", call(map[string]int{"amd64": 321, "arm64": 280}, "0, 0, 0"), eperm},
		{"calls of a foreign architecture don't exist", call(map[string]int{"amd64": 0x40000000, "arm64": 100000}, "0"), "38"},
		{"the agent's memory is out of reach", "head -c1 /proc/1/mem 2>&1 | grep -c denied; readlink /proc/1/root || echo denied", "1\ndenied\n"},
		{"no raw socket can be opened", `perl -MSocket -e 'print socket(my $s, PF_INET, SOCK_RAW, 1) ? "open" : "refused"'`, "refused"},
		{"kernel memory is empty", "cat /proc/kcore /proc/slabinfo /proc/kpageflags 2>/dev/null | wc -c", "0\n"},
		{"the cgroup's name is the guest's own", "cut -d: -f3 /proc/self/cgroup | sort -u", "/\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, g, true, tt.script); got.stdout != tt.want {
				t.Errorf("%q printed %q (stderr %q), want %q", tt.script, got.stdout, got.stderr, tt.want)
			}
		})
	}
	after, err := os.Stat("/dev/null")
	if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the host's /dev/null is %v of %v after a guest's chmod (%v), want %v of %v", after.Mode(), after.ModTime(), err, before.Mode(), before.ModTime())
	}
}

func TestFifosDontBlockTheAgent(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	run(t, g, true, "mkfifo /tmp/fifo; rm /etc/passwd; mkfifo /etc/passwd")
	if got := run(t, g, false, "echo on"); got.stdout != "on\n" {
		t.Errorf("a command prints %q, want on", got.stdout)
	}
	if _, err := g.Files().ReadDir(t.Context(), "/tmp/fifo", 0); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("ReadDir of a fifo = %v, want %v", err, syscall.ENOTDIR)
	}
	if _, err := g.Files().Create(t.Context(), "/tmp/fifo/x", daemon.FileAttr{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Create below a fifo = %v, want %v", err, syscall.ENOTDIR)
	}
}

func TestThawLeavesWhatHadStoppedItself(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	state := func() string {
		return strings.TrimSpace(run(t, g, false, "sed 's/.*) //' /proc/$(cat /tmp/pid)/stat | cut -c1").stdout)
	}
	run(t, g, false, "setsid sleep 1000 >/dev/null 2>&1 & echo $! >/tmp/pid; kill -STOP $!; until grep -q ') T' /proc/$!/stat; do sleep 0.01; done")
	for range 2 {
		if err := errors.Join(g.Freeze(t.Context()), g.Freeze(t.Context()), g.Thaw(t.Context()), g.Thaw(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if got := state(); got != "T" {
		t.Errorf("a process that was stopped before is in state %q after Thaw, want T", got)
	}
}

func TestAnEndedGuestSaysSo(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"kill", "-SEGV", "1"}, UID: new(uint32)})
	switch {
	case err == nil:
		if _, err := p.Wait(); err != nil {
			t.Errorf("Wait() = %v", err)
		}
	case !errors.Is(err, daemon.ErrEnded): // it may be gone before it can say that it has started
		t.Fatal(err)
	}
	<-g.Done()
	if _, err := g.Files().Stat(t.Context(), "/"); !errors.Is(err, daemon.ErrEnded) {
		t.Errorf("Stat = %v, want %v", err, daemon.ErrEnded)
	}
	if _, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"true"}}); !errors.Is(err, daemon.ErrEnded) {
		t.Errorf("Start = %v, want %v", err, daemon.ErrEnded)
	}
	if err := g.Freeze(t.Context()); !errors.Is(err, daemon.ErrEnded) {
		t.Errorf("Freeze = %v, want %v", err, daemon.ErrEnded)
	}
}

func TestTheStateFolderKeepsWhatIsntOurs(t *testing.T) {
	newHypervisor(t) // skips where there is no sandbox
	state := t.TempDir()
	foreign := []string{"run/important/thesis", "note.txt", "slicervm-mcp-run-note.txt"}
	for _, name := range foreign {
		file := filepath.Join(state, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(state, "slicervm-mcp-run-dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := sandbox.New(sandbox.Config{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(state, "slicervm-mcp-run-dead")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead server's folder is left: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(state, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}
