package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Nothing in a guest is setuid, so its /usr/bin/sudo is a shim: it asks the
// agent, over a socket in the guest, to run a command as another user with the
// shim's own descriptors. The connection stands for the command: signals go
// one way over it, the command's end the other, and when the shim dies the
// agent kills the command. The frames are those of the control socket.

const (
	sudoSocket = "/run/slicer/sudo.sock"

	// maxSudoRequestBytes has room for what an execve takes by default, in
	// base64; maxSudoFrameBytes is for all frames but the request.
	maxSudoRequestBytes = 4 << 20
	maxSudoFrameBytes   = 4 << 10

	// maxSudoCalls bounds the connections, maxSudoStarts those of them whose
	// request is being read and carried out.
	maxSudoCalls  = 128
	maxSudoStarts = 8

	// sudoRequestLimit bounds how long a request may take to arrive,
	// sudoReplyLimit how long an answer may take to leave.
	sudoRequestLimit = 5 * time.Second
	sudoReplyLimit   = 2 * time.Second
)

// sudoRequest is the first frame from the shim, with its standard streams. The
// bytes of arguments and variables are kept: they need not be text.
type sudoRequest struct {
	Check bool `json:"check,omitempty"` // run nothing, say whether it would be

	User  string `json:"user,omitempty"`  // a name or #id; "" is root, or the caller where Group is set
	Group string `json:"group,omitempty"` // a name or #id; "" is the user's own

	Login bool   `json:"login,omitempty"` // the user's shell, as a login starts it
	Shell string `json:"shell,omitempty"` // a shell to run instead of a program

	Argv [][]byte `json:"argv,omitempty"`
	Env  [][]byte `json:"env,omitempty"`  // the caller's
	Vars [][]byte `json:"vars,omitempty"` // KEY=VALUE of the command line

	Keep    []string `json:"keep,omitempty"`     // names of the caller's variables that are kept
	KeepAll bool     `json:"keep_all,omitempty"` // all of them
	SetHome bool     `json:"set_home,omitempty"` // HOME is the user's even so

	Dir   []byte `json:"dir,omitempty"`   // the caller's folder
	Chdir []byte `json:"chdir,omitempty"` // another one to run in
	Umask int    `json:"umask,omitempty"`

	// Background lets the command outlive the shim.
	Background bool `json:"background,omitempty"`

	// Terminal has the state of the caller's terminal. With it the command
	// gets a terminal of its own for those of its streams that OnTerminal
	// names, and the shim gets the master side.
	Terminal   *unix.Termios       `json:"terminal,omitempty"`
	OnTerminal [3]bool             `json:"on_terminal,omitzero"`
	Size       daemon.TerminalSize `json:"size,omitzero"`
}

// sudoSignal is a later frame from the shim: a signal for the command's group.
type sudoSignal struct {
	Signal int `json:"signal"`
}

// sudoReply is a frame from the agent: one that tells of the start, with the
// master side of the terminal if there is one, and one that tells of the end.
type sudoReply struct {
	Refusal string     `json:"refusal,omitempty"` // for the user to read; nothing was run
	Text    string     `json:"text,omitempty"`    // the answer to a check
	Exit    *exitEvent `json:"exit,omitempty"`
}

// sudoServer answers the shims of a guest. It runs in the agent.
type sudoServer struct {
	agent    *agent
	listener *net.UnixListener
	calls    chan struct{} // taken for a connection
	starts   chan struct{} // taken while a command is being started
}

// listenSudo makes the socket. Whoever may connect is decided by who does.
func listenSudo(a *agent) (*sudoServer, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: sudoSocket, Net: "unix"})
	if err == nil {
		err = os.Chmod(sudoSocket, 0o666)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for sudo: %w", err)
	}
	return &sudoServer{
		agent:    a,
		listener: l,
		calls:    make(chan struct{}, maxSudoCalls),
		starts:   make(chan struct{}, maxSudoStarts),
	}, nil
}

// run takes connections for as long as the guest lives.
func (s *sudoServer) run() {
	for {
		c, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, or the peer has gone
			continue
		}
		select {
		case s.calls <- struct{}{}:
			go func() {
				defer func() { <-s.calls }()
				defer c.Close()
				s.serve(c)
			}()
		default:
			_ = sudoAnswer(c, &sudoReply{Refusal: "sudo: too many commands run through sudo"}) // who doesn't listen isn't told
			c.Close()
		}
	}
}

