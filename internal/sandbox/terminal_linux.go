package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// ttyGroup owns the terminals, as on Debian.
const ttyGroup = 5

// terminal is the daemon's side of a command on a terminal.
type terminal struct {
	*process
	master *os.File
}

var _ daemon.Terminal = (*terminal)(nil)

// Terminal implements daemon.Guest.
func (g *guest) Terminal(ctx context.Context, c *daemon.Command, size daemon.TerminalSize) (daemon.Terminal, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("no program named")
	}
	// Its answer is always waited for: a command must not run unowned.
	a, err := g.call(context.WithoutCancel(ctx), &request{
		Op:   "terminal",
		Exec: &execRequest{Argv: c.Argv, Env: c.Env, Dir: c.Dir, UID: c.UID, GID: c.GID},
		Size: size,
	})
	if err != nil {
		return nil, err
	}
	if a.file == nil {
		return nil, syscall.EPROTO
	}
	p := &process{g: g, handle: a.reply.Handle, pid: a.reply.Pid, exited: make(chan exitEvent, 1), ended: make(chan struct{}), copied: make(chan error, 2)}
	p.copied <- nil // its output isn't copied but read by the caller
	p.copied <- nil
	g.register(p)
	return &terminal{process: p, master: a.file}, nil
}

// Read implements daemon.Terminal.
func (t *terminal) Read(b []byte) (int, error) {
	n, err := t.master.Read(b)
	if errors.Is(err, syscall.EIO) {
		return n, io.EOF // nobody has the terminal open any more
	}
	return n, err
}

// Write implements daemon.Terminal.
func (t *terminal) Write(b []byte) (int, error) { return t.master.Write(b) }

// Close implements daemon.Terminal: the commands on the terminal get SIGHUP.
func (t *terminal) Close() error { return t.master.Close() }

// Resize implements daemon.Terminal.
func (t *terminal) Resize(size daemon.TerminalSize) error {
	return resize(t.master, size)
}

func resize(master *os.File, size daemon.TerminalSize) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = raw.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
	if err := errors.Join(err, ierr); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// terminal starts a command on a new terminal of a size and returns the master
// side. It runs in the agent.
func (a *agent) terminal(e *execRequest, size daemon.TerminalSize, r *reply) (*os.File, error) {
	if e == nil {
		return nil, syscall.EINVAL
	}
	master, slave, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	plan, err := a.plan(e)
	if err == nil && size != (daemon.TerminalSize{}) {
		err = resize(master, size)
	}
	if err == nil {
		uid, _ := a.kind.own(plan.uid, ttyGroup)
		_, gid := a.kind.own(plan.uid, ttyGroup)
		err = slave.Chown(uid, gid)
	}
	if err == nil {
		plan.attr.Files = []uintptr{slave.Fd(), slave.Fd(), slave.Fd()}
		plan.attr.Sys.Setctty = true
		err = a.fork(plan, r)
	}
	if err != nil {
		master.Close()
		return nil, err
	}
	return master, nil
}

// openTerminal makes a pseudo-terminal.
func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	var sfd int
	if err == nil {
		sfd, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	return master, os.NewFile(uintptr(sfd), "pts"), nil
}
