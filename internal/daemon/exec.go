package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// execParams are the query parameters of an exec call.
const execParams = "cmd args* env* uid gid cwd shell stdin stdout stderr permissions stdio buffered background ring_bytes"

// maxBuffered is what a buffered exec keeps of each stream.
const maxBuffered = 16 << 20

// execCall is a checked exec call.
type execCall struct {
	argv           []string
	env            []string
	dir            string
	uid, gid       *uint32
	stdin          bool
	stdout, stderr bool // which streams the client wants
	base64         bool
	buffered       bool
	background     bool
	ringBytes      int64 // of a background exec
}

// parseExec reads an exec call. Texts of the command and the environment are
// never part of its errors.
func parseExec(q query) (*execCall, error) {
	c := &execCall{env: q.list("env"), dir: q.text("cwd")}
	for _, f := range []struct {
		name      string
		byDefault bool
		into      *bool
	}{
		{"stdin", false, &c.stdin},
		{"stdout", true, &c.stdout},
		{"stderr", true, &c.stderr},
		{"buffered", false, &c.buffered},
		{"background", false, &c.background},
	} {
		var err error
		if *f.into, err = q.flag(f.name, f.byDefault); err != nil {
			return nil, err
		}
	}
	if err := c.setRing(q); err != nil {
		return nil, err
	}
	if c.stdin && c.buffered {
		return nil, refuse(http.StatusBadRequest, "stdin and buffered can't be used together")
	}
	switch q.text("stdio") {
	case "", "text":
	case "base64":
		c.base64 = true
	default:
		return nil, refuse(http.StatusBadRequest, "stdio must be text or base64, not %q", q.text("stdio"))
	}
	var err error
	if c.uid, err = q.id("uid"); err != nil {
		return nil, err
	}
	if c.gid, err = q.id("gid"); err != nil {
		return nil, err
	}
	if err := checkDir(c.dir); err != nil {
		return nil, err
	}
	for i, pair := range c.env {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" || strings.ContainsRune(pair, 0) {
			return nil, refuse(http.StatusBadRequest, "env entry %d is not KEY=VALUE", i+1)
		}
	}
	return c, c.setArgv(q)
}

// checkDir refuses what is no working folder; "" is the user's home.
func checkDir(dir string) error {
	if dir != "" && !strings.HasPrefix(dir, "/") && dir != "~" && !strings.HasPrefix(dir, "~/") {
		return refuse(http.StatusBadRequest, "cwd must be absolute or begin with ~, not %q", dir)
	}
	if strings.ContainsRune(dir, 0) {
		return refuse(http.StatusBadRequest, "cwd has a NUL byte")
	}
	return nil
}

// setArgv makes the argument list: as given, or one string for a login shell.
func (c *execCall) setArgv(q query) error {
	c.argv = append([]string{q.text("cmd")}, q.list("args")...)
	if c.argv[0] == "" {
		return refuse(http.StatusBadRequest, "cmd is required")
	}
	if shell := q.text("shell"); shell != "" {
		c.argv = []string{shell, "-lc", strings.Join(c.argv, " ")}
	}
	for _, arg := range c.argv {
		if strings.ContainsRune(arg, 0) {
			return refuse(http.StatusBadRequest, "the command has a NUL byte")
		}
	}
	return nil
}

func (c *execCall) command() *Command {
	return &Command{Argv: c.argv, Env: c.env, Dir: c.dir, UID: c.uid, GID: c.gid}
}

// exec serves POST /vm/{vm}/exec. When the client goes away or the VM ends,
// the command's process group is killed and waited for.
func (d *Daemon) exec(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	c, err := parseExec(q)
	if err != nil {
		return err
	}
	switch {
	case c.background:
		return d.execBackground(w, r, q, v, c)
	case c.buffered:
		return d.execBuffered(w, r, v, c)
	}
	return d.execStream(w, r, v, c)
}

