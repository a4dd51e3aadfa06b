package slicer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// cmdRun is a RemoteCmd that runs, in a goroutine that ends with its stream.
type cmdRun struct {
	ctx       context.Context // the RemoteCmd's
	req       SlicerExecRequest
	stdin     *cmdInput     // nil if there is no input
	stdinPipe *bufferedPipe // what StdinPipe gave writes to it; may be nil

	stream         *execStream
	stdout, stderr *cmdOutput // nil discards; may be the same

	done    chan struct{} // closed when copy has ended
	state   RemoteProcessState
	err     error      // why nobody knows how the command ended
	stopped *cmdOutput // the output that ended the command by being broken
	ended   bool       // err came after the command had told how it ended
}

func newCmdRun(c *RemoteCmd) *cmdRun {
	r := &cmdRun{
		ctx: c.ctx, stdinPipe: c.stdin, done: make(chan struct{}),
		req: SlicerExecRequest{
			Command: c.Path, Args: c.arguments(), Env: c.Environ(), UID: c.UID, GID: c.GID,
			Stdout: c.Stdout != nil, Stderr: c.Stderr != nil, Shell: c.Shell, Cwd: c.Dir,
		},
	}
	if c.Stdin != nil {
		r.stdin = &cmdInput{src: c.Stdin}
	}
	r.setOutputs(c.Stdout, c.Stderr, c.outputs)
	return r
}

// open makes the exec call. copy must follow, whatever it returns.
func (r *cmdRun) open(client *SlicerClient, vmName string) error {
	var stdin io.Reader // stays a nil interface without input
	if r.stdin != nil {
		stdin = r.stdin
	}
	var err error
	r.stream, err = client.startExecExactly(r.ctx, vmName, r.req, stdin)
	if err != nil && r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	return err
}

// setOutputs prepares the copying to the command's writers, of which some may be
// of the command's own pipes.
func (r *cmdRun) setOutputs(stdout, stderr io.Writer, pipes []*bufferedPipe) {
	if stdout != nil {
		r.stdout = &cmdOutput{name: "standard output", w: stdout}
	}
	switch {
	case stderr == nil:
	case stdout != nil && sameWriter(stdout, stderr):
		r.stdout.name = "output"
		r.stderr = r.stdout
	default:
		r.stderr = &cmdOutput{name: "standard error", w: stderr}
	}
	for _, out := range r.distinct() {
		if pipe, ok := out.w.(pipeWriter); ok && slices.Contains(pipes, pipe.pipe) {
			out.pipe = pipe.pipe
		}
	}
	if r.stdout == nil || r.stderr == nil || r.stdout == r.stderr {
		return
	}
	// Whoever waits for one output must not miss the other meanwhile.
	for _, out := range r.distinct() {
		if out.pipe == nil && !neverBlocks(out.w) {
			out.startCopying()
		}
	}
}

// distinct returns the outputs, each once.
func (r *cmdRun) distinct() []*cmdOutput {
	var list []*cmdOutput
	if r.stdout != nil {
		list = append(list, r.stdout)
	}
	if r.stderr != nil && r.stderr != r.stdout {
		list = append(list, r.stderr)
	}
	return list
}

// sameWriter reports whether a == b, which panics for some types.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	return a == b
}

// neverBlocks reports whether writing to w takes no longer than a copy does.
func neverBlocks(w io.Writer) bool {
	switch w.(type) {
	case *bytes.Buffer, *strings.Builder, *headTail:
		return true
	}
	return false
}

// copy copies the command's output until its end. Of a call that has failed,
// with err, it only cleans up.
func (r *cmdRun) copy(err error) {
	defer close(r.done)
	if r.err = err; err == nil {
		r.follow()
	}
	if r.stdinPipe != nil {
		r.stdinPipe.closeRead(io.ErrClosedPipe)
	}
	r.closeOutputs()
	for _, out := range r.distinct() {
		if out.copied != nil {
			<-out.copied
		}
	}
	if r.err != nil && !r.ended {
		r.state.code, r.state.exited, r.state.reason = -1, false, r.err.Error()
	}
}

// follow reads the stream until its end.
func (r *cmdRun) follow() {
	defer r.stream.close()
	if slices.ContainsFunc(r.distinct(), func(out *cmdOutput) bool { return out.pipe != nil }) {
		// A pipe that nobody reads must not outlive the context.
		unbind := context.AfterFunc(r.ctx, r.closeOutputs)
		defer unbind()
	}
	r.readFrames()
}

