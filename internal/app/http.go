package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

const (
	// waitLimit is how long calls in flight may wait for commands once a signal
	// has come; then they answer with what there is.
	waitLimit = 5 * time.Second

	// finishLimit is how long calls in flight may go on once a signal has come.
	finishLimit = 15 * time.Second

	// restLimit is how long connections have after the last call: for what is
	// left of an answer. Some have no request, and would never end.
	restLimit = time.Second

	headerLimit    = 10 * time.Second
	idleLimit      = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// httpServer is an MCP server over HTTP.
type httpServer struct {
	settings httpSettings
	client   *slicer.SlicerClient
	toolset  *tools.Toolset
	metrics  *serve.Metrics
	log      *slog.Logger
	stdout   io.Writer
}

// newMetrics counts the calls of toolset's tools.
func newMetrics(toolset *tools.Toolset, log *slog.Logger) *serve.Metrics {
	opts := serve.MetricsOptions{VMs: toolset.OwnedVMs, Log: log}
	for _, tool := range tools.Catalogue() {
		opts.Tools = append(opts.Tools, tool.Name)
	}
	return serve.NewMetrics(opts)
}

// serve serves srv until ctx ends, and then lets the calls in flight end. The
// address is printed once callers can connect.
func (s httpServer) serve(ctx context.Context, srv *server.MCPServer) error {
	handler := serve.NewHTTP(srv, serve.HTTPOptions{
		Log:          s.log,
		Token:        s.settings.token,
		AllowOrigins: s.settings.origins,
		AllowHosts:   s.settings.hosts,
		Stateless:    s.settings.stateless,
		SessionIdle:  s.settings.sessionIdle,
		Ready:        s.ready,
		Metrics:      s.metrics,
	})
	s.metrics.CountSessions(handler.Sessions)
	listener, err := s.settings.at.listen(ctx, "")
	if err != nil {
		return errors.Join(fmt.Errorf("--listen: %w", err), handler.Close(ctx))
	}
	// No WriteTimeout: streams stay open. The handler has deadlines of its own
	// for each write.
	front := &http.Server{
		Handler:           handler,
		TLSConfig:         s.settings.tls,
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(serverErrors{s.log.Handler()}, slog.LevelWarn),

		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * whoever asks
	}
	served := make(chan error, 1)
	go func() {
		if s.settings.tls != nil {
			served <- front.ServeTLS(listener, "", "")
			return
		}
		served <- front.Serve(listener)
	}()

	url := s.url(listener.Addr())
	s.log.Info("serving MCP over HTTP", "url", url, "token", s.settings.token != "", "stateless", s.settings.stateless)
	_, err = fmt.Fprintln(s.stdout, url)
	if err != nil {
		err = fmt.Errorf("print the address: %w", err)
	} else {
		select {
		case <-ctx.Done():
			s.log.Info("ending: a signal came", "grace", finishLimit)
		case err = <-served:
			served <- err
		}
	}
	s.end(front, handler)
	if stopped := <-served; err == nil && !errors.Is(stopped, http.ErrServerClosed) {
		err = stopped
	}
	return err
}

// end lets nobody in any more, waits for the calls in flight, and cuts those off
// that take too long.
func (s httpServer) end(front *http.Server, handler *serve.HTTP) {
	hurry := time.AfterFunc(waitLimit, s.toolset.StopWaiting)
	defer hurry.Stop()
	shut := make(chan error, 1)
	go func() { shut <- front.Shutdown(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), finishLimit)
	defer cancel()
	if err := handler.Close(ctx); err != nil {
		s.log.Warn("calls were cut off that did not end in time", "limit", finishLimit, "err", err)
	}
	rest := time.AfterFunc(restLimit, func() {
		_ = front.Close() // its error is the listener's, which is closed
	})
	defer rest.Stop()
	if err := <-shut; err != nil {
		s.log.Warn("connections did not end in order", "err", err)
	}
}

// ready says what is wrong with the daemon.
func (s httpServer) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	_, err := s.client.GetInfo(ctx)
	return err
}

// url is where clients find the server that listens on a: of a Unix socket its
// path, on which they call /mcp.
func (s httpServer) url(a net.Addr) string {
	if a.Network() == "unix" {
		return listenURL(a)
	}
	scheme := "http"
	if s.settings.tls != nil {
		scheme = "https"
	}
	return scheme + "://" + a.String() + "/mcp"
}

// serverErrors takes what net/http logs of connections. Its messages hold what
// clients sent, so they are an attribute.
type serverErrors struct{ slog.Handler }

// Handle implements slog.Handler.
func (e serverErrors) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, "a connection ended with an error", rec.PC)
	out.AddAttrs(slog.String("err", rec.Message))
	return e.Handler.Handle(ctx, out)
}
