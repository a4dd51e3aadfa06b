package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

const (
	// vmsLimit bounds the question how many VMs there are, of which each scrape
	// asks one.
	vmsLimit = 2 * time.Second

	// maxScrapes is how many scrapes are served at once; more get 503.
	maxScrapes = 4

	// noTool is the label of calls of tools that don't exist: a client must not
	// be able to make labels.
	noTool = "unknown"
)

// Outcomes of a call, as the label says them.
const (
	outcomeOK        = "ok"
	outcomeError     = "error"     // a tool error, or a panic
	outcomeCancelled = "cancelled" // taken back by the client, or its client went away
)

// MetricsOptions are the options of NewMetrics.
type MetricsOptions struct {
	// Tools are the names of the tools. Calls of others count as "unknown".
	Tools []string

	// VMs says how many VMs this server owns; it is asked at each scrape and
	// has 2 seconds. Its error leaves the number out. Nil never has one.
	VMs func(context.Context) (int, error)

	// Log takes what goes wrong with a scrape. Nil discards it.
	Log *slog.Logger
}

// Metrics counts what an MCP server does, and serves the numbers as Prometheus
// reads them. It has a registry of its own and is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	tools    map[string]bool
	calls    *prometheus.CounterVec
	took     *prometheus.HistogramVec
	page     http.Handler
}

// NewMetrics returns metrics that count nothing yet: a server is made with
// ServerOptions to count its calls.
func NewMetrics(opts MetricsOptions) *Metrics {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		tools:    make(map[string]bool, len(opts.Tools)),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slicervm_mcp_tool_calls_total",
			Help: "Calls of tools that have ended, by outcome: ok, error or cancelled.",
		}, []string{"tool", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "slicervm_mcp_tool_call_duration_seconds",
			Help:    "How long calls of tools took, in seconds.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"tool"}),
	}
	for _, name := range opts.Tools {
		m.tools[name] = true
		for _, outcome := range []string{outcomeOK, outcomeError, outcomeCancelled} {
			m.calls.WithLabelValues(name, outcome) // there from the start, so that a first error is a rise
		}
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.calls,
		m.took,
	)
	if opts.VMs != nil {
		m.registry.MustRegister(newOwnedVMs(opts.VMs, log))
	}
	m.page = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            metricsLog{log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
	return m
}

// ServerOptions make a server count its calls here, whatever transport they come
// over. They set the server's hooks.
func (m *Metrics) ServerOptions() []server.ServerOption {
	hooks := new(server.Hooks)
	hooks.AddOnError(func(_ context.Context, _ any, method mcp.MCPMethod, _ any, err error) {
		if method == mcp.MethodToolsCall && errors.Is(err, server.ErrToolNotFound) { // no handler runs
			m.calls.WithLabelValues(noTool, outcomeError).Inc()
		}
	})
	return []server.ServerOption{server.WithToolHandlerMiddleware(m.count), server.WithHooks(hooks)}
}

// CountSessions adds the number of sessions, which sessions is asked for at each
// scrape. It is for one call.
func (m *Metrics) CountSessions(sessions func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "slicervm_mcp_sessions",
		Help: "Sessions of clients.",
	}, func() float64 { return float64(sessions()) }))
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.page.ServeHTTP(w, r) }

// count wraps a tool's handler.
func (m *Metrics) count(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		began := time.Now()
		outcome := outcomeError // what a panic leaves
		defer func() {
			tool := req.Params.Name
			if !m.tools[tool] {
				tool = noTool
			}
			m.calls.WithLabelValues(tool, outcome).Inc()
			m.took.WithLabelValues(tool).Observe(time.Since(began).Seconds())
		}()
		res, err := next(ctx, req)
		failed := err != nil || res == nil || res.IsError
		switch {
		case errors.Is(context.Cause(ctx), tools.ErrCancelled), failed && errors.Is(ctx.Err(), context.Canceled):
			outcome = outcomeCancelled
		case !failed:
			outcome = outcomeOK
		}
		return res, err
	}
}

// ownedVMs is a prometheus.Collector that asks how many VMs there are. Without an
// answer there is no number, rather than one that is wrong.
type ownedVMs struct {
	ask  func(context.Context) (int, error)
	log  *slog.Logger
	desc *prometheus.Desc
}

func newOwnedVMs(ask func(context.Context) (int, error), log *slog.Logger) *ownedVMs {
	return &ownedVMs{ask, log, prometheus.NewDesc(
		"slicervm_mcp_vms_owned", "VMs that this server's owner has; absent while the daemon doesn't say.", nil, nil)}
}

// Describe implements prometheus.Collector.
func (c *ownedVMs) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *ownedVMs) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), vmsLimit) // a scrape's own context isn't passed on
	defer cancel()
	n, err := c.ask(ctx)
	if err != nil {
		c.log.Debug("count the VMs for a scrape", "err", err)
		return
	}
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n))
}

// metricsLog takes what goes wrong with a scrape.
type metricsLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(v ...any) {
	l.log.Error("metrics could not be served", "err", fmt.Sprint(v...))
}
