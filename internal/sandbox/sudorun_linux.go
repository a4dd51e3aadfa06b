package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sudoRun is a command that runs for a shim.
type sudoRun struct {
	handle uint64
	exited <-chan exitEvent
	master *os.File // of its own terminal, if it has one

	background bool // the shim doesn't wait for it
}

// sudoPlan is what a request comes to in this guest.
type sudoPlan struct {
	caller, target sudoUser
	groups         []uint32 // the target's, beside its own
	path           string
	argv           []string
	env            *variables
	dir            string
}

// sudo runs a caller's command. What it returns as an error is for the caller
// to read.
func (a *agent) sudo(caller sudoUser, req *sudoRequest, files []*os.File) (*sudoRun, error) {
	p, err := planSudo(caller, req)
	if err != nil {
		return nil, err
	}
	exited := make(chan exitEvent, 1)
	attr := &syscall.ProcAttr{Env: p.env.list, Sys: &syscall.SysProcAttr{Setsid: true}}
	a.kind.credential(attr.Sys, p.target.uid, p.target.gid)
	if c := attr.Sys.Credential; c != nil {
		c.Groups = p.groups
	}
	var master, slave *os.File
	if req.Terminal != nil {
		if master, slave, err = a.sudoTerminal(req, p.target); err != nil {
			return nil, fmt.Errorf("sudo: %w", err)
		}
		defer slave.Close()
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	for i, f := range files {
		if slave != nil && req.OnTerminal[i] {
			f = slave
		}
		var fd uintptr
		if fd, err = descriptor(f); err != nil {
			break
		}
		attr.Files = append(attr.Files, fd)
	}
	r := &reply{}
	if err == nil {
		pl := &plan{path: p.path, argv: p.argv, attr: attr, uid: p.target.uid, exited: exited}
		err = a.forkIn(p.dir, 0o022|req.Umask&0o777, pl, r)
		if errors.Is(err, syscall.ENOEXEC) { // a script without its first line is the shell's
			pl.path, pl.argv = "/bin/sh", append([]string{"sh", p.path}, p.argv[1:]...)
			err = a.forkIn(p.dir, 0o022|req.Umask&0o777, pl, r)
		}
	}
	runtime.KeepAlive(files)
	if err != nil {
		if master != nil {
			master.Close()
		}
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = errno
		}
		return nil, fmt.Errorf("sudo: unable to execute %s: %w", p.path, err)
	}
	return &sudoRun{handle: r.Handle, exited: exited, master: master, background: req.Background}, nil
}

// descriptor is a file's number. Unlike Fd it leaves the file as non-blocking
// as it is, for whoever else has it open.
func descriptor(f *os.File) (uintptr, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n uintptr
	err = raw.Control(func(fd uintptr) { n = fd })
	return n, err
}

// forkIn executes a planned command in a folder that the command's user need
// not be able to enter, and with a file mask. Both belong to a thread that
// ends here.
func (a *agent) forkIn(dir string, umask int, p *plan, r *reply) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("leave the shared folder: %w", err)
			}
			unix.Umask(umask)
			a.gate.forks.RLock()
			defer a.gate.forks.RUnlock()
			if err := unix.Chdir(dir); err != nil {
				return fmt.Errorf("enter %s: %w", dir, err)
			}
			return a.fork(p, r)
		}()
	}()
	return <-result
}

// sudoTerminal makes a terminal like the caller's for the target.
func (a *agent) sudoTerminal(req *sudoRequest, target sudoUser) (master, slave *os.File, err error) {
	master, slave, err = openTerminal()
	if err != nil {
		return nil, nil, err
	}
	err = resize(master, req.Size)
	if err == nil {
		err = unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, req.Terminal)
	}
	if err == nil {
		uid, _ := a.kind.own(target.uid, ttyGroup)
		_, gid := a.kind.own(target.uid, ttyGroup)
		err = slave.Chown(uid, gid)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, fmt.Errorf("prepare terminal: %w", err)
	}
	return master, slave, nil
}

