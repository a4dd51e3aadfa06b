package slicer

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxWaitExit is the longest that the daemon waits in one call of ExecWaitExit.
const maxWaitExit = 600 * time.Second

// ExecBackgroundOptions are the options of ExecBackground.
type ExecBackgroundOptions struct {
	// RingBytes is how much output the VM's agent keeps. 0 is its default of
	// 1 MiB.
	RingBytes int64
}

// ExecBackgroundResponse tells of a command that was started in the background.
type ExecBackgroundResponse struct {
	ExecID    string    `json:"exec_id"` // names the command in every later call
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	RingBytes int64     `json:"ring_bytes"` // how much output is kept
}

// ExecBackgroundInfo is the state of a background command.
type ExecBackgroundInfo struct {
	ExecID       string     `json:"exec_id"`
	PID          int        `json:"pid"`
	Command      string     `json:"command"`
	Args         []string   `json:"args,omitempty"`
	Cwd          string     `json:"cwd,omitempty"`
	UID          uint32     `json:"uid"`
	StartedAt    time.Time  `json:"started_at"`
	Running      bool       `json:"running"`
	ExitCode     *int       `json:"exit_code"` // nil while it runs
	Signal       string     `json:"signal,omitempty"`
	EndedAt      *time.Time `json:"ended_at"`      // nil while it runs
	BytesWritten int64      `json:"bytes_written"` // of output, in all
	BytesDropped int64      `json:"bytes_dropped"` // of them no longer kept
	NextID       uint64     `json:"next_id"`       // that the log's next piece will have
	RingBytes    int64      `json:"ring_bytes"`
}

// ExecBackgroundKillRequest says how to end a background command.
type ExecBackgroundKillRequest struct {
	// Signal is TERM, KILL, INT, HUP, QUIT, USR1 or USR2. "" is TERM.
	Signal string `json:"signal,omitempty"`

	// GraceMS is after how many milliseconds TERM is followed by KILL. 0 is
	// the agent's default of 5000. No other signal is followed by anything.
	GraceMS int `json:"grace_ms,omitempty"`
}

// ExecBackgroundKillResponse is the answer to ExecKill.
type ExecBackgroundKillResponse struct {
	ExecID     string `json:"exec_id"`
	PID        int    `json:"pid"`
	Running    bool   `json:"running"`               // it may still be
	SignalSent string `json:"signal_sent,omitempty"` // "" if it had ended before
}

// ExecBackgroundWaitExitResponse is the answer to ExecWaitExit.
type ExecBackgroundWaitExitResponse struct {
	ExecID   string     `json:"exec_id"`
	Running  bool       `json:"running"`
	ExitCode *int       `json:"exit_code"` // nil while it runs
	Signal   string     `json:"signal,omitempty"`
	EndedAt  *time.Time `json:"ended_at"` // nil while it runs
	TimedOut bool       `json:"timed_out"`
}

// ExecBackgroundDeleteResponse is the answer to ExecDelete.
type ExecBackgroundDeleteResponse struct {
	ExecID string `json:"exec_id"`
	Reaped bool   `json:"reaped"`
}

// ErrNoBackground says that a daemon doesn't know background commands.
var ErrNoBackground = errors.New("the daemon doesn't run commands in the background")

// ExecBackground starts a command in a VM that runs on when the call is over
// (POST /vm/{vm}/exec?background=true). What it writes is kept for ExecLogs, up
// to the size of a ring, until ExecDelete or the VM's end; ExecKill ends it. It
// has no standard input; execReq.Stdin is refused. An *APIError with the status
// 503 says that the VM's agent has no room for another ring, ErrNoBackground that
// the daemon is too old; one that doesn't know the parameter has then begun the
// command in the foreground and killed it.
func (c *SlicerClient) ExecBackground(ctx context.Context, vmName string, execReq SlicerExecRequest, opts ExecBackgroundOptions) (*ExecBackgroundResponse, error) {
	answer, err := c.execBackground(ctx, vmName, execReq, opts)
	if err != nil {
		return nil, fmt.Errorf("exec in the background of VM %q: %w", vmName, err)
	}
	return answer, nil
}

