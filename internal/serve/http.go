package serve

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

const (
	httpSessionIdle = 30 * time.Minute // HTTPOptions.SessionIdle's default
	httpMaxSessions = 1000             // HTTPOptions.MaxSessions' default

	readyLimit = 3 * time.Second // for HTTPOptions.Ready's answer
)

// errClosing is the cause with which what Close cuts short ends.
var errClosing = errors.New("the server is shutting down")

// HTTPOptions are the options of NewHTTP. The zero value serves this machine
// alone, without a token.
type HTTPOptions struct {
	// Log takes what goes wrong between clients and the server. Nil discards
	// it.
	Log *slog.Logger

	// Token is what every caller must bring as a bearer token, but for
	// /healthz. "" asks for none.
	Token string

	// AllowOrigins are the origins, beside those of this machine, whose web
	// pages may call, such as https://chat.example.com.
	AllowOrigins []string

	// AllowHosts are the names, beside those of this machine, by which it may
	// be called over a loopback connection, as a proxy that keeps the Host
	// header does. One without a port stands for every port.
	AllowHosts []string

	// Stateless serves without sessions, so that several servers may take
	// turns at one client's requests. Legacy SSE is a session by nature and is
	// refused.
	Stateless bool

	// SessionIdle is how long a session lives after its last request was
	// answered. Zero stands for 30 minutes.
	SessionIdle time.Duration

	// MaxSessions is how many sessions there may be at a time, and how many
	// subscriptions/listen streams. Zero stands for 1,000.
	MaxSessions int

	// Ready says what is wrong with what this server needs, for /readyz. Nil
	// stands for nothing.
	Ready func(context.Context) error

	// Metrics answers /metrics. Nil has no such page.
	Metrics http.Handler
}

// HTTP serves MCP over HTTP: streamable HTTP at /mcp, legacy SSE at /sse and
// /message, and the pages /healthz, /readyz and /metrics.
//
// What mcp-go knows of the protocol is mcp-go's. It is used without sessions:
// who may call, sessions, cancelling, progress, limits and ending in order are
// dealt with here, in front of it.
type HTTP struct {
	srv       *server.MCPServer
	mcp       *server.StreamableHTTPServer
	log       *slog.Logger
	stateless bool
	access    *access
	sessions  *sessions
	sse       *sse
	budget    *budget
	listening chan struct{} // holds an element for every subscriptions/listen
	routes    map[string]route

	calls      context.Context // done when calls in flight have had their time
	endCalls   context.CancelCauseFunc
	streams    context.Context // done when streams are to end
	endStreams context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	serving sync.WaitGroup // requests; none is added once closed is set
}

// route is what a path is served by.
type route struct {
	methods []string
	open    bool // served without a token
	serve   http.HandlerFunc
}

// NewHTTP returns a handler that serves srv. Close ends it.
func NewHTTP(srv *server.MCPServer, opts HTTPOptions) *HTTP {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	opts.MaxSessions = cmp.Or(opts.MaxSessions, httpMaxSessions)
	opts.SessionIdle = cmp.Or(opts.SessionIdle, httpSessionIdle)
	budget := newBudget()
	h := &HTTP{
		srv:       srv,
		log:       opts.Log,
		stateless: opts.Stateless,
		access:    newAccess(opts),
		sessions:  newSessions(opts.MaxSessions, opts.SessionIdle),
		sse:       newSSE(srv, opts, budget),
		budget:    budget,
		listening: make(chan struct{}, opts.MaxSessions),
	}
	h.calls, h.endCalls = context.WithCancelCause(context.Background())
	h.streams, h.endStreams = context.WithCancelCause(context.Background())
	srv.Use(endWithCall)
	h.mcp = server.NewStreamableHTTPServer(srv,
		server.WithStateLess(true),
		server.WithDisableLocalhostProtection(true), // access knows the names that are allowed
		server.WithHTTPContextFunc(h.withSession),
		server.WithStreamableHTTPLogger(opts.Log),
	)
	h.routes = map[string]route{
		"/mcp":      {methods: []string{http.MethodGet, http.MethodPost, http.MethodDelete}, serve: h.serveMCP},
		ssePath:     {methods: []string{http.MethodGet}, serve: h.sse.stream},
		messagePath: {methods: []string{http.MethodPost}, serve: h.sse.message},
		"/healthz":  {methods: []string{http.MethodGet, http.MethodHead}, open: true, serve: healthy},
		"/readyz":   {methods: []string{http.MethodGet, http.MethodHead}, serve: h.ready(opts.Ready)},
	}
	if opts.Stateless {
		h.routes["/mcp"] = route{methods: []string{http.MethodPost}, serve: h.serveMCP}
	}
	if opts.Metrics != nil {
		h.routes["/metrics"] = route{methods: []string{http.MethodGet, http.MethodHead}, serve: page(opts.Metrics)}
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt, known := h.routes[r.URL.Path]
	defer limitRest(w)
	r, ok := h.access.admit(w, r, rt)
	if !ok {
		return
	}
	switch {
	case !known:
		refuse(w, http.StatusNotFound, "there is nothing at this path: MCP is at /mcp")
		return
	case !rt.takes(r.Method):
		w.Header().Set("Allow", strings.Join(rt.methods, ", "))
		refuse(w, http.StatusMethodNotAllowed, "this path takes "+strings.Join(rt.methods, ", "))
		return
	case !h.begin():
		w.Header().Set("Connection", "close")
		busy(w, errClosing.Error())
		return
	}
	defer h.serving.Done()
	if r.Method != http.MethodPost {
		if skipBody(h.streams, w, r) {
			rt.serve(w, r)
		}
		return
	}
	body, ok := takeBody(h.streams, h.budget, w, r)
	if !ok {
		return
	}
	defer body.release()
	r.Body = body
	rt.serve(w, r)
}

func (rt route) takes(method string) bool {
	return slices.Contains(rt.methods, method)
}

// begin enters a request, which then calls serving.Done. It reports false once
// Close has been called.
func (h *HTTP) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.serving.Add(1)
	return true
}

func (h *HTTP) closing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// Sessions is how many sessions there are.
func (h *HTTP) Sessions() int { return h.sessions.count() + h.sse.count() }

// Close takes no more requests, lets the calls in flight end until ctx is
// done, and ends every session and stream. It returns ctx's error when calls
// had to be cut short, and waits up to 5 seconds for those. The http.Server
// that h answers for is closed after it.
func (h *HTTP) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endStreams(errClosing)
	h.sessions.close()

	ended := make(chan struct{})
	go func() {
		h.sse.close(ctx)
		h.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		h.endCalls(errClosing)
		return nil
	case <-ctx.Done():
	}
	h.endCalls(errClosing)
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		h.log.Warn("calls did not end when they were cancelled", "grace", stopGrace)
	}
	return ctx.Err()
}

// page serves a page that its client reads in time.
func page(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// A writer without deadlines is a test's.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wireTime))
		next.ServeHTTP(w, r)
	}
}

// healthy says that the server runs.
func healthy(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") }

// ready says whether the server can do its work. What is wrong is for the log
// alone.
func (h *HTTP) ready(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if check == nil {
			say(w, http.StatusOK, "ok")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyLimit)
		defer cancel()
		if err := check(ctx); err != nil {
			h.log.Warn("not ready", "err", err)
			say(w, http.StatusServiceUnavailable, "not ready: the daemon does not answer as it should")
			return
		}
		say(w, http.StatusOK, "ok")
	}
}
