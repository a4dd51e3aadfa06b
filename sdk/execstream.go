package slicer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// drainTimeout is how long output may still come after the exit frame.
const drainTimeout = 5 * time.Second

// execStream is the answer to one exec call. The channel of Exec and whatever
// else runs commands read its frames and close it.
type execStream struct {
	ctx    context.Context // the caller's, as RemoteCmd keeps its own
	cancel context.CancelFunc
	body   io.ReadCloser
	stdin  *stdinBody // nil if there is no input
	dec    frameDecoder

	drain   *time.Timer // runs from the exit frame on
	drained atomic.Bool // the stream was ended by drain
}

// startExec starts a command and returns its stream, which the caller closes.
func (c *SlicerClient) startExec(ctx context.Context, vmName string, execReq SlicerExecRequest, stdin io.Reader) (*execStream, error) {
	if !execReq.Stdout && !execReq.Stderr {
		execReq.Stdout, execReq.Stderr = true, true
	}
	return c.startExecExactly(ctx, vmName, execReq, stdin)
}

// startExecExactly is startExec that takes the streams of execReq at their word,
// even if that is none.
func (c *SlicerClient) startExecExactly(ctx context.Context, vmName string, execReq SlicerExecRequest, stdin io.Reader) (*execStream, error) {
	if execReq.Command == "" {
		return nil, errNoCommand
	}
	query := execQuery(execReq)
	if stdin != nil {
		query.Set("stdin", "true")
	}
	var stream *execStream
	err := withoutStdio(query, func() (err error) {
		stream, err = c.openExec(ctx, vmName, query, stdin)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("exec in VM %q: %w", vmName, err)
	}
	return stream, nil
}

var errNoCommand = errors.New("exec: a command is required")

// withoutStdio makes an exec call and, if a daemon from before base64 frames
// refuses it for the stdio parameter of query, makes it again without. Its text
// frames will do.
func withoutStdio(query url.Values, call func() error) error {
	err := call()
	var taken *takenError
	if refusesStdio(err) && !errors.As(err, &taken) {
		query.Del("stdio")
		err = call()
	}
	if errors.As(err, &taken) {
		return taken.err
	}
	return err
}

// takenError is a failed call that has read standard input. What was read is
// gone, and so is a second try.
type takenError struct{ err error }

func (e *takenError) Error() string { return e.err.Error() }
func (e *takenError) Unwrap() error { return e.err }

// refusesStdio reports whether err is a daemon's complaint about the stdio
// parameter.
func refusesStdio(err error) bool {
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusBadRequest {
		return false
	}
	message := strings.ToLower(refusal.Message)
	return strings.Contains(message, "stdio") || strings.Contains(message, "parameter")
}

// openExec makes one exec call.
func (c *SlicerClient) openExec(ctx context.Context, vmName string, query url.Values, stdin io.Reader) (*execStream, error) {
	callCtx, cancel := context.WithCancel(ctx)
	req := apiRequest{
		method: http.MethodPost, path: []string{"vm", vmName, "exec"}, query: query,
		accept: "application/x-ndjson, application/json",
		begins: stdin == nil, hidden: envValues(query["env"]),
	}
	var input *stdinBody
	if stdin != nil {
		input = &stdinBody{src: stdin}
		req.body, req.length, req.contentType = input, -1, "application/octet-stream"
	}
	resp, err := c.send(callCtx, req) //nolint:bodyclose // the stream closes it
	if err != nil {
		cancel()
		if input != nil && !input.untouched() {
			err = &takenError{err}
		}
		return nil, err
	}
	return newExecStream(ctx, cancel, resp.Body, input), nil
}

// newExecStream returns the stream of an answer's body. cancel ends the call.
func newExecStream(ctx context.Context, cancel context.CancelFunc, body io.ReadCloser, stdin *stdinBody) *execStream {
	return &execStream{ctx: ctx, cancel: cancel, body: body, stdin: stdin, dec: newFrameDecoder(body)}
}

// execQuery renders an exec request; all of it but standard input is in the
// query.
func execQuery(r SlicerExecRequest) url.Values {
	query := url.Values{"cmd": {r.Command}, "stdio": {"base64"}}
	if len(r.Args) > 0 {
		query["args"] = r.Args
	}
	if len(r.Env) > 0 {
		query["env"] = r.Env
	}
	setID(query, "uid", r.UID)
	setID(query, "gid", r.GID)
	setText(query, "shell", r.Shell)
	setText(query, "cwd", r.Cwd)
	setText(query, "permissions", r.Permissions)
	query.Set("stdout", strconv.FormatBool(r.Stdout))
	query.Set("stderr", strconv.FormatBool(r.Stderr))
	return query
}

// envValues are the values of KEY=VALUE entries that are long enough to be told
// from other words of an error.
func envValues(env []string) []string {
	var values []string
	for _, kv := range env {
		if _, value, _ := strings.Cut(kv, "="); len(value) >= 4 {
			values = append(values, value)
		}
	}
	return values
}

// setID adds a uid or gid unless it is left to the agent.
func setID(query url.Values, key string, id uint32) {
	if id != NonRootUser {
		query.Set(key, strconv.FormatUint(uint64(id), 10))
	}
}

// setText adds a parameter unless it is empty.
func setText(query url.Values, key, value string) {
	if value != "" {
		query.Set(key, value)
	}
}

// close ends the stream and, if it still runs, the command.
func (s *execStream) close() {
	if s.drain != nil {
		s.drain.Stop()
	}
	s.cancel()
	if s.stdin != nil {
		_ = s.stdin.Close() // never fails
	}
	s.body.Close()
}

// next returns the next frame, and io.EOF at the stream's end.
func (s *execStream) next() (*execFrame, error) {
	frame, err := s.dec.next()
	switch {
	case err == nil:
		return frame, nil
	case errors.Is(err, io.EOF), s.drained.Load() && s.ctx.Err() == nil:
		return nil, io.EOF
	}
	return nil, s.explain(err)
}

// endsSoon is called at the exit frame: should nobody close the stream after it,
// the stream is complete all the same.
func (s *execStream) endsSoon() {
	if s.drain == nil {
		s.drain = time.AfterFunc(drainTimeout, func() {
			s.drained.Store(true)
			s.cancel()
		})
	}
}

// frames yields the frames of the stream; each is valid until the next is asked
// for. If the stream is typed, the exit frame comes last even where the agent
// sent output after it, and a stream without one ends in an error. After an
// error nothing follows.
func (s *execStream) frames() iter.Seq2[*execFrame, error] {
	return func(yield func(*execFrame, error) bool) {
		var exit *execFrame
		seen, typed := false, false
		ran := false // the command has been started, or has written something
		for {
			frame, err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if exit != nil && exit.exitCode != 0 && s.ctx.Err() == nil {
					err = &afterExitError{exit: *exit, err: err}
				}
				yield(nil, err)
				return
			}
			seen = true
			typed = typed || frame.typed
			hasOutput := len(frame.stdout) > 0 || len(frame.stderr) > 0
			ran = ran || hasOutput || frame.kind == frameStarted
			frame.notStarted = !ran && deniesStart(frame.err, frame.signal)
			if typed && frame.endsTyped() {
				s.endsSoon()
				end := frame.end()
				exit = &end
				if !hasOutput {
					continue
				}
				frame.makeOutput()
			}
			if !yield(frame, nil) {
				return
			}
		}
		if exit != nil {
			yield(exit, nil)
			return
		}
		if typed || !seen {
			yield(nil, s.explain(errNoExit))
		}
	}
}

