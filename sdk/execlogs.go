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
)

// ExecLogsOptions are the options of ExecLogs and ExecLogsSeq.
type ExecLogsOptions struct {
	// Follow goes on after what is kept, until the command has ended.
	Follow bool

	// FromID is the first piece wanted. 0 is the oldest that is kept. To
	// resume, it is one more than the ID of the last piece that was read.
	FromID uint64
}

// ExecLogs streams what a background command has written (GET
// /vm/{vm}/exec/{id}/logs), in pieces whose ID rises. Where pieces have been
// dropped because the ring was full, one of the Type "gap" says how much is
// missing. Once the command has ended the last piece has the Type "exit".
//
// The channel is unbuffered. It is closed at the end, when the stream broke, or
// when ctx ends; whoever stops receiving before that must cancel ctx. The command
// doesn't mind. If the stream broke, the last result has the Type "error" and an
// ExitCode of -1. That includes one that was to follow and ended after some pieces
// without an "exit".
func (c *SlicerClient) ExecLogs(ctx context.Context, vmName, execID string, opts ExecLogsOptions) (chan SlicerExecWriteResult, error) {
	stream, err := c.openLogs(ctx, vmName, execID, opts)
	if err != nil {
		return nil, err
	}
	results := make(chan SlicerExecWriteResult)
	go func() {
		defer close(results)
		defer stream.close()
		sendFrames(ctx, results, stream.logFrames(opts.Follow))
	}()
	return results, nil
}

// ExecLogsSeq is ExecLogs as an iterator. The call is made when it is ranged over,
// each time anew, and ends with the loop. An error is the last that it yields: an
// *APIError if the daemon refused the call, the context's error if that ended.
func (c *SlicerClient) ExecLogsSeq(ctx context.Context, vmName, execID string, opts ExecLogsOptions) iter.Seq2[SlicerExecWriteResult, error] {
	return func(yield func(SlicerExecWriteResult, error) bool) {
		stream, err := c.openLogs(ctx, vmName, execID, opts)
		if err != nil {
			yield(SlicerExecWriteResult{}, err)
			return
		}
		defer stream.close()
		for frame, err := range stream.logFrames(opts.Follow) {
			if err != nil {
				yield(SlicerExecWriteResult{}, err)
				return
			}
			if !yield(frame.result(), nil) {
				return
			}
		}
	}
}

func (c *SlicerClient) openLogs(ctx context.Context, vmName, execID string, opts ExecLogsOptions) (*execStream, error) {
	query := url.Values{}
	if opts.Follow {
		query.Set("follow", "true")
	}
	if opts.FromID > 0 {
		query.Set("from_id", strconv.FormatUint(opts.FromID, 10))
	}
	callCtx, cancel := context.WithCancel(ctx)
	resp, err := c.send(callCtx, apiRequest{ //nolint:bodyclose // the stream closes it
		method: http.MethodGet, path: []string{"vm", vmName, "exec", execID, "logs"}, query: query,
		accept: "application/x-ndjson, application/json", begins: true,
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read log of background command of VM %q: %w", vmName, err)
	}
	return newExecStream(ctx, cancel, resp.Body, nil), nil
}

// logFrames yields the frames of a background command's log as they come. One
// that follows must not end without an exit frame, unless it has none at all:
// then there is nothing after the exit frame that was read before.
func (s *execStream) logFrames(follow bool) iter.Seq2[*execFrame, error] {
	return func(yield func(*execFrame, error) bool) {
		seen, exited := false, false
		for {
			frame, err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				yield(nil, err)
				return
			}
			seen = true
			if frame.kind == frameExit {
				exited = true
				s.endsSoon()
			}
			if !yield(frame, nil) {
				return
			}
		}
		if follow && seen && !exited {
			yield(nil, s.explain(errNoExit))
		}
	}
}
