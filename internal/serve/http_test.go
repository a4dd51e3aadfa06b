package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

// webFixture is an MCP server with tools to provoke an HTTP transport with.
type webFixture struct {
	*server.MCPServer
	started chan string   // the label of each wait call that has started
	ended   chan error    // the cause with which each wait call's context ended
	release chan struct{} // ends wait calls
	headers chan http.Header
}

func newWebFixture() *webFixture {
	f := &webFixture{
		MCPServer: server.NewMCPServer("fixture", "1", server.WithToolCapabilities(true), server.WithLogging()),
		started:   make(chan string, 10_000),
		ended:     make(chan error, 10_000),
		release:   make(chan struct{}),
		headers:   make(chan http.Header, 10_000),
	}
	tool := func(name string, h server.ToolHandlerFunc) { f.AddTool(mcp.NewTool(name), h) }
	tool("echo", func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.headers <- r.Header
		return mcp.NewToolResultText(r.GetString("text", "")), nil
	})
	tool("huge", func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(strings.Repeat("x", r.GetInt("size", 0))), nil
	})
	tool("wait", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.started <- r.GetString("label", "")
		select {
		case <-f.release:
		case <-ctx.Done():
		}
		f.ended <- context.Cause(ctx)
		return mcp.NewToolResultText("waited"), nil
	})
	tool("progress", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range r.GetInt("count", 0) {
			if err := f.progress(ctx, r, i+1); err != nil {
				return nil, err
			}
		}
		return mcp.NewToolResultText("done"), nil
	})
	tool("begin", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := f.progress(ctx, r, 1); err != nil {
			return nil, err
		}
		f.started <- ""
		select {
		case <-f.release:
		case <-ctx.Done():
		}
		// Too late when the call has been cancelled.
		err := f.progress(ctx, r, 2)
		f.ended <- context.Cause(ctx)
		return mcp.NewToolResultText("done"), err
	})
	tool("log", func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, level := range []mcp.LoggingLevel{mcp.LoggingLevelDebug, mcp.LoggingLevelInfo, mcp.LoggingLevelError} {
			if err := f.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(level, "test", string(level))); err != nil {
				return nil, err
			}
		}
		return mcp.NewToolResultText("logged"), nil
	})
	tool("panic", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		panic("a secret")
	})
	return f
}

func (f *webFixture) progress(ctx context.Context, r mcp.CallToolRequest, n int) error {
	return f.SendNotificationToClient(ctx, "notifications/progress", map[string]any{
		"progressToken": r.Params.Meta.ProgressToken, "progress": n,
	})
}

// web is a server over HTTP, and its clients' way to it.
type web struct {
	t      *testing.T
	h      *serve.HTTP
	url    string
	client *http.Client
	stop   func() // cuts all connections
}

// newWeb serves f on a port of this machine.
func newWeb(t *testing.T, f *webFixture, opts serve.HTTPOptions) *web {
	t.Helper()
	h := serve.NewHTTP(f.MCPServer, opts)
	srv := httptest.NewServer(h)
	w := &web{t: t, h: h, url: srv.URL, client: srv.Client(), stop: srv.Close}
	t.Cleanup(w.close)
	return w
}

// newPipeWeb serves f through memory, for tests in which time is fake.
func newPipeWeb(t *testing.T, f *webFixture, opts serve.HTTPOptions) *web {
	t.Helper()
	h := serve.NewHTTP(f.MCPServer, opts)
	ln := newPipeListener()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	go srv.Serve(ln) //nolint:errcheck // that it was closed
	tr := &http.Transport{DialContext: ln.dial, MaxIdleConnsPerHost: 1000}
	w := &web{t: t, h: h, url: "http://pipe", client: &http.Client{Transport: tr}, stop: func() {
		srv.Close()
		tr.CloseIdleConnections()
	}}
	t.Cleanup(w.close)
	return w
}

func (w *web) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.h.Close(ctx) //nolint:errcheck // calls that hang are the test's own
	w.stop()
}

// answered is a response, read to its end.
type answered struct {
	status int
	header http.Header
	body   string
}