func (c *SlicerClient) execBackground(ctx context.Context, vmName string, execReq SlicerExecRequest, opts ExecBackgroundOptions) (*ExecBackgroundResponse, error) {
	req, err := execCall(vmName, execReq)
	if err != nil {
		return nil, err
	}
	if opts.RingBytes < 0 {
		return nil, fmt.Errorf("a ring of %d bytes", opts.RingBytes)
	}
	req.query.Set("background", "true")
	if opts.RingBytes > 0 {
		req.query.Set("ring_bytes", strconv.FormatInt(opts.RingBytes, 10))
	}
	var resp *http.Response
	err = withoutStdio(req.query, func() (err error) {
		resp, err = c.send(ctx, req) //nolint:bodyclose // closed below
		return err
	})
	if refusesBackground(err) {
		return nil, fmt.Errorf("%w: %w", ErrNoBackground, err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/x-ndjson" {
		// An older daemon runs it in the foreground; hanging up kills it.
		return nil, ErrNoBackground
	}
	answer := new(ExecBackgroundResponse)
	if err := decodeAnswer(resp, answer, false); err != nil {
		if resp.StatusCode == http.StatusOK && ctx.Err() == nil {
			return nil, fmt.Errorf("%w: %w", ErrNoBackground, err)
		}
		return nil, fmt.Errorf("read answer: %w", transportError(ctx, err))
	}
	if answer.ExecID == "" {
		return nil, ErrNoBackground
	}
	return answer, nil
}

// refusesBackground reports whether err is a daemon's complaint about a
// parameter of background commands.
func refusesBackground(err error) bool {
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusBadRequest {
		return false
	}
	message := strings.ToLower(refusal.Message)
	return strings.Contains(message, "parameter") && (strings.Contains(message, "background") || strings.Contains(message, "ring_bytes"))
}

// ExecList returns a VM's background commands, those that have ended too until
// ExecDelete (GET /vm/{vm}/exec).
func (c *SlicerClient) ExecList(ctx context.Context, vmName string) ([]ExecBackgroundInfo, error) {
	var list []ExecBackgroundInfo
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", vmName, "exec"}, prompt: true,
	}, &list)
	if err != nil {
		return nil, fmt.Errorf("list background commands of VM %q: %w", vmName, err)
	}
	return list, nil
}

// ExecInfo returns the state of a background command (GET /vm/{vm}/exec/{id}). As
// with every call that takes an id, an *APIError with the status 410 says that
// ExecDelete has removed the command, and one with 404 that there has been none.
func (c *SlicerClient) ExecInfo(ctx context.Context, vmName, execID string) (*ExecBackgroundInfo, error) {
	info := new(ExecBackgroundInfo)
	err := c.callExec(ctx, vmName, execID, apiRequest{method: http.MethodGet, prompt: true}, info)
	if err != nil {
		return nil, fmt.Errorf("get background command of VM %q: %w", vmName, err)
	}
	return info, nil
}

// ExecKill sends a signal to the process group of a background command (POST
// /vm/{vm}/exec/{id}/kill). It doesn't wait for the end. A command that has ended
// is left alone, and that is no error.
func (c *SlicerClient) ExecKill(ctx context.Context, vmName, execID string, request ExecBackgroundKillRequest) (*ExecBackgroundKillResponse, error) {
	answer := new(ExecBackgroundKillResponse)
	err := c.callExec(ctx, vmName, execID, apiRequest{
		method: http.MethodPost, path: []string{"kill"}, json: request, prompt: true,
	}, answer)
	if err != nil {
		return nil, fmt.Errorf("kill background command of VM %q: %w", vmName, err)
	}
	return answer, nil
}

// ExecWaitExit waits until a background command has ended, or for as long as
// timeout says, which is rounded up to seconds; the answer then has TimedOut set
// (GET /vm/{vm}/exec/{id}/wait-exit). 0 is the daemon's default of 30 seconds. The
// daemon waits for 10 minutes at most, so a longer timeout takes several calls.
func (c *SlicerClient) ExecWaitExit(ctx context.Context, vmName, execID string, timeout time.Duration) (*ExecBackgroundWaitExitResponse, error) {
	if timeout < 0 {
		return nil, fmt.Errorf("wait for background command of VM %q: the timeout of %s is negative", vmName, timeout)
	}
	for {
		slice := min(timeout, maxWaitExit)
		timeout -= slice
		query := url.Values{}
		if slice > 0 {
			query.Set("timeout", strconv.FormatInt(int64((slice+time.Second-1)/time.Second), 10))
		}
		answer := new(ExecBackgroundWaitExitResponse)
		err := c.callExec(ctx, vmName, execID, apiRequest{
			method: http.MethodGet, path: []string{"wait-exit"}, query: query,
		}, answer)
		if err != nil {
			return nil, fmt.Errorf("wait for background command of VM %q: %w", vmName, err)
		}
		if !answer.TimedOut || timeout <= 0 {
			return answer, nil
		}
	}
}

// ExecDelete forgets a background command and frees its log (DELETE
// /vm/{vm}/exec/{id}). It is no way to end one: newer daemons refuse it for a
// command that runs, with an *APIError of the status 409, and older ones leave
// the command running.
func (c *SlicerClient) ExecDelete(ctx context.Context, vmName, execID string) (*ExecBackgroundDeleteResponse, error) {
	answer := &ExecBackgroundDeleteResponse{ExecID: execID, Reaped: true}
	err := c.callExec(ctx, vmName, execID, apiRequest{method: http.MethodDelete, prompt: true, mayBeEmpty: true}, answer)
	if err != nil {
		return nil, fmt.Errorf("delete background command of VM %q: %w", vmName, err)
	}
	return answer, nil
}

// callExec makes a call about a background command. The path of r is what comes
// after the command's.
func (c *SlicerClient) callExec(ctx context.Context, vmName, execID string, r apiRequest, out any) error {
	r.path = append([]string{"vm", vmName, "exec", execID}, r.path...)
	return c.call(ctx, r, out)
}
