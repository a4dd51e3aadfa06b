package slicer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// startGrace is how long Start waits for the answer to a command with input.
const startGrace = time.Second

// RemoteCmd is a command to run in a VM. It is used as an os/exec.Cmd is, and
// like that it runs once: by Run, Output, CombinedOutput, or Start and then Wait.
// Make one with Command.
//
// Whether the command could be started is known only once Wait returns: its error
// is then an *ExitError whose NotStarted is true. Start reports what keeps the
// daemon from trying, such as an *APIError with the status 409 for a paused VM.
type RemoteCmd struct {
	// Path is the program to run. Without a slash it is looked up in the PATH
	// of the VM's user. It must not be empty.
	Path string

	// Args holds the arguments, beginning with the program's name. That first
	// one isn't sent: the program finds Path in its place. Empty means {Path}.
	Args []string

	// Env holds KEY=VALUE entries that are added to the environment that the
	// VM's agent gives the user, whose values they replace. Of several with
	// one key the last counts. With nil there is only the agent's.
	Env []string

	// Dir is the working folder, which may begin with ~. "" is the agent's
	// choice, usually the user's home.
	Dir string

	// Stdin is what the command reads, up to its end. nil is an empty input.
	//
	// Wait doesn't wait for a Read of Stdin that blocks: such a Read may
	// outlive the command, and what it then returns is lost. An error of a
	// Read other than io.EOF ends the command's input, and Wait reports it if
	// the command succeeds all the same.
	Stdin io.Reader

	// Stdout and Stderr take what the command writes. nil discards it.
	//
	// If both are the same writer, by ==, it is used by one goroutine at a
	// time and gets both outputs in the order in which the agent sent them.
	// Two different writers may be used at the same time.
	//
	// A writer that fails is not written to again. If there is more to write
	// to it the command is ended, as one is that writes to a broken pipe, and
	// Wait returns the writer's error; it does so too if the command succeeds.
	// Wait waits for a Write that blocks.
	Stdout io.Writer
	Stderr io.Writer

	// ProcessState tells how the command ended, once Wait or Run has returned.
	ProcessState *RemoteProcessState

	// UID and GID to run as: 0 is root, also for a RemoteCmd that sets
	// neither; NonRootUser lets the agent pick its ordinary user.
	UID uint32
	GID uint32

	// Shell is the shell to run the command by, such as "/bin/bash": Path and
	// the arguments are then joined with spaces to the text of `<shell> -lc`,
	// and nothing of it is quoted. With "", which Command leaves it at, there
	// is no shell: the program gets its arguments as they are.
	Shell string

	client *SlicerClient
	ctx    context.Context // as os/exec keeps its own
	vmName string

	started bool
	waited  bool
	run     *cmdRun // once it has been started
	stdin   *bufferedPipe
	outputs []*bufferedPipe // of StdoutPipe and StderrPipe
}

// Command returns a RemoteCmd that runs the program name with the given
// arguments, as root, in a VM (POST /vm/{vm}/exec). Nothing is sent before it is
// started.
//
// When ctx ends before the command does the command is killed, and Start or Wait
// returns ctx.Err(). A nil ctx panics.
func (c *SlicerClient) Command(ctx context.Context, vmName string, name string, arg ...string) *RemoteCmd {
	if ctx == nil {
		panic("slicer: Command with a nil context")
	}
	return &RemoteCmd{
		Path: name, Args: append([]string{name}, arg...),
		client: c, ctx: ctx, vmName: vmName,
	}
}

// CommandContext is Command, under the name that users of os/exec know.
func (c *SlicerClient) CommandContext(ctx context.Context, vmName string, name string, arg ...string) *RemoteCmd {
	return c.Command(ctx, vmName, name, arg...)
}

// String returns the program and its arguments, separated by spaces, for people
// to read. Nothing is quoted, and the environment is left out.
func (c *RemoteCmd) String() string {
	return strings.Join(append([]string{c.Path}, c.arguments()...), " ")
}

// Environ returns a copy of the entries that Env adds to the command's
// environment, each key once.
func (c *RemoteCmd) Environ() []string {
	if len(c.Env) == 0 {
		return nil
	}
	var env []string
	seen := make(map[string]bool)
	for _, entry := range slices.Backward(c.Env) {
		key, _, ok := strings.Cut(entry, "=")
		if ok && seen[key] {
			continue
		}
		seen[key] = ok
		env = append(env, entry)
	}
	slices.Reverse(env)
	return env
}

// arguments returns what follows the program.
func (c *RemoteCmd) arguments() []string {
	if len(c.Args) == 0 {
		return nil
	}
	return c.Args[1:]
}

// Run starts the command and waits until it has ended. Its error is nil if the
// command exited with 0 and nothing went wrong with its input and output, else
// that of Start or Wait.
func (c *RemoteCmd) Run() error {
	if c.Stdin != nil {
		if err := c.Start(); err != nil {
			return err
		}
		return c.Wait()
	}
	run, err := c.begin()
	if err != nil {
		return err
	}
	if err := c.finish(run, run.open(c.client, c.vmName)); err != nil {
		return err
	}
	run.copy(nil)
	return c.Wait()
}

