package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// agent is pid 1 of a guest. It answers the daemon's requests until the
// daemon's end of the control socket closes; its own end then takes every
// process of the guest with it.
type agent struct {
	kind    idmapKind
	control *net.UnixConn
	writeMu sync.Mutex

	files *writers
	gate  gate

	freezeMu sync.Mutex
	stopped  map[int]bool // what stood still by itself before the last freeze

	mu     sync.Mutex // held over fork and over wait, so that a pid means one process
	procs  map[uint64]int
	byPid  map[int]uint64
	exits  map[uint64]chan<- exitEvent // of commands that aren't the daemon's
	lastID uint64
}

// maxConcurrentRequests bounds the requests that an agent works on at once.
const maxConcurrentRequests = 64

func runAgent(control *net.UnixConn, kind idmapKind) error {
	// The daemon's end is both this signal and the socket's end of file: a
	// guest must not outlive it in whatever state its agent is.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if err := setDumpable(false); err != nil {
		return err
	}
	a := &agent{
		kind:    kind,
		control: control,
		files:   newWriters(kind),
		procs:   map[uint64]int{},
		byPid:   map[int]uint64{},
		exits:   map[uint64]chan<- exitEvent{},
	}
	// Caught and dropped, not ignored: what is ignored stays so in children.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go a.reap(children)
	sudo, err := listenSudo(a)
	if err != nil {
		return err
	}
	go sudo.run()

	if err := a.send(&reply{}); err != nil {
		return err
	}
	if err := muteConsole(); err != nil {
		return err
	}
	slots := make(chan struct{}, maxConcurrentRequests)
	for {
		req := &request{}
		files, err := readFrame(control, req)
		if err != nil {
			return nil //nolint:nilerr // the daemon has gone, and the guest goes with it
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			a.handle(req, files)
		}()
	}
}

// setDumpable says whether the guest's root may look into this process.
func setDumpable(yes bool) error {
	var value uintptr
	if yes {
		value = 1
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, value, 0, 0, 0); err != nil {
		return fmt.Errorf("set dumpable: %w", err)
	}
	return nil
}

// muteConsole lets go of the console, a file of the host's: what the agent
// prints is of use only while the guest boots.
func muteConsole() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("let go of the console: %w", err)
		}
	}
	return nil
}

func (a *agent) send(r *reply, files ...*os.File) error {
	a.writeMu.Lock()
	defer a.writeMu.Unlock()
	return writeFrame(a.control, r, files...)
}

// handle answers one request.
func (a *agent) handle(req *request, files []*os.File) {
	defer closeAll(files)
	r := &reply{ID: req.ID}
	out, err := a.do(req, files, r)
	if err != nil {
		r = &reply{ID: req.ID}
		r.failed(err)
	}
	if out != nil {
		defer out.Close()
		err = a.send(r, out)
	} else {
		err = a.send(r)
	}
	if errors.Is(err, syscall.E2BIG) {
		// Only a folder listing can be that long.
		_ = a.send(&reply{ID: req.ID, Errno: int(syscall.E2BIG)}) // the daemon has gone if this fails
	}
}

// do carries a request out. A file that it returns travels with the reply.
func (a *agent) do(req *request, files []*os.File, r *reply) (*os.File, error) {
	switch req.Op {
	case "exec":
		return nil, a.start(req.Exec, files, r)
	case "terminal":
		return a.terminal(req.Exec, req.Size, r)
	case "dial":
		return dial(req.Network, req.Name)
	case "watch":
		return nil, startWatch(req.Watch, files)
	case "stats":
		var err error
		r.Stats, err = measure()
		return nil, err
	case "signal":
		return nil, a.signal(req.Handle, syscall.Signal(req.Signal))
	case "freeze":
		a.gate.hold()
		err := a.freeze()
		if err != nil {
			a.gate.release()
		}
		return nil, err
	case "thaw":
		a.gate.release()
		return nil, a.thaw()
	case "hold":
		a.gate.hold()
		return nil, nil
	case "release":
		a.gate.release()
		return nil, nil
	case "secret":
		return nil, putSecret(a.kind, req)
	case "unsecret":
		return nil, removeSecret(req.Name)
	}
	return a.doFile(req, r)
}

// start executes a command with the streams that came with the request.
func (a *agent) start(e *execRequest, files []*os.File, r *reply) error {
	if e == nil {
		return syscall.EINVAL
	}
	streams := files
	if !e.Stdin {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer null.Close()
		streams = append([]*os.File{null}, files...)
	}
	if len(streams) != 3 {
		return syscall.EINVAL
	}
	p, err := a.plan(e)
	if err != nil {
		return err
	}
	for _, f := range streams {
		p.attr.Files = append(p.attr.Files, f.Fd())
	}
	return a.fork(p, r)
}

// fork executes a planned command and remembers it.
func (a *agent) fork(p *plan, r *reply) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.attr.Sys.Cloneflags&syscall.CLONE_NEWUSER != 0 {
		// The child's id map is written through its /proc entry, which belongs
		// to nobody while this process isn't dumpable.
		if err := setDumpable(true); err != nil {
			return err
		}
		defer func() { _ = setDumpable(false) }() // it has just worked
	}
	pid, err := syscall.ForkExec(p.path, p.argv, p.attr)
	if err != nil {
		return fmt.Errorf("execute %s: %w", p.path, err)
	}
	a.lastID++
	a.procs[a.lastID] = pid
	a.byPid[pid] = a.lastID
	if p.exited != nil {
		a.exits[a.lastID] = p.exited
	}
	r.Handle, r.Pid = a.lastID, pid
	return nil
}

// signal signals the process group of a command that still runs.
func (a *agent) signal(handle uint64, s syscall.Signal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	pid, ok := a.procs[handle]
	if !ok {
		return nil // it has ended
	}
	err := syscall.Kill(-pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// reap waits for every process that ends, the guest's orphans included, and
// tells of those that the daemon or sudo started.
func (a *agent) reap(children <-chan os.Signal) {
	for range children {
		for {
			event, more := a.reapOne()
			if !more {
				break
			}
			if event == nil {
				continue
			}
			if err := a.send(&reply{Exit: event}); err != nil {
				return // the daemon has gone, and the reader ends the process
			}
		}
	}
}

func (a *agent) reapOne() (event *exitEvent, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	for errors.Is(err, syscall.EINTR) {
		pid, err = syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	}
	if err != nil || pid <= 0 {
		return nil, false
	}
	handle, ok := a.byPid[pid]
	if !ok {
		return nil, true
	}
	delete(a.byPid, pid)
	delete(a.procs, handle)
	to := a.exits[handle]
	delete(a.exits, handle)
	event = &exitEvent{Handle: handle, Code: status.ExitStatus()}
	if status.Signaled() {
		event.Signal = int(status.Signal())
		event.Code = 128 + event.Signal
	}
	if to != nil {
		to <- *event // it has room
		return nil, true
	}
	return event, true
}