// execStream answers with a frame for each piece of output as it comes.
func (d *Daemon) execStream(w http.ResponseWriter, r *http.Request, v *vm, c *execCall) error {
	ctx, leave := context.WithCancelCause(r.Context())
	defer leave(context.Canceled)
	conn := http.NewResponseController(w)
	frames := newFrameWriter(w, conn, leave)
	frames.base64, frames.legacy = c.base64, d.legacyFrames
	defer frames.close()
	cmd := c.command()
	if c.stdout {
		cmd.Stdout = frames.stream(frameStdout)
	}
	if c.stderr {
		cmd.Stderr = frames.stream(frameStderr)
	}
	if c.stdin {
		if err := conn.EnableFullDuplex(); err != nil {
			return fmt.Errorf("read stdin while answering: %w", err)
		}
		// What of stdin the command leaves unread can't precede another call.
		w.Header().Set("Connection", "close")
		in := newStdin(r.Body, conn, leave)
		defer in.finish()
		cmd.Stdin = in
	}

	p, err := v.start(ctx, cmd)
	if err != nil && isRefusal(err) {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if err != nil {
		return frames.end(ExitStatus{Code: startCode(err)}, err.Error())
	}
	frames.started(p.Pid())
	status, err := v.await(ctx, p)
	if err != nil {
		return fmt.Errorf("wait for the command: %w", err)
	}
	return frames.end(status, status.text())
}

// execBuffered answers once the command has ended.
func (d *Daemon) execBuffered(w http.ResponseWriter, r *http.Request, v *vm, c *execCall) error {
	var stdout, stderr cutBuffer
	cmd := c.command()
	if c.stdout {
		cmd.Stdout = &stdout
	}
	if c.stderr {
		cmd.Stderr = &stderr
	}
	var answer struct {
		Stdout    string     `json:"stdout"`
		Stderr    string     `json:"stderr"`
		Encoding  string     `json:"encoding,omitempty"`
		ExitCode  int        `json:"exit_code"`
		Error     string     `json:"error,omitempty"`
		PID       int        `json:"pid,omitempty"`
		StartedAt *time.Time `json:"started_at,omitempty"`
		EndedAt   *time.Time `json:"ended_at,omitempty"`
		Signal    string     `json:"signal,omitempty"`
	}
	p, err := v.start(r.Context(), cmd)
	switch {
	case err != nil && isRefusal(err):
		return err
	case err != nil:
		answer.ExitCode, answer.Error = startCode(err), err.Error()
		return writeJSON(w, http.StatusOK, answer)
	}
	started := time.Now().UTC()
	status, err := v.await(r.Context(), p)
	if err != nil {
		return fmt.Errorf("wait for the command: %w", err)
	}
	ended := time.Now().UTC()
	if err := context.Cause(r.Context()); err != nil {
		return err
	}
	answer.ExitCode = status.Code
	if !d.legacyFrames {
		answer.PID, answer.StartedAt, answer.EndedAt, answer.Signal = p.Pid(), &started, &ended, status.Signal
	}
	var problems []string
	if text := status.text(); text != "" {
		problems = append(problems, text)
	}
	for _, s := range []struct {
		name string
		buf  *cutBuffer
		into *string
	}{{"stdout", &stdout, &answer.Stdout}, {"stderr", &stderr, &answer.Stderr}} {
		*s.into = s.buf.text(c.base64)
		if s.buf.dropped > 0 {
			problems = append(problems, fmt.Sprintf("%s was cut: %d bytes after the first %d are missing", s.name, s.buf.dropped, maxBuffered))
		}
	}
	if c.base64 {
		answer.Encoding = encodingBase64
	}
	answer.Error = strings.Join(problems, "; ")
	return writeJSON(w, http.StatusOK, answer)
}

// start starts cmd in v's guest. An error that isRefusal says that v can't
// start anything now, any other that this command could not be started.
func (v *vm) start(ctx context.Context, cmd *Command) (Process, error) {
	if !v.gate.tryEnter() {
		return nil, v.errPaused()
	}
	defer v.gate.leave()
	p, err := v.guest.Start(ctx, cmd)
	if errors.Is(err, ErrEnded) {
		return nil, v.errGone()
	}
	if err != nil && ctx.Err() != nil {
		// Whoever asked is gone, or the VM is: it isn't the command's fault.
		return nil, refuse(http.StatusServiceUnavailable, "the command was not started: %v", context.Cause(ctx))
	}
	return p, err
}

func isRefusal(err error) bool {
	var refused *apiError
	return errors.As(err, &refused)
}

// await waits for p to end. When ctx ends before, p's process group is killed;
// a paused VM is left alone until it is resumed or ends.
func (v *vm) await(ctx context.Context, p Process) (ExitStatus, error) {
	ended, over := context.WithCancel(context.Background())
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		unbound, release := bind(ended, v.over, errGone, nil)
		defer release()
		if isClosed(v.over) || v.gate.enter(unbound) != nil {
			// The guest's end is the process's.
			return
		}
		defer v.gate.leave()
		// A process that has ended meanwhile needs no signal.
		_ = p.Signal("KILL")
	})
	status, err := p.Wait()
	over()
	if !stop() {
		<-killed
	}
	return status, err
}

// text is what stands beside an exit status that isn't 0.
func (s ExitStatus) text() string {
	switch {
	case s.Signal != "":
		return "signal: " + s.Signal
	case s.Code != 0:
		return fmt.Sprintf("exit status %d", s.Code)
	}
	return ""
}

// startCode is the exit code of a command that could not be started, as a
// shell would give it.
func startCode(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}
