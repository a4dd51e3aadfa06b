package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// shimName is where this program stands in a guest, and its argv[0] there.
const shimName = "/usr/lib/slicer/slicer-agent"

// sudoFailed is the exit code of sudo's own failures, as sudo has it.
const sudoFailed = 1

// relayedSignals are those that the shim passes on. A key's signal reaches the
// shim, not the command, which is in a session of its own.
var relayedSignals = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT,
}

// runShim is the sudo program of a guest. It returns its exit code.
func runShim(args []string) int {
	fail := func(format string, a ...any) int {
		fmt.Fprintf(os.Stderr, "sudo: "+format+"\n", a...)
		return sudoFailed
	}
	line, err := parseSudo(args)
	if errors.Is(err, errNoCommand) {
		fmt.Fprint(os.Stderr, sudoUsage)
		return sudoFailed
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sudo: %v\n%s", err, sudoUsage)
		return sudoFailed
	}
	switch line.action {
	case sudoSayHelp:
		fmt.Print(sudoHelp)
		return 0
	case sudoSayVersion:
		fmt.Println("sudo of a slicervm-mcp sandbox: the VM's agent runs the commands")
		return 0
	case sudoForget:
		return 0
	}
	s := &shim{events: make(chan *sudoReply, 1), signals: make(chan os.Signal, len(relayedSignals))}
	for _, sig := range relayedSignals {
		if !signal.Ignored(sig) { // under nohup, the command must not hear of it either
			signal.Notify(s.signals, sig)
		}
	}
	if err := s.connect(); err != nil {
		return fail("the VM's agent doesn't answer: %v", err)
	}
	defer s.conn.Close()
	req := line.request()
	first, master, err := s.ask(req)
	switch {
	case err != nil:
		return fail("the VM's agent doesn't answer: %v", err)
	case first.Refusal != "":
		fmt.Fprintln(os.Stderr, first.Refusal)
		return sudoFailed
	case req.Check:
		if line.action == sudoList {
			fmt.Print(first.Text)
		}
		return 0
	case line.background:
		return 0
	}
	if master != nil {
		if s.relay, err = newRelay(master); err != nil {
			return fail("%v", err)
		}
	}
	return s.wait()
}

// shim is a running sudo.
type shim struct {
	conn    *net.UnixConn
	events  chan *sudoReply // takes the end, or nil when the agent has gone
	signals chan os.Signal
	relay   *relay // of the command's own terminal, if it has one
}

func (s *shim) connect() error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: sudoSocket, Net: "unix"})
	s.conn = c
	return err
}

// request is what a command line asks for, with this process's state.
func (l *sudoCommandLine) request() *sudoRequest {
	req := &sudoRequest{
		Check:      l.action != sudoExec,
		User:       l.user,
		Group:      l.group,
		Login:      l.login,
		Argv:       byteSlices(l.command),
		Env:        byteSlices(os.Environ()),
		Vars:       byteSlices(l.vars),
		Keep:       l.keep,
		KeepAll:    l.keepAll,
		SetHome:    l.setHome,
		Chdir:      []byte(l.chdir),
		Umask:      syscall.Umask(0),
		Background: l.background,
	}
	syscall.Umask(req.Umask)
	if dir, err := syscall.Getwd(); err == nil { // a folder that has gone is none
		req.Dir = []byte(dir)
	}
	if l.shell {
		req.Shell = os.Getenv("SHELL")
		if req.Shell == "" {
			req.Shell = "/bin/sh"
		}
	}
	if l.background {
		return req
	}
	for fd := range req.OnTerminal {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		req.OnTerminal[fd] = err == nil
	}
	if req.OnTerminal[0] && req.OnTerminal[1] { // somebody sits there
		req.Terminal, _ = unix.IoctlGetTermios(0, unix.TCGETS) // it has just worked
		req.Size = terminalSize(0)
	}
	return req
}

func byteSlices(texts []string) [][]byte {
	var b [][]byte
	for _, t := range texts {
		b = append(b, []byte(t))
	}
	return b
}

func terminalSize(fd int) daemon.TerminalSize {
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return daemon.TerminalSize{} // a terminal without a size
	}
	return daemon.TerminalSize{Rows: w.Row, Cols: w.Col}
}

// ask sends the request and reads the first answer.
func (s *shim) ask(req *sudoRequest) (*sudoReply, *os.File, error) {
	if err := writeFrameWith(s.conn, req, 0, 1, 2); err != nil {
		return nil, nil, err
	}
	first := &sudoReply{}
	files, err := readFrameUpTo(s.conn, first, maxSudoRequestBytes)
	if err != nil {
		return nil, nil, err
	}
	if len(files) > 0 {
		return first, files[0], nil
	}
	return first, nil, nil
}

// wait passes signals on until the command has ended, and ends as it did.
func (s *shim) wait() int {
	go s.listen() // ends with the process
	for {
		select {
		case sig := <-s.signals:
			if n, ok := sig.(syscall.Signal); ok {
				s.pass(n)
			}
		case end := <-s.events:
			if s.relay != nil {
				s.relay.finish()
			}
			if end == nil {
				fmt.Fprintln(os.Stderr, "sudo: the VM's agent has gone")
				return sudoFailed
			}
			if end.Exit.Signal != 0 {
				dieBy(syscall.Signal(end.Exit.Signal))
			}
			return end.Exit.Code
		}
	}
}

// listen waits for the frame that tells of the end.
func (s *shim) listen() {
	end := &sudoReply{}
	files, err := readFrameUpTo(s.conn, end, maxSudoRequestBytes)
	closeAll(files)
	if err != nil || end.Exit == nil {
		end = nil
	}
	s.events <- end
}

// pass hands a signal on to the command. One that stops the shim stops the
// command first; both go on together.
func (s *shim) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGCONT:
		if s.relay != nil {
			s.relay.attach() // the shell may have brought it to the foreground
		}
		return
	case syscall.SIGWINCH:
		if s.relay != nil {
			s.relay.resize() // and the kernel tells the command
			return
		}
	case syscall.SIGTSTP:
		if s.relay != nil {
			s.relay.detach()
		}
		s.order(syscall.SIGSTOP) // a session of its own doesn't heed SIGTSTP
		stopHere()
		if s.relay != nil {
			s.relay.attach()
		}
		s.order(syscall.SIGCONT)
		return
	}
	s.order(sig)
}

// stopHere stops this process at once. A signal to the process as a whole may
// be taken by another thread, and this one would go on for a moment.
func stopHere() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP) // it can't be refused
}

func (s *shim) order(sig syscall.Signal) {
	_ = writeFrame(s.conn, &sudoSignal{Signal: int(sig)}) // without the agent the next event is the end
}

// dieBy ends this process by a signal, without a core file of its own. The
// runtime's handlers would get in the way. It returns where that fails.
func dieBy(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	var byDefault [32]byte // struct sigaction with SIG_DFL
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	if errno != 0 && sig != syscall.SIGKILL {
		return
	}
	if unix.Kill(os.Getpid(), sig) == nil {
		_ = unix.Pause() // it is on its way
	}
}
