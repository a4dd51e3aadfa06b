package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// newToolServer is a fixture whose tools are the real ones.
func newToolServer(t *testing.T, config tools.Config) *fixture {
	t.Helper()
	toolset, err := tools.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := toolset.Close(); err != nil {
			t.Errorf("close the tools: %v", err)
		}
	})
	srv := server.NewMCPServer("real", "1", toolset.ServerOptions()...)
	toolset.Register(srv)
	return &fixture{MCPServer: srv}
}

// TestStdioWaitingExecsHoldNothingUp needs no stopwatch: time is fake, so what
// waits for something else takes some of it.
func TestStdioWaitingExecsHoldNothingUp(t *testing.T) {
	const execs = 64
	synctest.Test(t, func(t *testing.T) {
		started := make(chan struct{}, execs)
		daemon := slicertest.NewServer(t, slicertest.Options{
			Network: slicertest.Pipe,
			Shell: func(ctx context.Context, _ *slicertest.Proc, _ string) int {
				started <- struct{}{}
				<-ctx.Done()
				return 1
			},
		})
		c := dial(t.Context(), t, newToolServer(t, tools.Config{Client: daemon.Client(), Owner: "test"}), serve.StdioOptions{})
		c.send(call(`"vm"`, "create_vm", `{}`))
		if r := c.receive(); r.Error != nil || r.Result.IsError {
			t.Fatalf("create_vm was answered with %v", r)
		}
		for i := range execs {
			c.send(call(fmt.Sprint(i), "exec", `{"command":"wait","yield_seconds":45}`))
		}
		for range execs {
			<-started
		}
		start := time.Now()
		c.send(call(`"list"`, "list_vms", `{}`))
		r := c.receive()
		if took := time.Since(start); took >= 50*time.Millisecond {
			t.Errorf("beside %d waiting execs list_vms took %v, want less than 50 ms", execs, took)
		}
		if got := r.String(); !strings.HasPrefix(got, `"list": `) || r.Result.IsError {
			t.Errorf("beside %d waiting execs came %q, want the VMs", execs, got)
		}
		if got := len(c.rest()); got != execs {
			t.Errorf("%d answers came, want the %d of the execs", got, execs)
		}
	})
}

// faulty is a transport with a fault of the server's own.
type faulty struct{}

func (faulty) RoundTrip(*http.Request) (*http.Response, error) { panic("canary of the inside") }

func TestStdioOutlivesAToolThatPanics(t *testing.T) {
	var log, out bytes.Buffer
	config := tools.Config{
		Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", &http.Client{Transport: faulty{}}),
		Owner:  "test",
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	}
	in := call("1", "list_vms", `{}`) + "\n" + `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	if err := serve.Stdio(t.Context(), newToolServer(t, config).MCPServer, strings.NewReader(in), &out, serve.StdioOptions{}); err != nil {
		t.Errorf("Stdio() = %v, want nil", err)
	}
	got := map[string]reply{}
	for line := range strings.Lines(out.String()) {
		r := parse(t, line)
		got[string(r.ID)] = r
	}
	if r := got["1"]; r.Error != nil || !r.Result.IsError || strings.Contains(r.String(), "canary") {
		t.Errorf("the call was answered with %v, want a tool error that tells nothing of the inside", r)
	}
	if r, ok := got["2"]; !ok || r.Error != nil {
		t.Errorf("the ping after it was answered with %v, want a result", r)
	}
	for _, want := range []string{"canary of the inside", "RoundTrip"} { // the cause and its stack
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log is %q, want %q in it", log.String(), want)
		}
	}
}

// TestStdioLogsAHandlersPanic is about handlers that are no tools of ours.
func TestStdioLogsAHandlersPanic(t *testing.T) {
	var log, out bytes.Buffer
	in := call("1", "panic", `{}`) + "\n" + call("2", "echo", `{"text":"hi"}`)
	opts := serve.StdioOptions{Log: slog.New(slog.NewJSONHandler(&log, nil))}
	if err := serve.Stdio(t.Context(), newFixture().MCPServer, strings.NewReader(in), &out, opts); err != nil {
		t.Errorf("Stdio() = %v, want nil", err)
	}
	if got := out.String(); !strings.Contains(got, `"id":2,"result"`) {
		t.Errorf("Stdio wrote %q, want the result of the next call", got)
	}
	var record struct{ Panic, Stack string }
	if err := json.Unmarshal(log.Bytes(), &record); err != nil {
		t.Fatalf("the log is %q, want one record: %v", log.String(), err)
	}
	if record.Panic != "a secret" || !strings.Contains(record.Stack, "newFixture") {
		t.Errorf("the record is %+v, want the panic and its stack", record)
	}
}

func TestStdioCancelHasItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name string
			end  func(*client, context.CancelFunc)
			want bool
		}{
			{"a call that was taken back", func(c *client, _ context.CancelFunc) { c.send(cancelled("1")) }, true},
			{"a server that ends", func(_ *client, stop context.CancelFunc) { stop() }, false},
		} {
			f := newFixture()
			ctx, stop := context.WithCancel(t.Context())
			c := dial(ctx, t, f, serve.StdioOptions{})
			c.send(call("1", "wait", `{}`))
			<-f.started
			tt.end(c, stop)
			if cause := <-f.causes; errors.Is(cause, tools.ErrCancelled) != tt.want {
				t.Errorf("%s: the context ended because of %v; that it is %v, want %v", tt.name, cause, tools.ErrCancelled, tt.want)
			}
			stop()
			<-c.done //nolint:errcheck // its end is what counts
		}
	})
}
