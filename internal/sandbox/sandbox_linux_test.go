package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// openHypervisor makes a hypervisor that the caller closes, or skips where the
// machine has no namespaces for it. SLICERVM_REQUIRE_SANDBOX=1 makes that a
// failure. state is the folder under which it works.
func openHypervisor(t testing.TB) (h *sandbox.Hypervisor, state string) {
	t.Helper()
	state = filepath.Join(t.TempDir(), "state")
	h, err := sandbox.New(sandbox.Config{StateDir: state})
	if err != nil {
		skipWithoutSandbox(t, err)
	}
	return h, state
}

func skipWithoutSandbox(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" {
		t.Fatalf("New() = %v, want a hypervisor: SLICERVM_REQUIRE_SANDBOX is set", err)
	}
	t.Skipf("no sandbox on this machine: %v", err)
}

// newHypervisor makes a hypervisor that ends with the test.
func newHypervisor(t testing.TB) *sandbox.Hypervisor {
	t.Helper()
	h, state := openHypervisor(t)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		wantNoState(t, state)
	})
	return h
}

// wantNoState fails the test when a closed hypervisor left its folder.
func wantNoState(t testing.TB, state string) {
	t.Helper()
	if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state folder is left after Close: %v", err)
	}
}

func boot(t testing.TB, h *sandbox.Hypervisor, spec daemon.GuestSpec) daemon.Guest {
	t.Helper()
	g, err := h.Boot(t.Context(), spec)
	if err != nil {
		t.Fatalf("Boot(%q) = %v", spec.Hostname, err)
	}
	t.Cleanup(func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	})
	return g
}

type result struct {
	stdout, stderr string
	status         daemon.ExitStatus
}

// run runs a shell script in a guest, as root if asRoot.
func run(t testing.TB, g daemon.Guest, asRoot bool, script string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := &daemon.Command{Argv: []string{"/bin/sh", "-c", script}, Stdout: &out, Stderr: &errs}
	if asRoot {
		cmd.UID = new(uint32)
	}
	p, err := g.Start(t.Context(), cmd)
	if err != nil {
		t.Fatalf("Start(%q) = %v", script, err)
	}
	status, err := p.Wait()
	if err != nil {
		t.Fatalf("Wait(%q) = %v", script, err)
	}
	return result{out.String(), errs.String(), status}
}

func TestGuestIsItsOwnMachine(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	tests := []struct {
		name   string
		asRoot bool
		script string
		want   string
	}{
		{"hostname is the VM's", false, "hostname; cat /etc/hostname", "sbox-1\nsbox-1\n"},
		{"the ordinary user is ubuntu", false, "id -un; id -u; id -g; echo $HOME; pwd", "ubuntu\n1000\n1000\n/home/ubuntu\n/home/ubuntu\n"},
		{"root is root", true, "id -un; id -u; echo $HOME", "root\n0\n/root\n"},
		{"no folder of the host's is there", true, "ls /home /srv /mnt /media; ls /root", "/home:\nubuntu\n\n/media:\n\n/mnt:\n\n/srv:\n"},
		{"no account of the host's is there", true, "grep -c : /etc/shadow", "2\n"},
		{"the first process is the agent", false, "tr '\\0' ' ' </proc/1/cmdline 2>/dev/null | cut -d' ' -f1", "slicer-agent\n"},
		{"the ordinary user can write at home", false, "echo x >~/f && cat ~/f", "x\n"},
		{"system folders can be written by root", true, "echo x >/usr/local/bin/f && cat /usr/local/bin/f && rm /usr/local/bin/f", "x\n"},
		{"devices work", false, "echo x >/dev/null; head -c 4 /dev/zero | wc -c; test -c /dev/urandom && echo random", "4\nrandom\n"},
		{"sysctls are read-only", true, "echo 1 >/proc/sys/vm/swappiness; echo $?", "2\n"},
		{"nothing of the server's environment is there", false, "env | sort | cut -d= -f1 | grep -vx -e _ -e PWD -e OLDPWD -e SHLVL | tr '\\n' ' '", "HOME LANG LOGNAME PATH SHELL USER "},
		{"no_new_privs is set", true, "grep NoNewPrivs /proc/self/status | cut -f2", "1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, g, tt.asRoot, tt.script); got.stdout != tt.want {
				t.Errorf("%q printed %q (stderr %q), want %q", tt.script, got.stdout, got.stderr, tt.want)
			}
		})
	}
}

