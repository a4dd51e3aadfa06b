package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

const (
	methodInitialize = string(mcp.MethodInitialize)
	methodCallTool   = string(mcp.MethodToolsCall)
	methodListen     = string(mcp.MethodSubscriptionsListen)
	methodCancelled  = string(mcp.MethodNotificationCancelled)
)

// guard stands between the client and the MCP server. It knows which requests
// are in flight, runs each on its own goroutine, and lets exactly one answer
// out for each that was not cancelled.
type guard struct {
	srv *server.MCPServer
	w   *writer
	log *slog.Logger

	budget   *budget // may be shared with the guards of other clients
	handlers sync.WaitGroup

	// mu guards what follows. It may be taken with the writer's lock held,
	// never the other way round, so that a client that doesn't read can
	// still cancel.
	mu     sync.Mutex
	closed bool
	calls  map[string]*call // by idKey
	tokens map[string]int   // progress tokens of calls, by tokenKey
	rested time.Time        // when the last of calls ended, subscriptions aside
}

// call is a request in flight.
type call struct {
	id     json.RawMessage
	key    string
	method string
	token  string // "" is none
	size   int
	cancel context.CancelCauseFunc
}

// newGuard starts the writer's goroutine; close ends it.
func newGuard(srv *server.MCPServer, w *writer, b *budget, log *slog.Logger) *guard {
	g := &guard{
		srv:    srv,
		w:      w,
		log:    log,
		budget: b,
		calls:  make(map[string]*call),
		tokens: make(map[string]int),
	}
	w.live = g.live
	go w.relay()
	return g
}

// read takes messages from in until it ends, which is no error, or ctx is
// done.
func (g *guard) read(ctx context.Context, in io.Reader) error {
	lines := newLineReader(in, maxLine)
	for ctx.Err() == nil {
		line, err := lines.next()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			g.dispatch(ctx, line, func() {})
		case errors.Is(err, errLineTooLong):
			g.refuse(idInPrefix(line), mcp.INVALID_REQUEST, fmt.Sprintf("the message is longer than %d bytes", maxLine))
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("read from the client: %w", err)
		}
	}
	return nil
}

// dispatch deals with one message, without space around it. It calls release
// before it counts the message in its own budget, as it does with a request.
func (g *guard) dispatch(ctx context.Context, line []byte, release func()) {
	var m message
	var syntax *json.SyntaxError
	if err := json.Unmarshal(line, &m); errors.As(err, &syntax) {
		g.refuse(nil, mcp.PARSE_ERROR, "the message is not JSON")
		return
	}
	// Other errors of Unmarshal are fields of the wrong type, left empty.
	key, idOK := idKey(m.ID)
	switch {
	case bytes.HasPrefix(line, []byte("[")):
		g.refuse(nil, mcp.INVALID_REQUEST, "batches are not supported: send one message at a time")
	case m.Method == "" && (m.Result != nil || m.Error != nil):
		// The answer to a request that this server never sends.
		g.log.Debug("an answer without a request")
	case m.Method == "":
		g.refuse(m.ID, mcp.INVALID_REQUEST, "the message is not a JSON-RPC request: it has no method")
	case m.ID == nil && m.Method == methodCancelled:
		g.cancel(m.Params.RequestID)
	case m.ID == nil:
		g.handle(ctx, line) // a notification has no answer, whatever it led to
	case !idOK:
		g.refuse(nil, mcp.INVALID_REQUEST, badID)
	default:
		release()
		g.admit(ctx, line, &call{
			id:     m.ID,
			key:    key,
			method: m.Method,
			token:  tokenKey(m.Params.Meta.ProgressToken),
			size:   len(line),
		})
	}
}

// refuse answers a message with an error. An id that is none is sent as null.
func (g *guard) refuse(id json.RawMessage, code int, text string) {
	if _, ok := idKey(id); !ok {
		id = nil
	}
	g.w.write(errorAnswer(id, code, text), nil)
}

// admit starts serving a request, or refuses it.
func (g *guard) admit(ctx context.Context, line []byte, c *call) {
	ctx, c.cancel = context.WithCancelCause(ctx)
	if code, refusal := g.add(c); refusal != "" {
		c.cancel(nil)
		g.refuse(c.id, code, refusal)
		return
	}
	if c.method == methodInitialize {
		// What follows it may rely on it.
		g.serve(ctx, c, line)
		return
	}
	go g.serve(ctx, c, line)
}

