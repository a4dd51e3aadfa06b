package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
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

	mu     sync.Mutex // held over fork and over wait, so that a pid means one process
	procs  map[uint64]int
	byPid  map[int]uint64
	lastID uint64
}

// maxConcurrentRequests bounds the requests that an agent works on at once.
const maxConcurrentRequests = 64

// defaultPath is where commands are looked up.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func runAgent(control *net.UnixConn, kind idmapKind) error {
	// The daemon's end is both this signal and the socket's end of file: a
	// guest must not outlive it in whatever state its agent is.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if kind != idmapSingle {
		// Keeps the guest's root out of /proc/1. With one id it would also
		// keep this process from mapping its children's ids.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("clear dumpable: %w", err)
		}
	}
	a := &agent{
		kind:    kind,
		control: control,
		files:   newWriters(kind),
		procs:   map[uint64]int{},
		byPid:   map[int]uint64{},
	}
	// Caught and dropped, not ignored: what is ignored stays so in children.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go a.reap(children)

	if err := a.send(&reply{}); err != nil {
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
	case "signal":
		return nil, a.signal(req.Handle, syscall.Signal(req.Signal))
	case "freeze":
		return nil, signalAll(unix.SIGSTOP)
	case "thaw":
		return nil, signalAll(unix.SIGCONT)
	case "secret":
		return nil, putSecret(a.kind, req)
	case "unsecret":
		return nil, removeSecret(req.Name)
	}
	return a.doFile(req, r)
}

// signalAll signals every process of the guest but the agent.
func signalAll(s unix.Signal) error {
	if err := unix.Kill(-1, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// start executes a command.
func (a *agent) start(e *execRequest, files []*os.File, r *reply) error {
	if e == nil || len(e.Argv) == 0 || len(files) < 2 {
		return syscall.EINVAL
	}
	uid := uint32(ubuntuID)
	if e.UID != nil {
		uid = *e.UID
	}
	user := lookupAccount(uid)
	gid := user.gid
	if e.GID != nil {
		gid = *e.GID
	}
	env := environment(user, e.Env)
	dir := workingDir(user, e.Dir)
	var folder unix.Stat_t
	err := unix.Stat(dir, &folder)
	if err == nil && folder.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = syscall.ENOTDIR
	}
	if err != nil {
		if e.Dir != "" {
			return fmt.Errorf("working folder %s: %w", dir, err)
		}
		dir = "/"
	}
	path, err := lookPath(e.Argv[0], dir, env)
	if err != nil {
		return err
	}
	stdin := files[0]
	outputs := files
	if e.Stdin {
		outputs = files[1:]
	} else {
		stdin, err = os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer stdin.Close()
	}
	if len(outputs) != 2 {
		return syscall.EINVAL
	}
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{stdin.Fd(), outputs[0].Fd(), outputs[1].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	a.kind.credential(attr.Sys, uid, gid)

	a.mu.Lock()
	defer a.mu.Unlock()
	pid, err := syscall.ForkExec(path, e.Argv, attr)
	if err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	a.lastID++
	a.procs[a.lastID] = pid
	a.byPid[pid] = a.lastID
	r.Handle, r.Pid = a.lastID, pid
	return nil
}

// environment is a login's ordinary environment for user with extra on top.
func environment(user account, extra []string) []string {
	env := []string{
		"HOME=" + user.home,
		"LANG=C.UTF-8",
		"LOGNAME=" + user.name,
		"PATH=" + defaultPath,
		"SHELL=" + user.shell,
		"USER=" + user.name,
	}
	set := map[string]int{}
	for i, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		set[key] = i
	}
	for _, kv := range extra {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := set[key]; ok {
			env[i] = kv
			continue
		}
		set[key] = len(env)
		env = append(env, kv)
	}
	return env
}

// workingDir resolves a command's folder: "" and a leading ~ are the home,
// and a relative name starts there.
func workingDir(user account, dir string) string {
	switch {
	case dir == "" || dir == "~":
		return user.home
	case strings.HasPrefix(dir, "~/"):
		return filepath.Join(user.home, dir[2:])
	case !filepath.IsAbs(dir):
		return filepath.Join(user.home, dir)
	}
	return filepath.Clean(dir)
}

// lookPath finds a program as execvp would with env's PATH.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		file := filepath.Join(folder, name)
		info, err := os.Stat(file)
		if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH: %w", name, syscall.ENOENT)
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
// tells the daemon of those that it started.
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
	event = &exitEvent{Handle: handle, Code: status.ExitStatus()}
	if status.Signaled() {
		event.Signal = int(status.Signal())
		event.Code = 128 + event.Signal
	}
	return event, true
}
