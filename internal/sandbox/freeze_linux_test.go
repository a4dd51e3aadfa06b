package sandbox_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// ticks counts what a command prints.
type ticks struct {
	mu    sync.Mutex
	n     int
	ahead chan struct{} // closed by the next one; nil is for nobody
}

func (c *ticks) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += bytes.Count(b, []byte{'\n'})
	if c.ahead != nil {
		close(c.ahead)
		c.ahead = nil
	}
	return len(b), nil
}

// wait fails the test when nothing is printed any more.
func (c *ticks) wait(t *testing.T, when string) {
	t.Helper()
	// The first may have been under way.
	for range 2 {
		c.mu.Lock()
		if c.ahead == nil {
			c.ahead = make(chan struct{})
		}
		ahead := c.ahead
		c.mu.Unlock()
		select {
		case <-ahead:
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing is printed %s", when)
		}
	}
}

// ticking starts a command that prints for ever.
func ticking(t *testing.T, g daemon.Guest) *ticks {
	t.Helper()
	c := &ticks{}
	if _, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "while :; do echo; sleep 0.01; done"}, Stdout: c}); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "at the start")
	return c
}

// wantStopped fails the test when one of a guest's processes isn't stopped. One
// that waits for its child's exec is in D.
func wantStopped(t *testing.T, g daemon.Guest) {
	t.Helper()
	entries, err := g.Files().ReadDir(t.Context(), "/proc", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == "1" || strings.Trim(e.Name, "0123456789") != "" {
			continue
		}
		r, _, err := g.Files().Open(t.Context(), "/proc/"+e.Name+"/stat")
		if err != nil {
			continue
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(r) // one that ends while it is read is none
		r.Close()
		if _, rest, ok := strings.Cut(b.String(), ") "); ok && (rest[0] == 'R' || rest[0] == 'S') {
			t.Errorf("after the freeze a process is in state %c: %s", rest[0], b.String())
		}
	}
}

func TestAFreezeThatFailsLeavesTheGuestRunning(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if !sandbox.FreezesInGroup(g) {
		t.Skip("no control group that keeps processes from coming to their stop")
	}
	c := ticking(t, g)
	// What the group holds heeds no SIGSTOP until it is let go.
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sandbox.FreezeBySignal(t.Context(), g); err == nil {
		t.Error("a freeze of processes that can't stop = nil, want an error")
	}
	if err := g.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "after the failed freeze")
	if err := sandbox.FreezeBySignal(t.Context(), g); err != nil {
		t.Fatalf("the next freeze = %v", err)
	}
	wantStopped(t, g)
	if err := sandbox.ThawBySignal(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "after the thaw")
}

func TestProcessesThatContinueEachOtherAreFrozen(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	c := ticking(t, g)
	got := run(t, g, false, `for i in $(seq 16); do setsid perl -e 'while (1) { kill "CONT", -1 }' >/dev/null 2>&1 & done; until test $(pgrep -c -x perl) = 16; do :; done; echo up`)
	if got.stdout != "up\n" {
		t.Fatalf("starting them printed %+v", got)
	}
	for range 5 {
		if err := sandbox.FreezeBySignal(t.Context(), g); err != nil {
			t.Fatalf("freeze = %v", err)
		}
		wantStopped(t, g)
		if err := sandbox.ThawBySignal(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	c.wait(t, "after the last thaw")
}
