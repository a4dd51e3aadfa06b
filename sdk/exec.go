package slicer

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"time"
)

// SlicerExecRequest describes a command to run in a VM. All of it travels in
// the request's query.
type SlicerExecRequest struct {
	// Command is the program to run, or with Shell set the text for the
	// shell. It must not be empty.
	Command string `json:"command,omitempty"`

	// Args are the program's arguments. With Shell set they are joined to
	// Command with spaces.
	Args []string `json:"args,omitempty"`

	// Env holds KEY=VALUE entries that are added to the user's environment.
	Env []string `json:"env,omitempty"`

	// UID and GID to run as: 0 is root, NonRootUser lets the agent pick.
	UID uint32 `json:"uid,omitempty"`
	GID uint32 `json:"gid,omitempty"`

	// Stdin makes Exec send the standard input of this process.
	// ExecWithReader sends its reader whatever Stdin says.
	Stdin bool `json:"stdin,omitempty"`

	// Stdout and Stderr choose the streams to receive. Neither set means
	// both.
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`

	// Shell, such as /bin/bash, runs Command as `<shell> -lc`. With "" the
	// program is run without a shell.
	Shell string `json:"shell,omitempty"`

	// Cwd is the working folder, which may begin with ~; "" is the agent's
	// choice.
	Cwd string `json:"cwd,omitempty"`

	// Permissions is handed to the agent as it is.
	Permissions string `json:"permissions,omitempty"`
}

// SlicerExecWriteResult is one piece of what a command wrote, or how it ended.
type SlicerExecWriteResult struct {
	Timestamp time.Time `json:"timestamp"`

	// Stdout and Stderr are the bytes as the command wrote them. A piece may
	// end inside a line and inside a UTF-8 sequence.
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`

	// ExitCode is the command's exit code. It is 0 in pieces of output, and
	// -1 when there is an Error and no exit code is known.
	ExitCode int `json:"exit_code,omitempty"`

	// Error says why the command could not be started, that it ended with
	// another code than 0 ("exit status 42"), or that the stream broke.
	Error string `json:"error,omitempty"`

	// Type is what the piece is: "stdout", "stderr", "exit" for how the
	// command ended, "" from an older agent that doesn't say, and "error"
	// when the stream broke and nobody knows how the command ended. In the log
	// of a background command it is also "started", or "gap" where pieces
	// are missing.
	Type string `json:"type,omitempty"`

	// Signal is the signal that ended the command, such as "KILL", or "".
	Signal string `json:"signal,omitempty"`

	// NotStarted is set on the last piece of a command that never ran; Error
	// then says why. It is not on the wire: it follows from what came before.
	NotStarted bool `json:"-"`

	// PID is the command's process id in the VM, in a piece of the Type
	// "started"; else 0.
	PID int `json:"pid,omitempty"`

	// ID numbers the pieces of a background command's log, rising from one to
	// the next. It is 0 in every other stream.
	ID uint64 `json:"id,omitempty"`

	// DroppedBytes and DroppedFrames are how much is missing where Type is
	// "gap", and Message says why.
	DroppedBytes  int64  `json:"dropped_bytes,omitempty"`
	DroppedFrames int    `json:"dropped_frames,omitempty"`
	Message       string `json:"message,omitempty"`
}

// Exec runs a command in a VM and streams what it writes (POST /vm/{vm}/exec).
// With execReq.Stdin the command reads the standard input of this process.
//
// The channel is unbuffered: the command stands still while nobody receives. It
// is closed when the command has ended, when the stream broke or when ctx ends,
// which kills the command. Whoever stops receiving before that must cancel ctx.
//
// What a command wrote comes first, then one result that tells how it ended: its
// ExitCode, and an Error unless that is 0. (An older agent spreads exit codes
// over its results; the last one counts.) If that is not known because the
// stream broke or ctx ended, the last result has the Type "error", an ExitCode
// of -1 and says why in Error. When ctx has ended only a receiver that is waiting
// at that moment gets it, so look at ctx.Err() too.
//
// A refusal, such as an *APIError with the status 409 for a paused VM, is
// returned as an error and there is no channel.
func (c *SlicerClient) Exec(ctx context.Context, nodeName string, execReq SlicerExecRequest) (chan SlicerExecWriteResult, error) {
	var stdin io.Reader
	if execReq.Stdin {
		stdin = os.Stdin
	}
	return c.ExecWithReader(ctx, nodeName, execReq, stdin)
}

// ExecWithReader is Exec with the command's standard input taken from stdin
// until its end. A nil stdin is an empty input. An error of stdin other than
// io.EOF ends the command. A call of stdin.Read that blocks is not interrupted:
// it may outlive the command, and what it then reads is lost.
func (c *SlicerClient) ExecWithReader(ctx context.Context, nodeName string, execReq SlicerExecRequest, stdin io.Reader) (chan SlicerExecWriteResult, error) {
	stream, err := c.startExec(ctx, nodeName, execReq, stdin)
	if err != nil {
		return nil, err
	}
	results := make(chan SlicerExecWriteResult)
	go func() {
		defer close(results)
		defer stream.close()
		sendFrames(ctx, results, func(yield func(*execFrame, error) bool) {
			for frame, err := range stream.frames() {
				if err == nil && frame.kind == frameStarted {
					continue
				}
				if !yield(frame, err) {
					return
				}
			}
		})
	}()
	return results, nil
}

// sendFrames sends frames to a receiver until ctx ends. An error comes as the
// last result.
func sendFrames(ctx context.Context, results chan<- SlicerExecWriteResult, frames iter.Seq2[*execFrame, error]) {
	for frame, err := range frames {
		if err != nil {
			last := SlicerExecWriteResult{Timestamp: time.Now(), ExitCode: -1, Error: err.Error(), Type: "error"}
			var late *afterExitError
			if errors.As(err, &late) {
				last.ExitCode, last.Signal = late.exit.exitCode, late.exit.signal
			}
			sendLast(ctx, results, last)
			return
		}
		select {
		case results <- frame.result():
		case <-ctx.Done():
			return
		}
	}
}

// sendLast sends the result that says why a stream ended too early. Once ctx has
// ended nobody may be left to receive, so only a receiver that waits gets it.
func sendLast(ctx context.Context, results chan<- SlicerExecWriteResult, last SlicerExecWriteResult) {
	select {
	case results <- last:
		return
	default:
	}
	select {
	case results <- last:
	case <-ctx.Done():
	}
}
