package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// Why what belongs to a client ended, as contexts say. None is the client's
// wish that a call be undone.
var (
	errGone         = errors.New("the client has gone")
	errSessionEnded = errors.New("the session has ended")
	errReplaced     = errors.New("the client has opened another stream")
)

// post is what there is to know of a message before it is served.
type post struct {
	message
	body   []byte
	header http.Header
	key    string // of the request's id
	modern bool   // of the era without sessions
}

// request reports whether the message wants an answer.
func (p *post) request() bool { return p.ID != nil }

// serveMCP serves streamable HTTP.
func (h *HTTP) serveMCP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		h.post(w, r)
		return
	}
	version := r.Header.Get(mcp.HeaderProtocolVersion)
	if mcp.IsModernProtocol(version) || version != "" && !mcp.IsValidProtocolVersion(version) {
		h.mcp.ServeHTTP(w, r) // refuses it
		return
	}
	s, status, line := h.sessions.use(r.Header)
	if s == nil {
		refuse(w, status, line)
		return
	}
	defer s.done()
	if r.Method == http.MethodDelete {
		s.end()
		w.WriteHeader(http.StatusOK)
		return
	}
	h.stream(w, r, s)
}

// post serves one message.
func (h *HTTP) post(w http.ResponseWriter, r *http.Request) {
	out := newReply(w, r.Header.Values("Accept"), h.log)
	if !out.json && !out.events {
		refuse(w, http.StatusNotAcceptable, "the client must accept application/json or text/event-stream")
		return
	}
	body, err := bodyOf(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "the message did not arrive whole")
		return
	}
	p := &post{body: body, header: r.Header.Clone()}
	if code, refusal := p.parse(); refusal != "" {
		id := p.ID
		if p.key == "" {
			id = nil
		}
		out.fail(http.StatusBadRequest, id, code, refusal)
		return
	}
	p.header.Del(headerSession)
	if p.modern || h.stateless {
		h.message(out, r, p, nil)
		return
	}
	var s *httpSession
	if p.request() && p.Method == methodInitialize {
		if s = h.sessions.open(); s == nil {
			w.Header().Set("Retry-After", "1")
			out.fail(http.StatusServiceUnavailable, p.ID, codeBusy, "there are too many sessions: try again later")
			return
		}
		w.Header().Set(headerSession, s.id)
	} else {
		var status int
		var line string
		if s, status, line = h.sessions.use(r.Header); s == nil {
			out.fail(status, p.ID, mcp.INVALID_REQUEST, line)
			return
		}
	}
	defer s.done()
	h.message(out, r, p, s)
}

// parse fills in what the body says, or says why it is no message.
func (p *post) parse() (code int, refusal string) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(p.body, &p.message); errors.As(err, &syntax) {
		return mcp.PARSE_ERROR, "the message is not JSON"
	}
	// Other errors of Unmarshal are fields of the wrong type, left empty.
	p.modern = mcp.IsModernProtocol(p.header.Get(mcp.HeaderProtocolVersion)) || mcp.IsModernProtocol(metaVersion(p.body))
	var ok bool
	p.key, ok = idKey(p.ID)
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(p.body), []byte("[")):
		return mcp.INVALID_REQUEST, "batches are not supported: send one message at a time"
	case p.ID != nil && !ok:
		return mcp.INVALID_REQUEST, badID
	case p.Method == "" && p.Result == nil && p.Error == nil:
		return mcp.INVALID_REQUEST, "the message is not a JSON-RPC request: it has no method"
	case p.Method != "" && (p.Result != nil || p.Error != nil):
		return mcp.INVALID_REQUEST, "the message is both a request and an answer"
	}
	return 0, ""
}