// Output runs the command and returns what it wrote to its standard output, all
// of which is kept in memory. An *ExitError holds in its Stderr what the command
// wrote there, unless Stderr was set. It is an error if Stdout is set.
func (c *RemoteCmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("slicer: Stdout is already set")
	}
	var stdout bytes.Buffer
	c.Stdout = &stdout
	var kept *headTail
	if c.Stderr == nil {
		kept = new(headTail)
		c.Stderr = kept
	}
	err := c.Run()
	var exit *ExitError
	if kept != nil && errors.As(err, &exit) {
		exit.Stderr = kept.bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns what it wrote to its standard
// output and its standard error, all of which is kept in memory. It is an error
// if Stdout or Stderr is set.
func (c *RemoteCmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("slicer: Stdout is already set")
	}
	if c.Stderr != nil {
		return nil, errors.New("slicer: Stderr is already set")
	}
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	err := c.Run()
	return both.Bytes(), err
}

// StdinPipe returns a pipe to the command's standard input, which ends when the
// pipe is closed. The pipe buffers 64 KiB; writing to it fails once the command
// has ended. Wait closes it too.
func (c *RemoteCmd) StdinPipe() (io.WriteCloser, error) {
	switch {
	case c.Stdin != nil:
		return nil, errors.New("slicer: Stdin is already set")
	case c.started:
		return nil, errors.New("slicer: StdinPipe after the command was started")
	}
	c.stdin = newBufferedPipe()
	c.Stdin = pipeReader{c.stdin}
	return pipeWriter{c.stdin}, nil
}

// StdoutPipe returns a pipe from the command's standard output. The pipe buffers
// 64 KiB; the command stands still while it is full. Closing it before the
// command's end breaks it: the command is ended when it next writes, and Wait
// then returns an *ExitError with the signal PIPE.
//
// Wait closes the pipe, so read it to its end before calling Wait; and for the
// same reason don't call Run. To have both outputs from one pipe set Stderr to
// the value that StdoutPipe gives Stdout.
func (c *RemoteCmd) StdoutPipe() (io.ReadCloser, error) {
	switch {
	case c.Stdout != nil:
		return nil, errors.New("slicer: Stdout is already set")
	case c.started:
		return nil, errors.New("slicer: StdoutPipe after the command was started")
	}
	pipe := c.outputPipe()
	c.Stdout = pipeWriter{pipe}
	return pipeReader{pipe}, nil
}

// StderrPipe is StdoutPipe for the command's standard error. While one of the two
// pipes is full nothing comes through the other, so read both at the same time.
func (c *RemoteCmd) StderrPipe() (io.ReadCloser, error) {
	switch {
	case c.Stderr != nil:
		return nil, errors.New("slicer: Stderr is already set")
	case c.started:
		return nil, errors.New("slicer: StderrPipe after the command was started")
	}
	pipe := c.outputPipe()
	c.Stderr = pipeWriter{pipe}
	return pipeReader{pipe}, nil
}

func (c *RemoteCmd) outputPipe() *bufferedPipe {
	pipe := newBufferedPipe()
	c.outputs = append(c.outputs, pipe)
	return pipe
}

// Start starts the command and doesn't wait until it has ended; call Wait for
// that. When it returns an error, the pipes are closed and nothing runs. Starting
// a RemoteCmd a second time is an error.
//
// A daemon may want to read of the command's input before it answers, and the
// caller may want Start to return before there is any. So with Stdin set Start
// waits for the answer for no longer than a second; Wait then reports what is
// wrong with it.
func (c *RemoteCmd) Start() error {
	run, err := c.begin()
	if err != nil {
		return err
	}
	if c.Stdin == nil {
		if err := c.finish(run, run.open(c.client, c.vmName)); err != nil {
			return err
		}
		go run.copy(nil)
		return nil
	}
	opened := make(chan error, 1)
	go func() {
		err := run.open(c.client, c.vmName)
		opened <- err
		run.copy(err)
	}()
	enough := time.NewTimer(startGrace)
	defer enough.Stop()
	select {
	case err := <-opened:
		if err != nil {
			<-run.done
			c.closePipes()
			return err
		}
	case <-enough.C:
	}
	c.run = run
	return nil
}

// begin prepares the one run that a RemoteCmd has.
func (c *RemoteCmd) begin() (*cmdRun, error) {
	switch {
	case c.client == nil:
		return nil, errors.New("slicer: a RemoteCmd that Command has not made")
	case c.started:
		return nil, errors.New("slicer: the command was already started")
	}
	c.started = true
	if err := c.ctx.Err(); err != nil {
		c.closePipes()
		return nil, err
	}
	return newCmdRun(c), nil
}

// finish ends the start of run, whose call was answered with err.
func (c *RemoteCmd) finish(run *cmdRun, err error) error {
	if err != nil {
		run.copy(err)
		c.closePipes()
		return err
	}
	c.run = run
	return nil
}

// Wait waits until the command has ended, all that it wrote has been copied, and
// the pipes are closed. It must follow a Start that returned nil, once.
//
// Its error is nil if the command exited with 0 and nothing went wrong with its
// input and output. It is an *ExitError if the command ended otherwise or could
// not be started, the context's error if that ended before the command did, and
// one that says what broke if nobody knows how the command ended.
func (c *RemoteCmd) Wait() error {
	switch {
	case c.run == nil:
		return errors.New("slicer: the command was not started")
	case c.waited:
		return errors.New("slicer: Wait was already called")
	}
	c.waited = true
	<-c.run.done
	c.closePipes()
	c.ProcessState = &c.run.state
	return c.run.result()
}

// closePipes closes the ends that callers have.
func (c *RemoteCmd) closePipes() {
	if c.stdin != nil {
		_ = pipeWriter{c.stdin}.Close() // never fails
	}
	for _, pipe := range c.outputs {
		pipe.closeRead(io.ErrClosedPipe)
	}
}