// add enters a request in the table, or says why it can't be served.
func (g *guard) add(c *call) (code int, refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return codeBusy, "the server is shutting down"
	case g.calls[c.key] != nil:
		return mcp.INVALID_REQUEST, "a request with this id is still in flight"
	case !g.budget.take(c.size):
		return codeBusy, "the server is busy: send this request again when others have been answered"
	}
	g.calls[c.key] = c
	if c.token != "" {
		g.tokens[c.token]++
	}
	g.handlers.Add(1)
	return 0, ""
}

// remove takes a request out of the table. It reports whether it was still in
// there.
func (g *guard) remove(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removeLocked(c)
}

func (g *guard) removeLocked(c *call) bool {
	if g.calls[c.key] != c {
		return false
	}
	delete(g.calls, c.key)
	if c.method != methodListen {
		g.rested = time.Now()
	}
	g.budget.give(c.size)
	if c.token != "" {
		if g.tokens[c.token]--; g.tokens[c.token] == 0 {
			delete(g.tokens, c.token)
		}
	}
	return true
}

// live reports whether a request with this progress token is in flight.
func (g *guard) live(token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tokens[token] > 0
}

// cancel cancels the request with this id; nothing more of it is sent. An id
// that isn't in flight is none of the client's mistakes: the answer may have
// crossed the notification.
func (g *guard) cancel(id json.RawMessage) {
	key, ok := idKey(id)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[key]
	if c == nil || c.method == methodInitialize {
		return
	}
	g.removeLocked(c)
	c.cancel(tools.ErrCancelled)
}

// serve runs one request to its answer.
func (g *guard) serve(ctx context.Context, c *call, line []byte) {
	defer g.handlers.Done()
	defer c.cancel(nil)
	if c.method == methodCallTool {
		select {
		case g.budget.running <- struct{}{}:
			defer func() { <-g.budget.running }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			// Cancelled, and then nothing is sent, or the server ends.
			g.finish(c, errorAnswer(c.id, codeBusy, "the server is shutting down"))
			return
		}
	}
	resp := g.handle(ctx, line)
	if resp == nil {
		g.finish(c, errorAnswer(c.id, mcp.INVALID_REQUEST, "the message is not a JSON-RPC request"))
		return
	}
	out, err := answer(c.id, resp)
	if err != nil {
		g.log.Error("an answer cannot be encoded", "method", c.method, "err", err)
		out = errorAnswer(c.id, mcp.INTERNAL_ERROR, "internal error: the answer cannot be encoded")
	}
	g.finish(c, out)
}

// handle gives a message to the server. A panic becomes an error that doesn't
// tell what it said.
func (g *guard) handle(ctx context.Context, line []byte) (resp mcp.JSONRPCMessage) {
	defer func() {
		if r := recover(); r != nil {
			g.log.Error("a handler panicked", "panic", r, "stack", string(debug.Stack()))
			resp = mcp.JSONRPCError{
				JSONRPC: mcp.JSONRPC_VERSION,
				Error:   mcp.NewJSONRPCErrorDetails(mcp.INTERNAL_ERROR, "internal error", nil),
			}
		}
	}()
	return g.srv.HandleMessage(ctx, line)
}

// finish sends a request's answer after its progress, unless the request has
// been cancelled.
func (g *guard) finish(c *call, out []byte) {
	if c.token != "" {
		g.w.flush()
	}
	g.w.write(out, func() bool { return g.remove(c) })
}

// rest is since when no request has been in flight, subscriptions aside: now
// while there is one, and the zero time if there never was one.
func (g *guard) rest() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		if c.method != methodListen {
			return time.Now()
		}
	}
	return g.rested
}

// finishCalls waits until every request has its answer, ctx is done, or the
// client has hung up, which it tells stop. Subscriptions are ended. A nil
// hungUp stands for a client that always stays.
func (g *guard) finishCalls(ctx context.Context, hungUp func() bool, stop context.CancelCauseFunc) {
	g.mu.Lock()
	g.closed = true
	for _, c := range g.calls {
		if c.method == methodListen {
			c.cancel(nil)
		}
	}
	g.mu.Unlock()

	idle := make(chan struct{})
	go func() {
		g.handlers.Wait()
		close(idle)
	}()
	tick := time.NewTicker(hangUpInterval)
	defer tick.Stop()
	for {
		select {
		case <-idle:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if hungUp != nil && hungUp() {
				stop(ErrHungUp)
				return
			}
		}
	}
}

// close waits, up to grace, for the requests in flight, which the caller has
// cancelled, and for their answers to be written. It reports whether all have
// ended.
func (g *guard) close(grace time.Duration) bool {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		g.handlers.Wait()
		g.w.close()
		<-g.w.done
		close(ended)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}
