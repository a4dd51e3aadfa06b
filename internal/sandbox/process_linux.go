package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	// copyBytes is how much output is read at once.
	copyBytes = 32 << 10

	// lateOutput is how long output of what a command left running is waited
	// for once it has ended, counted from the last that came; lateLimit is
	// how long in all.
	lateOutput = 100 * time.Millisecond
	lateLimit  = 2 * time.Second
)

// process is the daemon's side of one command.
type process struct {
	g      *guest
	handle uint64
	pid    int
	exited chan exitEvent // takes one event
	ended  chan struct{}  // closed once the command has ended
	copied chan error     // takes the end of each output stream
	stdin  *os.File       // our end, nil for an empty input
}

var _ daemon.Process = (*process)(nil)

// Start implements daemon.Guest.
func (g *guest) Start(ctx context.Context, c *daemon.Command) (daemon.Process, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("no program named")
	}
	req := &execRequest{Argv: c.Argv, Env: c.Env, Dir: c.Dir, UID: c.UID, GID: c.GID, Stdin: c.Stdin != nil}
	var theirs, ours []*os.File
	defer func() { closeAll(theirs) }()
	if c.Stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		theirs, ours = append(theirs, r), append(ours, w)
	}
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			return nil, err
		}
		theirs, ours = append(theirs, w), append(ours, r)
	}
	// Its answer is always waited for: a command must not run unowned.
	a, err := g.call(context.WithoutCancel(ctx), &request{Op: "exec", Exec: req}, theirs...)
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	p := &process{
		g:      g,
		handle: a.reply.Handle,
		pid:    a.reply.Pid,
		exited: make(chan exitEvent, 1),
		ended:  make(chan struct{}),
		copied: make(chan error, 2),
	}
	g.register(p)
	if c.Stdin != nil {
		p.stdin, ours = ours[0], ours[1:]
		go p.feed(c.Stdin)
	}
	go p.drain(ours[0], c.Stdout)
	go p.drain(ours[1], c.Stderr)
	return p, nil
}

// register makes p the one that its exit event goes to, which may have come
// already.
func (g *guest) register(p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.exits[p.handle]; ok {
		delete(g.exits, p.handle)
		p.exited <- *e
		return
	}
	if g.ended {
		p.exited <- exitEvent{Handle: p.handle, Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
		return
	}
	g.procs[p.handle] = p
}

// Pid implements daemon.Process.
func (p *process) Pid() int { return p.pid }

// Wait implements daemon.Process.
func (p *process) Wait() (daemon.ExitStatus, error) {
	e := <-p.exited
	close(p.ended)
	err := errors.Join(<-p.copied, <-p.copied)
	status := daemon.ExitStatus{Code: e.Code}
	if e.Signal != 0 {
		status.Signal = signalName(syscall.Signal(e.Signal))
	}
	return status, err
}

// feed copies the command's input to it. It isn't waited for: a reader that
// never returns must not hold the command's end up.
func (p *process) feed(from io.Reader) {
	defer p.stdin.Close()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-p.ended:
			_ = p.stdin.SetWriteDeadline(time.Unix(1, 0)) // a command that has ended reads no more
		case <-stopped:
		}
	}()
	// A command that doesn't read its input to the end is no error.
	_, _ = io.Copy(struct{ io.Writer }{p.stdin}, from)
}

// drain copies one output stream to its end, or, once the command has ended,
// until what it left running has been quiet for lateOutput.
func (p *process) drain(from *os.File, to io.Writer) {
	defer from.Close()
	if to == nil {
		to = io.Discard
	}
	stopped := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-p.ended:
			_ = from.SetReadDeadline(time.Unix(1, 0)) // wakes the read below, or it has ended
		case <-stopped:
		}
	}()
	buf := make([]byte, copyBytes)
	err := copyOutput(to, from, buf)
	close(stopped)
	<-watched
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = drainLate(to, from, buf)
	}
	p.copied <- err
}

func copyOutput(to io.Writer, from io.Reader, buf []byte) error {
	for {
		n, rerr := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return fmt.Errorf("copy output: %w", err)
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

// drainLate reads what is in the pipe of a command that has ended. A write
// can take long, so a deadline is set anew before each read and never for a
// read of what is there already.
func drainLate(to io.Writer, from *os.File, buf []byte) error {
	limit := time.Now().Add(lateLimit)
	for {
		if err := from.SetReadDeadline(time.Now().Add(lateOutput)); err != nil {
			return err
		}
		n, rerr := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return fmt.Errorf("copy output: %w", err)
			}
		}
		switch {
		case errors.Is(rerr, io.EOF), errors.Is(rerr, os.ErrDeadlineExceeded):
			return nil
		case rerr != nil:
			return rerr
		case n < len(buf) && time.Now().After(limit):
			return nil
		}
	}
}

// Signal implements daemon.Process.
func (p *process) Signal(name string) error {
	s := unix.SignalNum("SIG" + name)
	if s == 0 {
		return fmt.Errorf("unknown signal %q", name)
	}
	_, err := p.g.call(context.Background(), &request{Op: "signal", Handle: p.handle, Signal: int(s)})
	if errors.Is(err, daemon.ErrEnded) {
		return nil
	}
	return err
}

// signalName is a signal's name without SIG.
func signalName(s syscall.Signal) string {
	name := unix.SignalName(s)
	if len(name) > 3 {
		return name[3:]
	}
	return fmt.Sprintf("%d", int(s))
}
