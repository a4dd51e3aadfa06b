// Package serve holds the transports around one MCP server.
//
// Stdio speaks newline-delimited JSON-RPC over a pair of streams. It feeds
// server.MCPServer.HandleMessage itself instead of going through
// server.StdioServer, which drops answers when its input ends, answers
// cancelled requests, cannot cancel queued ones, sends the last progress
// notification after the result, confuses the ids 1 and "1", reads lines of
// any length and shares one session between all servers of a process.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

const (
	// answerGrace is how long calls in flight have for their answers once
	// Stdio's context is done, and again when they have then been cancelled.
	// Some clients kill a server that takes more than 2 seconds.
	answerGrace = time.Second

	// stopGrace is how long Stdio waits for calls that it has cancelled.
	stopGrace = 5 * time.Second

	// hangUpInterval is how often StdioOptions.HungUp is asked.
	hangUpInterval = 500 * time.Millisecond

	// stdioSession is the session id of a Stdio: a server has one at a time.
	stdioSession = "stdio"
)

// ErrHungUp is Stdio's error when the client stopped reading before every
// request had its answer.
var ErrHungUp = errors.New("the client has gone")

// StdioOptions are the options of Stdio. The zero value is the ordinary call.
type StdioOptions struct {
	// Log takes what goes wrong between the client and the server. nil
	// discards it.
	Log *slog.Logger

	// HungUp reports whether nobody reads the output any more. It is asked
	// twice a second once the input has ended and calls are still running, so
	// that calls whose answers nobody waits for are cancelled. nil stands for
	// a client that always stays.
	HungUp func() bool
}

// Stdio serves one client: a JSON-RPC message a line, read from in and
// written to out, until in ends or ctx is done.
//
// When in ends, every request that was read is answered before Stdio returns
// nil; subscriptions/listen is closed, not waited for. When ctx is done, calls
// in flight have a second to answer, are cancelled, have another, and Stdio
// returns ctx's error. A client that stops reading gives ErrHungUp or the write's
// error.
//
// Stdio closes in, if it is an io.Closer, when it stops before in has ended:
// nothing else wakes a blocked Read. A reader that cannot be woken so keeps
// one goroutine until its Read returns; what it reads is dropped.
//
// Notifications that a handler sends through srv (progress, say) are written
// before that handler's result. srv serves one Stdio at a time.
func Stdio(ctx context.Context, srv *server.MCPServer, in io.Reader, out io.Writer, opts StdioOptions) error {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sess := newSession(stdioSession)
	if err := srv.RegisterSession(ctx, sess); err != nil {
		return fmt.Errorf("register the stdio session: %w", err)
	}
	defer srv.UnregisterSession(context.WithoutCancel(ctx), sess.SessionID())

	calls, stop := context.WithCancelCause(srv.WithContext(context.WithoutCancel(ctx), sess))
	defer stop(nil)
	w := newWriter(out, sess.notifications, log, stop)
	g := newGuard(srv, w, newBudget(), log)

	ended := make(chan error, 1)
	go func() { ended <- g.read(calls, in) }()

	var readErr error
	select {
	case readErr = <-ended:
	case <-ctx.Done():
		closeInput(in)
	case <-calls.Done():
		closeInput(in)
	}
	finishing, cut := context.WithCancel(calls)
	defer cut()
	unbind := context.AfterFunc(ctx, func() { time.AfterFunc(answerGrace, cut) })
	defer unbind()
	g.finishCalls(finishing, opts.HungUp, stop)
	err := cmp.Or(context.Cause(calls), context.Cause(ctx), readErr)
	stop(nil)
	grace := stopGrace
	if ctx.Err() != nil {
		grace = answerGrace
	}
	if !g.close(grace) {
		log.Warn("calls did not end when they were cancelled", "grace", grace)
	}
	return err
}

// closeInput wakes whoever reads in, if that can be done.
func closeInput(in io.Reader) {
	if c, ok := in.(io.Closer); ok {
		c.Close()
	}
}