// serve runs one shim's command from its request to its end.
func (s *sudoServer) serve(c *net.UnixConn) {
	r, run := s.start(c)
	if r == nil {
		return
	}
	var err error
	if run != nil && run.master != nil {
		err = sudoAnswer(c, r, run.master)
		run.master.Close()
	} else {
		err = sudoAnswer(c, r)
	}
	if run == nil || run.background {
		return // nothing is left to tell
	}
	if err != nil {
		c.Close() // ends obey, and the command
	}
	obeyed := make(chan struct{})
	go func() {
		defer close(obeyed)
		s.obey(c, run.handle)
	}()
	exit := <-run.exited
	_ = sudoAnswer(c, &sudoReply{Exit: &exit}) // a shim that has died asks no more
	c.Close()
	<-obeyed
}

// start reads a request and carries it out. There is no run when nothing was to
// be run, and no answer for who doesn't speak as a shim does. None of the
// caller's descriptors stays open.
func (s *sudoServer) start(c *net.UnixConn) (*sudoReply, *sudoRun) {
	s.starts <- struct{}{}
	defer func() { <-s.starts }()
	req, files, err := readSudoRequest(c)
	if err != nil {
		return nil, nil
	}
	defer closeAll(files)
	r := &sudoReply{}
	var run *sudoRun
	caller, err := s.agent.kind.sudoCaller(c)
	switch {
	case err != nil:
	case req.Check:
		r.Text, err = checkSudo(caller, req)
	default:
		run, err = s.agent.sudo(caller, req, files)
	}
	if err != nil {
		r.Refusal = err.Error()
	}
	return r, run
}

// readSudoRequest reads the first frame.
func readSudoRequest(c *net.UnixConn) (*sudoRequest, []*os.File, error) {
	if err := c.SetReadDeadline(time.Now().Add(sudoRequestLimit)); err != nil {
		return nil, nil, err
	}
	req := &sudoRequest{}
	files, err := readFrameUpTo(c, req, maxSudoRequestBytes)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err == nil && len(files) != 3 && !req.Check {
		err = syscall.EINVAL
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return req, files, nil
}

// obey passes the shim's signals on, and kills the command's group when the
// shim has died or says what it mustn't.
func (s *sudoServer) obey(c *net.UnixConn, handle uint64) {
	for {
		var order sudoSignal
		files, err := readFrameUpTo(c, &order, maxSudoFrameBytes)
		closeAll(files)
		if err == nil && (order.Signal < 1 || order.Signal > maxSignal) {
			err = syscall.EINVAL
		}
		if err != nil {
			_ = s.agent.signal(handle, syscall.SIGKILL) // only a command that has ended can't be killed
			return
		}
		_ = s.agent.signalFrozen(handle, syscall.Signal(order.Signal)) // as above
	}
}

// maxSignal is the highest signal there is.
const maxSignal = 64

func sudoAnswer(c *net.UnixConn, r *sudoReply, files ...*os.File) error {
	if err := c.SetWriteDeadline(time.Now().Add(sudoReplyLimit)); err != nil {
		return err
	}
	return writeFrame(c, r, files...)
}

// sudoCaller finds out who is at the other end. With one id the kernel knows
// all users as one, who differ by the map of their user namespace only: there
// a refusal is a courtesy, no boundary.
func (k idmapKind) sudoCaller(c *net.UnixConn) (sudoUser, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return sudoUser{}, err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, cerr); err != nil {
		return sudoUser{}, fmt.Errorf("sudo: ask who calls: %w", err)
	}
	if k == idmapSingle {
		cred.Uid, err = insideID(cred.Pid, "uid_map")
		if err == nil {
			cred.Gid, err = insideID(cred.Pid, "gid_map")
		}
		if err != nil {
			return sudoUser{}, fmt.Errorf("sudo: ask who calls: %w", err)
		}
	}
	users, err := readDatabase("/etc/passwd", passwdFields)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return sudoUser{}, fmt.Errorf("sudo: %w", err)
	}
	u, ok := findUser(users, fmt.Sprintf("#%d", cred.Uid))
	if !ok {
		return sudoUser{}, errors.New("sudo: you do not exist in the passwd database")
	}
	u.gid = cred.Gid
	return u, nil
}

// insideID is the first id of a process's map: what it takes itself for.
func insideID(pid int32, file string) (uint32, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	var id uint32
	if _, err := fmt.Sscan(string(b), &id); err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return id, nil
}

// gate holds the start of commands through sudo back while the guest is
// frozen: a request may have come before and must not be carried out then.
type gate struct {
	mu    sync.Mutex
	held  bool
	forks sync.RWMutex // write-locked while held
}

// hold closes the gate, and returns when nothing is being started.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		g.forks.Lock()
		g.held = true
	}
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held {
		g.held = false
		g.forks.Unlock()
	}
}