// metaVersion is the protocol's version as mcp-go reads it from a body.
func metaVersion(body []byte) string {
	if !bytes.Contains(body, []byte("protocolVersion")) {
		return "" // not worth another look at all of it
	}
	var m struct {
		Params struct {
			Meta *mcp.Meta `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &m) != nil {
		return ""
	}
	return m.Params.Meta.ProtocolVersion()
}

// message serves a message of session s; nil is none.
func (h *HTTP) message(out *reply, r *http.Request, p *post, s *httpSession) {
	switch {
	case p.Method == "" && !p.modern:
		// The answer to a request that this server never sends.
		out.none()
		return
	case p.Method == methodCancelled && !p.request():
		// Without a session there is no telling whose request is meant, as
		// others may use the same id. There a client cancels by closing the
		// response.
		if s != nil {
			s.cancel(p.Params.RequestID)
		}
		out.none()
		return
	}
	ctx, cancel := h.callContext(r, p.modern)
	defer cancel(nil)
	c := &call{id: p.ID, key: p.key, method: p.Method, cancel: cancel}
	if p.request() && s != nil {
		if !s.add(c) {
			out.fail(http.StatusBadRequest, p.ID, mcp.INVALID_REQUEST, "a request with this id is still in flight")
			return
		}
		defer s.remove(c)
		// Whoever comes back after a broken connection may send it again.
		defer context.AfterFunc(r.Context(), func() { s.remove(c) })()
	}
	if p.modern && p.Method == methodListen && p.request() {
		h.listen(ctx, out, p)
		return
	}
	level := new(logLevel)
	if s != nil {
		level = &s.level
	}
	h.serve(ctx, out, p, newChannel(level))
	h.finish(ctx, out, p, s, c)
}

// callContext is the context of a message's handlers. It does not end with the
// request's own, so that its cause is exact: closing the response is how a
// client of the newer era cancels, while one of the older era has merely gone.
func (h *HTTP) callContext(r *http.Request, modern bool) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	stopGone := context.AfterFunc(r.Context(), func() {
		switch {
		case h.closing():
			cancel(errClosing) // the http.Server cuts its connections
		case modern:
			cancel(tools.ErrCancelled)
		default:
			cancel(errGone)
		}
	})
	stopClosing := context.AfterFunc(h.calls, func() { cancel(errClosing) })
	return ctx, func(cause error) {
		cancel(cause)
		if cause == nil {
			stopGone()
			stopClosing()
		}
	}
}

// channelKey is that of the channel in a call's context.
type channelKey struct{}

// withSession makes a message's own channel the session that its handlers see:
// what they send then goes out before their answer, and to nobody else.
func (h *HTTP) withSession(ctx context.Context, _ *http.Request) context.Context {
	c, ok := ctx.Value(channelKey{}).(*channel)
	if !ok {
		return ctx // subscriptions/listen: mcp-go broadcasts to its own
	}
	return h.srv.WithContext(ctx, c)
}

// serve has mcp-go serve a message. All that its handlers sent has gone out
// when it returns; out holds the answer.
func (h *HTTP) serve(ctx context.Context, out *reply, p *post, c *channel) {
	var relay sync.WaitGroup
	over := make(chan struct{})
	send := func(n mcp.JSONRPCNotification) {
		if ctx.Err() == nil {
			out.notify(n)
		}
	}
	relay.Go(func() {
		for {
			select {
			case n := <-c.notifications:
				send(n)
			case <-over:
				for range len(c.notifications) {
					send(<-c.notifications)
				}
				return
			}
		}
	})
	h.run(context.WithValue(ctx, channelKey{}, c), out, p)
	close(over)
	relay.Wait()
}

// run gives a message to mcp-go when it is its turn.
func (h *HTTP) run(ctx context.Context, out *reply, p *post) {
	if p.Method == methodCallTool {
		select {
		case h.budget.running <- struct{}{}:
			defer func() { <-h.budget.running }()
		case <-ctx.Done():
		}
		if h.calls.Err() != nil {
			<-ctx.Done() // at once: what ends this call has freed the place too
		}
		if ctx.Err() != nil {
			return
		}
	}
	h.handle(ctx, out, p)
}

// handle gives a message to mcp-go. A panic becomes an error that doesn't tell
// what it said.
func (h *HTTP) handle(ctx context.Context, out server.HTTPResponseWriter, p *post) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("a handler panicked", "panic", r, "stack", string(debug.Stack()))
			out.Header().Set("Content-Type", typeJSON)
			out.WriteHeader(http.StatusOK)
			_, _ = out.Write(errorAnswer(p.ID, mcp.INTERNAL_ERROR, "internal error"))
		}
	}()
	if p.Method == methodCallTool {
		// mcp-go keeps the answer of a request whose context has ended, which
		// says what has become of the call. Its tool sees the end all the same.
		ctx = context.WithValue(context.WithoutCancel(ctx), callKey{}, ctx)
	}
	h.mcp.Handle(out, &server.HTTPRequest{Method: http.MethodPost, Header: p.header, Body: p.body, Context: ctx})
}

// callKey is that of a tool call's own context in the one that mcp-go gets.
type callKey struct{}

// endWithCall lets a tool's context end with its call.
func endWithCall(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		call, ok := ctx.Value(callKey{}).(context.Context)
		if !ok { // it came over another transport
			return next(ctx, req)
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(call, func() { cancel(context.Cause(call)) })()
		return next(ctx, req)
	}
}

// finish sends the answer, unless the request has been cancelled.
func (h *HTTP) finish(ctx context.Context, out *reply, p *post, s *httpSession, c *call) {
	wanted := s == nil || !p.request() || s.remove(c)
	if s != nil && c.method == methodInitialize && p.request() && (ctx.Err() != nil || out.failed()) {
		out.wire.w.Header().Del(headerSession)
		s.end()
	}
	switch {
	case !wanted:
		out.none()
	case ctx.Err() == nil, errors.Is(context.Cause(ctx), errClosing) && out.body.Len() > 0:
		out.answer(p.ID)
	case p.request() && errors.Is(context.Cause(ctx), errClosing):
		// It was not begun, or mcp-go has kept its answer.
		out.fail(http.StatusServiceUnavailable, p.ID, codeBusy, errClosing.Error())
	default:
		out.none()
	}
}

// listen serves subscriptions/listen: a stream until the client or the server
// ends it.
func (h *HTTP) listen(ctx context.Context, out *reply, p *post) {
	if !out.events {
		out.fail(http.StatusNotAcceptable, p.ID, mcp.INVALID_REQUEST, "the client must accept text/event-stream")
		return
	}
	select {
	case h.listening <- struct{}{}:
		defer func() { <-h.listening }()
	default:
		out.wire.w.Header().Set("Retry-After", "1")
		out.fail(http.StatusServiceUnavailable, p.ID, codeBusy, "there are too many streams: try again later")
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.streams, func() { cancel(errClosing) })()
	stream := newListenReply(out.wire.w)
	defer context.AfterFunc(ctx, stream.wire.cut)()

	var comments sync.WaitGroup
	over := make(chan struct{})
	comments.Go(func() {
		tick := time.NewTicker(commentInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				stream.comment()
			case <-over:
				return
			}
		}
	})
	defer comments.Wait()
	defer close(over)
	h.handle(ctx, stream, p)
}

// stream is the stream of the server's own notifications for a session of the
// older era. A session has one at a time: the newest.
func (h *HTTP) stream(w http.ResponseWriter, r *http.Request, s *httpSession) {
	if _, events := accepted(r.Header.Values("Accept")); !events && len(r.Header.Values("Accept")) > 0 {
		refuse(w, http.StatusNotAcceptable, "the client must accept text/event-stream")
		return
	}
	ctx, stop := s.listen(r.Context())
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.streams, func() { cancel(errClosing) })()
	out := newWire(w)
	defer context.AfterFunc(ctx, out.cut)()

	c := newChannel(&s.level)
	if err := h.srv.RegisterSession(ctx, c); err != nil {
		h.log.Error("a stream cannot be registered", "err", err)
		refuse(w, http.StatusInternalServerError, "internal error")
		return
	}
	defer h.srv.UnregisterSession(context.WithoutCancel(ctx), c.SessionID())
	out.begin(http.StatusOK, typeEvents)
	err := out.flush()
	tick := time.NewTicker(commentInterval)
	defer tick.Stop()
	for err == nil {
		select {
		case n := <-c.notifications:
			var line []byte
			if line, err = json.Marshal(n); err == nil {
				err = out.event(line)
			}
		case <-tick.C:
			err = out.comment()
		case <-ctx.Done():
			return
		}
	}
}
