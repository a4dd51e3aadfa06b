package serve

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	typeJSON   = "application/json"
	typeEvents = "text/event-stream"
)

// reply is the response to one POST. mcp-go writes its answer into it, and
// notifications that come before make it a stream of events that ends with
// the answer.
type reply struct {
	wire   *wire
	log    *slog.Logger
	json   bool // what the client takes
	events bool

	begun bool  // it is a stream of events
	err   error // the first write's that went wrong

	// What mcp-go writes.
	header http.Header
	status int
	body   bytes.Buffer
}

var _ server.HTTPResponseWriter = (*reply)(nil)

func newReply(w http.ResponseWriter, accept []string, log *slog.Logger) *reply {
	o := &reply{wire: newWire(w), log: log, header: make(http.Header)}
	o.json, o.events = accepted(accept)
	return o
}

// accepted says which of the two forms of a response an Accept header admits.
// Without the header it is plain JSON.
func accepted(accept []string) (plain, events bool) {
	if len(accept) == 0 {
		return true, false
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil || strings.Trim(params["q"], "0.") == "" && params["q"] != "" {
			continue
		}
		plain = plain || media == typeJSON || media == "application/*" || media == "*/*"
		events = events || media == typeEvents || media == "text/*" || media == "*/*"
	}
	return plain, events
}

// Header holds what mcp-go says of its answer.
func (o *reply) Header() http.Header { return o.header }

// WriteHeader keeps the status of mcp-go's answer.
func (o *reply) WriteHeader(status int) { o.status = status }

// Write keeps mcp-go's answer.
func (o *reply) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	return o.body.Write(p)
}

// Flush does nothing: an answer is sent when it is whole.
func (*reply) Flush() {}

// CanStream keeps mcp-go from sending notifications.
func (*reply) CanStream() bool { return false }

// notify sends a notification, if the client can take it.
func (o *reply) notify(n mcp.JSONRPCNotification) {
	if !o.events {
		return
	}
	line, err := json.Marshal(n)
	if err != nil {
		o.log.Error("a notification cannot be encoded", "method", n.Method, "err", err)
		return
	}
	o.event(line)
}

func (o *reply) event(line []byte) {
	if !o.begun {
		o.begun = true
		o.wire.begin(http.StatusOK, typeEvents)
	}
	if o.err == nil {
		// A failed write ends the request's context; that says it all.
		o.err = o.wire.event(line)
	}
}

// answer sends the answer to the request id. Nil is a message without one.
func (o *reply) answer(id json.RawMessage) {
	out := o.body.Bytes()
	media := o.header.Get("Content-Type")
	if id == nil || len(out) > 0 && media != typeJSON {
		o.send(o.status, media, out)
		return
	}
	// The id goes back as the client wrote it, whatever the server made of it.
	var m struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Result  json.RawMessage `json:"result,omitempty"`
		Error   json.RawMessage `json:"error,omitempty"`
	}
	if err := json.Unmarshal(out, &m); err != nil || m.Result == nil && m.Error == nil {
		o.log.Error("there is no answer, or none that can be encoded", "status", o.status)
		o.fail(http.StatusOK, id, mcp.INTERNAL_ERROR, "internal error: the answer cannot be encoded")
		return
	}
	m.ID = id
	line, err := json.Marshal(m)
	if err != nil {
		// Not reached: all of it came out of the JSON decoder.
		line = out
	}
	o.sendJSON(o.status, line)
}

// failed reports whether mcp-go's answer is an error.
func (o *reply) failed() bool {
	var m struct {
		Result json.RawMessage `json:"result"`
	}
	return json.Unmarshal(o.body.Bytes(), &m) != nil || m.Result == nil
}

// fail answers with an error. A nil id is sent as null.
func (o *reply) fail(status int, id json.RawMessage, code int, text string) {
	o.sendJSON(status, errorAnswer(id, code, text))
}

// sendJSON sends one message, as the client can take it.
func (o *reply) sendJSON(status int, line []byte) {
	if o.begun || !o.json && o.events && status == http.StatusOK {
		o.event(line)
		return
	}
	o.send(status, typeJSON, append(line, '\n'))
}

// send sends a response that is no stream of events.
func (o *reply) send(status int, contentType string, body []byte) {
	if o.begun {
		return
	}
	if status == 0 {
		status = http.StatusAccepted
	}
	header := o.wire.w.Header()
	if contentType != "" && len(body) > 0 {
		header.Set("Content-Type", contentType)
	}
	if allow := o.header.Get("Allow"); allow != "" {
		header.Set("Allow", allow)
	}
	o.wire.w.WriteHeader(status)
	o.err = o.wire.write(body)
}

// none ends the response to a request that gets no answer: a stream just ends,
// and a plain one is 202 without a body, which clients of the older era take
// for a message that needs no answer. An error status, or an empty 200, they
// would report.
func (o *reply) none() { o.send(http.StatusAccepted, "", nil) }

// listenReply is the response to subscriptions/listen. It passes on what
// mcp-go writes, and comments in between.
type listenReply struct {
	mu     sync.Mutex // held while something goes out
	wire   *wire
	header http.Header
	begun  bool
}

var _ server.HTTPResponseWriter = (*listenReply)(nil)

func newListenReply(w http.ResponseWriter) *listenReply {
	return &listenReply{wire: newWire(w), header: make(http.Header)}
}

// Header holds what mcp-go says of the response.
func (o *listenReply) Header() http.Header { return o.header }

// WriteHeader begins the response.
func (o *listenReply) WriteHeader(status int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beginLocked(status)
}

func (o *listenReply) beginLocked(status int) {
	if !o.begun {
		o.begun = true
		o.wire.begin(status, o.header.Get("Content-Type"))
	}
}

// Write sends p, which mcp-go makes a whole event.
func (o *listenReply) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beginLocked(http.StatusOK)
	if err := o.wire.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush sends what has been written on its way.
func (o *listenReply) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.wire.flush() // the next write says what is wrong
}

// CanStream is always true.
func (*listenReply) CanStream() bool { return true }

// comment sends a comment once the stream has begun.
func (o *listenReply) comment() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.begun {
		_ = o.wire.comment() // a failed write ends the request's context
	}
}