func TestGuestsInheritNoDescriptor(t *testing.T) {
	leaked, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if got := run(t, g, true, "ls /proc/self/fd | tr '\\n' ' '").stdout; got != "0 1 2 3 " {
		t.Errorf("a command has the descriptors %q, want its streams and the listed folder", got)
	}
}

func TestGuestsAreApart(t *testing.T) {
	h := newHypervisor(t)
	a := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	b := boot(t, h, daemon.GuestSpec{Hostname: "sbox-2"})
	run(t, a, true, "echo mine >/usr/local/share/only-in-a; echo mine >/tmp/only-in-a")
	if got := run(t, b, true, "ls /usr/local/share/only-in-a /tmp/only-in-a 2>/dev/null"); got.stdout != "" {
		t.Errorf("another guest sees %q", got.stdout)
	}
	if _, err := os.Stat("/usr/local/share/only-in-a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat on the host = %v, want that it doesn't exist", err)
	}
}

func TestProcessesSeeOnlyTheirOwn(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	got := run(t, g, true, `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null | cut -c1-12; done`)
	for line := range strings.Lines(got.stdout) {
		line = strings.TrimSpace(line)
		if line != "" && line != "slicer-agent" && !strings.HasPrefix(line, "/bin/sh -c") && !strings.HasPrefix(line, "tr ") && !strings.HasPrefix(line, "cut ") {
			t.Errorf("a guest sees a process %q", line)
		}
	}
}

func TestExecStreams(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	t.Run("a status", func(t *testing.T) {
		if got := run(t, g, false, "exit 42").status; got.Code != 42 || got.Signal != "" {
			t.Errorf("status = %+v, want code 42", got)
		}
	})
	t.Run("a signal", func(t *testing.T) {
		if got := run(t, g, false, "kill -KILL $$").status; got.Code != 137 || got.Signal != "KILL" {
			t.Errorf("status = %+v, want code 137 and signal KILL", got)
		}
	})
	t.Run("streams are apart", func(t *testing.T) {
		if got := run(t, g, false, "echo out; echo err >&2"); got.stdout != "out\n" || got.stderr != "err\n" {
			t.Errorf("printed %q and %q, want out and err", got.stdout, got.stderr)
		}
	})
	t.Run("a lot of output is whole", func(t *testing.T) {
		if got := run(t, g, false, "head -c 20000000 /dev/zero"); len(got.stdout) != 20_000_000 {
			t.Errorf("printed %d bytes, want 20000000", len(got.stdout))
		}
	})
	t.Run("input is read to its end", func(t *testing.T) {
		var out bytes.Buffer
		p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"wc", "-c"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20)), Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil || strings.TrimSpace(out.String()) != "1048576" {
			t.Errorf("wc -c printed %q (%v), want 1048576", out.String(), err)
		}
	})
	t.Run("input that nobody reads doesn't hang the end", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"true"}, Stdin: r})
		if err != nil {
			t.Fatal(err)
		}
		if status, err := p.Wait(); err != nil || status.Code != 0 {
			t.Errorf("Wait() = %+v, %v, want code 0", status, err)
		}
	})
	t.Run("a background child doesn't hang the end", func(t *testing.T) {
		if got := run(t, g, false, "sleep 1000 & echo started"); got.stdout != "started\n" {
			t.Errorf("printed %q, want started", got.stdout)
		}
	})
	t.Run("the group is signalled", func(t *testing.T) {
		out := &waitFor{want: "up", seen: make(chan struct{})}
		p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "sleep 1001 & echo up; wait"}, Stdout: out})
		if err != nil {
			t.Fatal(err)
		}
		<-out.seen
		if err := p.Signal("KILL"); err != nil {
			t.Errorf("Signal(KILL) = %v", err)
		}
		if status, err := p.Wait(); err != nil || status.Signal != "KILL" {
			t.Errorf("Wait() = %+v, %v, want signal KILL", status, err)
		}
		if got := run(t, g, true, "grep -l 1001 /proc/[0-9]*/cmdline 2>/dev/null | grep -v self | while read f; do tr '\\0' ' ' <$f; done | grep -c '^sleep 1001'"); strings.TrimSpace(got.stdout) != "0" {
			t.Errorf("%s processes of the group are left, want 0", strings.TrimSpace(got.stdout))
		}
	})
	t.Run("a missing program says so", func(t *testing.T) {
		_, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"no-such-program"}})
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Start(no-such-program) = %v, want one that is fs.ErrNotExist", err)
		}
	})
	t.Run("a missing folder says so", func(t *testing.T) {
		_, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"true"}, Dir: "/no/such"})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/no/such") {
			t.Errorf("Start in /no/such = %v, want one that names it", err)
		}
	})
	t.Run("environment and folder are the command's", func(t *testing.T) {
		var out bytes.Buffer
		p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "echo $A $HOME; pwd"}, Env: []string{"A=b", "HOME=/x"}, Dir: "/tmp", Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil || out.String() != "b /x\n/tmp\n" {
			t.Errorf("printed %q (%v)", out.String(), err)
		}
	})
}