// planSudo decides whether a request is allowed and what it comes to.
func planSudo(caller sudoUser, req *sudoRequest) (*sudoPlan, error) {
	users, err := readDatabase("/etc/passwd", passwdFields)
	if err != nil {
		return nil, fmt.Errorf("sudo: %w", err)
	}
	groups, err := readDatabase("/etc/group", groupFields)
	if err != nil {
		groups = nil // then root and ubuntu may, and nobody is in a group
	}
	if !caller.maySudo(groups) {
		return nil, fmt.Errorf("%s is not in the sudoers file.", caller.name) //nolint:revive,staticcheck // sudo's own words
	}
	p := &sudoPlan{caller: caller}
	wanted := req.User
	switch {
	case wanted != "":
	case req.Group != "":
		wanted = caller.name
	default:
		wanted = "#0"
	}
	var ok bool
	if p.target, ok = findUser(users, wanted); !ok {
		return nil, fmt.Errorf("sudo: unknown user %s", wanted)
	}
	p.groups = groupsOf(groups, p.target.name)
	if req.Group != "" {
		if p.target.gid, ok = findGroup(groups, req.Group); !ok {
			return nil, fmt.Errorf("sudo: unknown group %s", req.Group)
		}
	}
	p.env = sudoEnvironment(req, caller, p.target)
	if err := p.settleDir(req); err != nil {
		return nil, err
	}
	if err := p.settleCommand(req); err != nil {
		return nil, err
	}
	p.env.setCommand(p.path, p.argv[1:])
	return p, nil
}

// settleDir finds the folder: the caller's, unless another was asked for. One
// that has gone is the root.
func (p *sudoPlan) settleDir(req *sudoRequest) error {
	dir := string(req.Dir)
	switch {
	case len(req.Chdir) > 0:
		dir = filepath.Join(dir, string(req.Chdir))
		if filepath.IsAbs(string(req.Chdir)) {
			dir = string(req.Chdir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("sudo: unable to change directory to %s", dir)
		}
	case req.Login:
		dir = p.target.home
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = "/"
	}
	p.dir = dir
	return nil
}

// settleCommand finds the program and its arguments.
func (p *sudoPlan) settleCommand(req *sudoRequest) error {
	args := make([]string, len(req.Argv))
	for i, a := range req.Argv {
		args[i] = string(a)
	}
	shell := req.Shell
	if req.Login {
		shell = p.target.shell
	}
	if shell != "" {
		p.path, p.argv = shell, []string{shell}
		if req.Login {
			p.argv[0] = "-" + filepath.Base(shell)
		}
		if len(args) > 0 {
			p.argv = append(p.argv, "-c", shellWords(args))
		}
		return nil
	}
	if len(args) == 0 || args[0] == "" {
		return errors.New("sudo: no command is named")
	}
	path, err := lookPath(args[0], p.dir, p.env.list)
	if err == nil {
		file := path
		if !filepath.IsAbs(file) {
			file = filepath.Join(p.dir, file)
		}
		var info os.FileInfo
		if info, err = os.Stat(file); err == nil && info.IsDir() {
			err = syscall.EISDIR
		}
	}
	if err != nil {
		return fmt.Errorf("sudo: %s: command not found", args[0])
	}
	p.path, p.argv = path, args
	return nil
}

// shellWords makes one command line of arguments that a shell takes apart
// into them again. A $ is left to it, as sudo leaves it.
func shellWords(args []string) string {
	var line strings.Builder
	for i, arg := range args {
		if i > 0 {
			line.WriteByte(' ')
		}
		for _, c := range []byte(arg) {
			if c == '\n' { // behind a backslash the shell would drop it
				line.WriteString("'\n'")
				continue
			}
			plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte("_-$", c) >= 0
			if !plain {
				line.WriteByte('\\')
			}
			line.WriteByte(c)
		}
	}
	return line.String()
}

// checkSudo answers what a caller may do, or where the command is that it may
// run.
func checkSudo(caller sudoUser, req *sudoRequest) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("sudo: %w", err)
	}
	if len(req.Argv) > 0 {
		p, err := planSudo(caller, req)
		if err != nil {
			return "", err
		}
		return p.path + "\n", nil
	}
	groups, err := readDatabase("/etc/group", groupFields)
	if err != nil {
		groups = nil // as planSudo takes it
	}
	if !caller.maySudo(groups) {
		return "", fmt.Errorf("Sorry, user %s may not run sudo on %s.", caller.name, host) //nolint:revive,staticcheck // sudo's own words
	}
	return fmt.Sprintf("User %s may run the following commands on %s:\n    (ALL : ALL) NOPASSWD: ALL\n", caller.name, host), nil
}