// afterExitError is a stream that broke after it had told that the command
// failed: output may be missing, but the exit status is known. After a status of
// 0 the break is all that counts: it must not look like success.
type afterExitError struct {
	exit execFrame
	err  error
}

func (e *afterExitError) Error() string {
	return fmt.Sprintf("the command had ended with exit status %d, but the rest of its output is lost: %v", e.exit.exitCode, e.err)
}

func (e *afterExitError) Unwrap() error { return e.err }

// errNoExit is a stream that ends in good order but too early.
var errNoExit = fmt.Errorf("the stream ended before the command did: %w", io.ErrUnexpectedEOF)

// explain finds the cause of an error of the stream.
func (s *execStream) explain(err error) error {
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if s.stdin != nil {
		if cause := s.stdin.failure(); cause != nil {
			return fmt.Errorf("read standard input: %w", cause)
		}
	}
	return fmt.Errorf("read exec stream: %w", transportError(s.ctx, err))
}

// stdinBody is a request body that reads standard input, but not after Close,
// and knows whether it has.
type stdinBody struct {
	src io.Reader

	mu     sync.Mutex
	taken  bool // something may have been read of src
	closed bool
	err    error // of src, other than io.EOF
}

// Read implements io.Reader.
func (b *stdinBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	closed := b.closed
	b.taken = b.taken || !closed
	b.mu.Unlock()
	if closed {
		return 0, errStdinClosed
	}
	// Not under the lock: it may block for as long as it likes.
	n, err := b.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

var errStdinClosed = errors.New("standard input is closed")

// Close makes every Read from now on fail.
func (b *stdinBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// untouched closes the body and reports whether nothing was read of its source.
func (b *stdinBody) untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return !b.taken
}

// failure returns the error that ended standard input too early, if any.
func (b *stdinBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
