package slicer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxBuffered bounds the answer of a buffered exec, in bytes. A daemon may keep
// 16 MiB of each output, which base64 makes a third longer.
const maxBuffered = 64 << 20

// SlicerExecResult is what a command wrote, and how it ended.
type SlicerExecResult struct {
	// Stdout and Stderr are the bytes as the command wrote them.
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`

	// ExitCode is the command's exit code; -1 when there is an Error and no
	// exit code is known.
	ExitCode int `json:"exit_code"`

	// Error says why the command could not be started, that it ended with
	// another code than 0 ("exit status 42"), or that output is missing because
	// there was too much of it.
	Error string `json:"error,omitempty"`

	// Signal is the signal that ended the command, such as "KILL", or "".
	Signal string `json:"signal,omitempty"`

	// NotStarted is set if the command never ran; Error then says why. It is
	// not on the wire: it follows from the rest.
	NotStarted bool `json:"-"`

	// PID, StartedAt and EndedAt are zero if the agent doesn't tell.
	PID       int       `json:"pid,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// ExecBuffered runs a command in a VM and returns what it wrote, all at once
// (POST /vm/{vm}/exec?buffered=true). It suits commands that write little: the
// daemon bounds what it keeps of each output, and more than 64 MiB are an error.
//
// A command that exits with another code than 0, or could not be started, is no
// error: the result says so. There is no standard input; execReq.Stdin is
// refused. When ctx ends the command is killed.
func (c *SlicerClient) ExecBuffered(ctx context.Context, vmName string, execReq SlicerExecRequest) (*SlicerExecResult, error) {
	result, err := c.execBuffered(ctx, vmName, execReq)
	if err != nil {
		return nil, fmt.Errorf("exec in VM %q: %w", vmName, err)
	}
	return result, nil
}

func (c *SlicerClient) execBuffered(ctx context.Context, vmName string, execReq SlicerExecRequest) (*SlicerExecResult, error) {
	req, err := execCall(vmName, execReq)
	if err != nil {
		return nil, err
	}
	req.query.Set("buffered", "true")
	var resp *http.Response
	err = withoutStdio(req.query, func() (err error) {
		resp, err = c.send(ctx, req) //nolint:bodyclose // closed below
		return err
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	result, err := readBuffered(resp)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", transportError(ctx, err))
	}
	return result, nil
}

// execCall returns the call that runs a command without standard input.
func execCall(vmName string, execReq SlicerExecRequest) (apiRequest, error) {
	switch {
	case execReq.Command == "":
		return apiRequest{}, errNoCommand
	case execReq.Stdin:
		return apiRequest{}, errors.New("standard input needs Exec, ExecWithReader or a RemoteCmd")
	case !execReq.Stdout && !execReq.Stderr:
		execReq.Stdout, execReq.Stderr = true, true
	}
	return apiRequest{method: http.MethodPost, path: []string{"vm", vmName, "exec"}, query: execQuery(execReq), hidden: envValues(execReq.Env)}, nil
}

func readBuffered(resp *http.Response) (*SlicerExecResult, error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBuffered+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxBuffered:
		return nil, fmt.Errorf("longer than %d MiB", maxBuffered>>20)
	case isHTML(resp.Header.Get("Content-Type"), data):
		return nil, errors.New("an HTML page, not the Slicer API's JSON")
	}
	var wire wireFrame
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, err
	}
	end := execFrame{exitCode: wire.ExitCode, err: wire.Error}
	end.settle()
	result := &SlicerExecResult{
		ExitCode: end.exitCode, Error: end.err, Signal: wire.Signal, PID: wire.PID,
		StartedAt: firstTime(wire.StartedAt), EndedAt: firstTime(wire.EndedAt),
	}
	for _, output := range [...]struct {
		from string
		to   *string
	}{{wire.Stdout, &result.Stdout}, {wire.Stderr, &result.Stderr}} {
		plain, err := appendPayload(nil, output.from, wire.Encoding)
		if err != nil {
			return nil, err
		}
		*output.to = string(plain)
	}
	ran := result.PID != 0 || result.Stdout != "" || result.Stderr != ""
	result.NotStarted = !ran && deniesStart(wire.Error, wire.Signal)
	return result, nil
}
