package slicertest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	firstPid     = 100
	ordinaryUser = 1000 // ubuntu
)

// Program is a guest's program. It returns its exit code, and must return
// when ctx is done: a signal has then ended the process, and the code doesn't
// count. ctx's cause tells which signal.
type Program func(ctx context.Context, p *Proc) int

// Proc is a running program's view of itself.
type Proc struct {
	Args     []string // Args[0] is the program as it was called
	Env      []string // KEY=VALUE; of several values the last one counts
	Dir      string   // working folder
	UID, GID uint32
	Hostname string

	Stdin          io.Reader // empty when the process has no input
	Stdout, Stderr io.Writer // writing fails once a signal has ended the process

	// Terminal is what the program runs on in a shell session, nil elsewhere.
	Terminal *Terminal

	guest *guest
}

// Getenv returns the value of an environment variable, "" when it isn't set.
func (p *Proc) Getenv(name string) string {
	for _, pair := range slices.Backward(p.Env) {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}

// Files returns the VM's files, as the process's user may use them. Relative
// names are in the working folder.
func (p *Proc) Files() *Files {
	return &Files{tree: p.guest.tree, dir: p.Dir, user: &owner{p.UID, p.GID}}
}

// Run runs another program in the place of this one, with its streams, and
// returns its exit code. A program that isn't there is said on Stderr; the
// code is then 127.
func (p *Proc) Run(ctx context.Context, argv ...string) int {
	if len(argv) == 0 {
		return 0
	}
	program, err := p.lookup(argv)
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: command not found\n", argv[0])
		return 127
	}
	child := *p
	child.Args = argv
	return program(ctx, &child)
}

// lookup finds the program of argv: a named one, or a script in the guest's
// files. It changes argv's meaning for a script by returning its interpreter.
func (p *Proc) lookup(argv []string) (Program, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, fmt.Errorf("empty command: %w", fs.ErrInvalid)
	}
	name := argv[0]
	dir, base := path.Split(name)
	switch dir {
	case "", "/bin/", "/usr/bin/", "/usr/local/bin/":
		if program := p.guest.machines.program(base); program != nil {
			return program, nil
		}
	}
	if dir == "" {
		return nil, fmt.Errorf("%s: command not found: %w", name, fs.ErrNotExist)
	}
	return p.script(name)
}

// script returns a program that runs the script file name.
func (p *Proc) script(name string) (Program, error) {
	text, err := p.Files().ReadFile(name)
	if err != nil {
		return nil, err
	}
	info, err := p.Files().Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o111 == 0 {
		return nil, fmt.Errorf("%s: not executable: %w", name, fs.ErrPermission)
	}
	first, _, _ := bufio.NewReader(bytes.NewReader(text)).ReadLine() // the text is in memory
	interpreter, ok := strings.CutPrefix(string(first), "#!")
	words := strings.Fields(interpreter)
	if !ok || len(words) == 0 {
		return nil, fmt.Errorf("%s: exec format error: no #! line", name)
	}
	words = append(words, name)
	if _, err := p.lookup(words[:1]); err != nil {
		return nil, fmt.Errorf("%s: interpreter %s: %w", name, words[0], err)
	}
	return func(ctx context.Context, p *Proc) int {
		return p.Run(ctx, append(slices.Clone(words), p.Args[1:]...)...)
	}, nil
}

func userOf(uid uint32) (name, home string) {
	switch uid {
	case 0:
		return "root", "/root"
	case ordinaryUser:
		return "ubuntu", "/home/ubuntu"
	}
	return fmt.Sprint(uid), "/"
}

// Signal is the cause with which a signal ends a program's context.
type Signal string

// Error implements error.
func (s Signal) Error() string { return "signal " + string(s) }

var signalNumbers = [...]struct {
	name   Signal
	number int
}{{"HUP", 1}, {"INT", 2}, {"QUIT", 3}, {"KILL", 9}, {"USR1", 10}, {"USR2", 12}, {"TERM", 15}}

// process is the daemon.Process of a running program.
type process struct {
	guest  *guest
	pid    int
	name   string
	stdin  io.Reader
	hangup func()        // called by a signal; may be nil
	done   chan struct{} // closed when the program has returned
	status daemon.ExitStatus

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	signal Signal // the first that came
}

func newProcess(g *guest, pid int, stdin io.Reader) *process {
	return &process{guest: g, pid: pid, stdin: stdin, done: make(chan struct{})}
}

// run starts the program.
func (p *process) run(proc *Proc, program Program) {
	p.name = proc.Args[0]
	ctx, cancel := context.WithCancelCause(context.Background())
	p.cancel = cancel
	proc.Stdout = liveWriter{ctx, proc.Stdout}
	proc.Stderr = liveWriter{ctx, proc.Stderr}
	go func() {
		code := program(ctx, proc)
		p.mu.Lock()
		p.status = daemon.ExitStatus{Code: code & 0xff}
		for _, s := range signalNumbers {
			if s.name == p.signal {
				p.status = daemon.ExitStatus{Code: 128 + s.number, Signal: string(s.name)}
			}
		}
		p.mu.Unlock()
		cancel(context.Canceled)
		p.guest.mu.Lock()
		delete(p.guest.procs, p)
		p.guest.mu.Unlock()
		close(p.done)
	}()
}

// Pid implements daemon.Process.
func (p *process) Pid() int { return p.pid }

// Wait implements daemon.Process.
func (p *process) Wait() (daemon.ExitStatus, error) {
	<-p.done
	return p.status, nil
}

// Signal implements daemon.Process.
func (p *process) Signal(name string) error {
	for _, s := range signalNumbers {
		if string(s.name) == name {
			p.kill(s.name)
			return nil
		}
	}
	return fmt.Errorf("signal %q: %w", name, fs.ErrInvalid)
}

// kill ends the program's context, and its input, so that a blocked read
// returns.
func (p *process) kill(s Signal) {
	p.mu.Lock()
	if p.signal == "" {
		p.signal = s
	}
	p.mu.Unlock()
	p.cancel(s)
	if c, ok := p.stdin.(io.Closer); ok {
		_ = c.Close() // only its effect on readers counts
	}
	if p.hangup != nil {
		p.hangup()
	}
}

// liveWriter writes until ctx is done.
type liveWriter struct {
	ctx context.Context
	w   io.Writer
}

func (l liveWriter) Write(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	return l.w.Write(p)
}