// closeOutputs ends the pipes that are written to.
func (r *cmdRun) closeOutputs() {
	for _, out := range r.distinct() {
		if out.pipe != nil {
			out.pipe.closeWrite(os.ErrClosed)
		}
	}
}

// readFrames sets state from the stream's frames, or err or stopped.
func (r *cmdRun) readFrames() {
	for frame, err := range r.stream.frames() {
		if err != nil {
			r.err = err
			var late *afterExitError
			if errors.As(err, &late) {
				r.note(&late.exit)
				r.ended = true
			}
			return
		}
		if frame.kind == frameStarted {
			r.state.pid = frame.pid
			continue
		}
		for _, part := range [...]struct {
			out  *cmdOutput
			data []byte
		}{{r.stdout, frame.stdout}, {r.stderr, frame.stderr}} {
			if part.out.write(part.data) {
				continue
			}
			if r.err = r.ctx.Err(); r.err == nil {
				r.stop(part.out)
			}
			return
		}
		if frame.kind == frameExit || !frame.typed {
			r.note(frame)
		}
	}
}

// note takes from a frame how the command ended. Of several the last counts.
func (r *cmdRun) note(frame *execFrame) {
	s := &r.state
	s.code, s.signal, s.notStarted, s.reason = frame.exitCode, frame.signal, frame.notStarted, frame.err
	s.exited = !s.notStarted && s.signal == "" && s.code >= 0
	if s.signal != "" {
		s.code = -1
	}
}

// stop is told of the output that can't take more. A pipe whose reader is closed
// is what the signal PIPE is for.
func (r *cmdRun) stop(out *cmdOutput) {
	r.stopped = out
	r.state.code, r.state.exited = -1, false
	if errors.Is(out.err, errReaderGone) {
		r.state.signal = "PIPE"
	} else {
		r.state.reason = "ended because its output could not be written"
	}
}

// result returns the command's error, once copy has ended.
func (r *cmdRun) result() error {
	switch {
	case r.err != nil:
		return r.err
	case r.stopped != nil && r.state.signal == "":
		return r.stopped.failure()
	case !r.state.Success():
		return &ExitError{RemoteProcessState: &r.state}
	}
	for _, out := range r.distinct() {
		if err := out.failure(); err != nil {
			return err
		}
	}
	if r.stdin == nil {
		return nil
	}
	err := r.stdin.failure()
	if r.stdinPipe != nil && errors.Is(err, os.ErrClosed) {
		return nil // a read of the command's own pipe, which its end has cut
	}
	return err
}

// cmdOutput is one output of a command, or both in one.
type cmdOutput struct {
	name string
	w    io.Writer
	pipe *bufferedPipe // w's, or the way to w while it is copied to; else nil
	err  error         // of the last write

	copied  chan struct{} // closed when copying has ended; nil if w is written to directly
	copyErr error         // of copying
}

// startCopying makes a goroutine of its own write to the caller's writer.
func (o *cmdOutput) startCopying() {
	w := o.w
	o.pipe = newBufferedPipe()
	o.w = pipeWriter{o.pipe}
	o.copied = make(chan struct{})
	go func() {
		defer close(o.copied)
		// io.Copy would let w read for itself, and then it wouldn't be told
		// apart who failed.
		if _, err := io.Copy(onlyWriter{w}, pipeReader{o.pipe}); err != nil {
			o.copyErr = err
			o.pipe.closeRead(err)
		}
	}()
}

// write writes data. It returns false if the output is broken: that it has just
// failed shows only when there is more to write.
func (o *cmdOutput) write(data []byte) bool {
	if o == nil || len(data) == 0 {
		return true
	}
	if o.err != nil {
		return false
	}
	n, err := o.w.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	o.err = err
	return err == nil || o.pipe == nil
}

// failure returns the error of the caller's writer.
func (o *cmdOutput) failure() error {
	err := o.err
	if o.copyErr != nil {
		err = o.copyErr
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("write the command's %s: %w", o.name, err)
}

// cmdInput is a command's standard input. An error of its source is its end.
type cmdInput struct {
	src io.Reader

	mu  sync.Mutex
	err error // of src, other than io.EOF
}

// Read implements io.Reader.
func (in *cmdInput) Read(p []byte) (int, error) {
	n, err := in.src.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.err = err
	return n, io.EOF
}

// failure returns the error of the source, if it had one.
func (in *cmdInput) failure() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil {
		return nil
	}
	return fmt.Errorf("read the command's standard input: %w", in.err)
}