// waitFor is a writer that closes seen once it was given want.
type waitFor struct {
	want string
	mu   sync.Mutex
	got  bytes.Buffer
	once sync.Once
	seen chan struct{}
}

func (w *waitFor) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got.Write(p)
	if strings.Contains(w.got.String(), w.want) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func TestFreezeStopsEveryProcess(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	out := &waitFor{want: "tick", seen: make(chan struct{})}
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "while :; do echo tick; sleep 0.01; done"}, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	<-out.seen
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatalf("Freeze() = %v", err)
	}
	// The agent answers while the rest stands still.
	entries, err := g.Files().ReadDir(t.Context(), "/proc", 0)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	for _, e := range entries {
		if e.Name == "1" || strings.Trim(e.Name, "0123456789") != "" {
			continue
		}
		r, _, err := g.Files().Open(t.Context(), "/proc/"+e.Name+"/stat")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(r)
		r.Close()
		if _, rest, ok := strings.Cut(string(b), ") "); ok {
			states[rest[:1]]++
		}
	}
	// A process that waits for its child's exec is in D while the child is in T.
	// Those that a control group freezes keep the state that they had.
	if sandbox.FreezesInGroup(g) {
		if frozen, outside := sandbox.Frozen(g); !frozen || outside != 1 {
			t.Errorf("after Freeze the group is frozen: %v, with %d processes outside, want the agent alone there", frozen, outside)
		}
	} else if states["R"]+states["S"] != 0 || states["T"] == 0 {
		t.Errorf("process states after Freeze: %v, want only T, and D above them", states)
	}
	if err := g.Thaw(t.Context()); err != nil {
		t.Fatalf("Thaw() = %v", err)
	}
	out.mu.Lock()
	out.got.Reset()
	out.once, out.seen = sync.Once{}, make(chan struct{})
	seen := out.seen
	out.mu.Unlock()
	select {
	case <-seen:
	case <-time.After(10 * time.Second):
		t.Error("nothing is printed after Thaw")
	}
	if err := p.Signal("KILL"); err != nil {
		t.Errorf("Signal(KILL) = %v", err)
	}
	if _, err := p.Wait(); err != nil {
		t.Errorf("Wait() = %v", err)
	}
}

func TestAGuestThatEnds(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
	if status, _ := p.Wait(); status.Signal != "KILL" {
		t.Errorf("a command's status after Stop = %+v, want signal KILL", status)
	}
	<-g.Done()
	if _, err := g.Files().Stat(t.Context(), "/"); err == nil {
		t.Error("Stat after Stop succeeds, want an error")
	}
}
