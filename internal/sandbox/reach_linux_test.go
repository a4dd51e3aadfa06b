package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestTerminal(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	term, err := g.Terminal(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "tty; stty size; test -w $(tty) && echo mine; read x; echo got $x; exit 3"}}, daemon.TerminalSize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if _, err := io.WriteString(term, "line\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(term)
	if err != nil {
		t.Fatalf("read = %v, want the end when the command ends", err)
	}
	status, err := term.Wait()
	if err != nil || status.Code != 3 {
		t.Errorf("Wait() = %+v, %v, want code 3", status, err)
	}
	text := strings.ReplaceAll(string(out), "\r\n", "\n")
	for _, want := range []string{"/dev/pts/", "33 77\n", "mine\n", "got line\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the terminal showed %q, want %q in it", text, want)
		}
	}
}

func TestClosingATerminalHangsItUp(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	term, err := g.Terminal(t.Context(), &daemon.Command{Argv: []string{"sleep", "1000"}}, daemon.TerminalSize{})
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	if status, err := term.Wait(); err != nil || status.Signal != "HUP" {
		t.Errorf("Wait() = %+v, %v, want signal HUP", status, err)
	}
}

func TestDialReachesOnlyTheGuest(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if c, err := g.Dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial of a closed port = %v, %v, want that it is refused: loopback is up", c, err)
	}
	if c, err := g.Dial(t.Context(), "tcp", "192.0.2.1:80"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Dial of another machine = %v, %v, want that there is no network", c, err)
	}
	if c, err := g.Dial(t.Context(), "unix", "/no/such.sock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial of a missing socket = %v, %v, want that it doesn't exist", c, err)
	}
	if _, err := g.Dial(t.Context(), "udp", "127.0.0.1:1"); err == nil {
		t.Error("Dial of udp succeeds")
	}
	server := `
use IO::Socket; $| = 1;
my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 8080, ReuseAddr => 1) or die;
print "ready\n"; my $c = $s->accept; my $line = <$c>; print $c "echo $line"; close $c;`
	out := &waitFor{want: "ready", seen: make(chan struct{})}
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"perl", "-e", server}, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	<-out.seen
	c, err := g.Dial(t.Context(), "tcp", "localhost:8080")
	if err != nil {
		t.Fatalf("Dial = %v", err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v, want the echo", got, err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	run(t, g, false, "mkdir -p ~/w/below")
	if _, err := g.Watch(t.Context(), daemon.WatchSpec{Paths: []string{"/no/such"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Watch of a missing path = %v, want that it doesn't exist", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := g.Watch(ctx, daemon.WatchSpec{Paths: []string{"/home/ubuntu/w"}, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	run(t, g, false, "echo hello >~/w/below/f; mkdir ~/w/new; chmod 600 ~/w/below/f; mv ~/w/below/f ~/w/below/g; rm ~/w/below/g")
	want := map[string]bool{
		"create /home/ubuntu/w/below/f": true,
		"write /home/ubuntu/w/below/f":  true,
		"chmod /home/ubuntu/w/below/f":  true,
		"rename /home/ubuntu/w/below/f": true,
		"remove /home/ubuntu/w/below/g": true,
		"create /home/ubuntu/w/new":     true,
	}
	for len(want) > 0 {
		c, err := w.Next()
		if err != nil {
			t.Fatalf("Next() = %v with %v still to come", err, want)
		}
		delete(want, string(c.Op)+" "+c.Path)
		if strings.HasSuffix(c.Path, "/new") && c.Op == daemon.WatchCreate && !c.Dir {
			t.Error("a new folder isn't reported as one")
		}
	}
	cancel()
	if _, err := w.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("Next() after the context's end = %v, want its error", err)
	}
}

func TestStats(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", CPUs: 2, RAMBytes: 1 << 30})
	var out bytes.Buffer
	if _, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sleep", "1000"}, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	s, err := g.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.CPUs != 2 || s.MemoryTotal != 1<<30 || s.MemoryUsed == 0 || s.DiskTotal == 0 || s.Processes < 2 || s.Uptime <= 0 {
		t.Errorf("Stats() = %+v, want the guest's size and what its two processes use", s)
	}
}