// messages are those of a response: its one, or its events'.
func (a answered) messages(t *testing.T) []string {
	t.Helper()
	var got []string
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		return []string{parse(t, a.body).String()}
	}
	for line := range strings.Lines(a.body) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			got = append(got, parse(t, data).String())
		}
	}
	return got
}

// headers are names and values by turns.
func (w *web) request(ctx context.Context, method, path, body string, headers ...string) *http.Request {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	return req
}

func (w *web) do(method, path, body string, headers ...string) answered {
	w.t.Helper()
	a, err := w.try(w.request(w.t.Context(), method, path, body, headers...))
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *web) try(req *http.Request) (answered, error) {
	resp, err := w.client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, string(body)}, err
}

// post sends a message and returns the messages that came back, or the status.
func (w *web) post(body string, headers ...string) []string {
	w.t.Helper()
	a := w.do(http.MethodPost, "/mcp", body, headers...)
	if a.status != http.StatusOK {
		return []string{fmt.Sprint(a.status)}
	}
	return a.messages(w.t)
}

// open begins a session of the older era and returns the header that names it.
func (w *web) open(headers ...string) []string {
	w.t.Helper()
	a := w.do(http.MethodPost, "/mcp", initialize, headers...)
	id := a.header.Get("Mcp-Session-Id")
	if a.status != http.StatusOK || id == "" {
		w.t.Fatalf("initialize was answered with %d and the session %q: %s", a.status, id, a.body)
	}
	return []string{"Mcp-Session-Id", id}
}

// begin sends a request and returns when its response begins. end closes it.
func (w *web) begin(req *http.Request) (resp *http.Response, events *bufio.Scanner, end func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(req.Context())
	resp, err := w.client.Do(req.WithContext(ctx))
	if err != nil {
		cancel()
		w.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	events = bufio.NewScanner(resp.Body)
	return resp, events, func() {
		cancel()
		resp.Body.Close()
	}
}

// readNext is the next message of a stream, or comment; "" is its end.
func readNext(t *testing.T, events *bufio.Scanner) string {
	t.Helper()
	for events.Scan() {
		line := events.Text()
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return parse(t, data).String()
		}
		if strings.HasPrefix(line, ":") {
			return line
		}
	}
	return ""
}

// progressing is a tools/call with a progress token.
func progressing(id, tool, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%s}}}`, id, tool, args, id)
}

// modern makes a message one of the newer era, and returns it with its headers.
func modern(t *testing.T, message string) (body string, headers []string) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		t.Fatal(err)
	}
	params, _ := m["params"].(map[string]any)
	if params == nil {
		params = map[string]any{}
	}
	meta, _ := params["_meta"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28"
	meta["io.modelcontextprotocol/clientInfo"] = map[string]any{"name": "test", "version": "1"}
	meta["io.modelcontextprotocol/clientCapabilities"] = map[string]any{}
	params["_meta"] = meta
	m["params"] = params
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	method, _ := m["method"].(string)
	headers = []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	if name, ok := params["name"].(string); ok {
		headers = append(headers, "Mcp-Name", name)
	}
	return string(out), headers
}

// eras runs a test in both eras. request makes the request that carries a
// message.
func eras(t *testing.T, opts serve.HTTPOptions, run func(t *testing.T, w *web, f *webFixture, request func(context.Context, string) *http.Request)) {
	t.Helper()
	for _, era := range []string{"2025-06-18", "2026-07-28"} {
		t.Run(era, func(t *testing.T) {
			f := newWebFixture()
			w := newWeb(t, f, opts)
			if era == "2026-07-28" {
				run(t, w, f, func(ctx context.Context, message string) *http.Request {
					body, headers := modern(t, message)
					return w.request(ctx, http.MethodPost, "/mcp", body, headers...)
				})
				return
			}
			session := w.open()
			run(t, w, f, func(ctx context.Context, message string) *http.Request {
				return w.request(ctx, http.MethodPost, "/mcp", message, session...)
			})
		})
	}
}

// receive waits for a value for as long as a loaded machine may need.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("waited for %s for 30 s", what)
		panic("not reached")
	}
}
