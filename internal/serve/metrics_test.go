package serve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// page is what a scrape gets: the lines that begin with prefix, sorted.
func page(t *testing.T, m *serve.Metrics, prefix string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("the scrape is answered with %d: %s", w.Code, w.Body)
	}
	lines := strings.Split(w.Body.String(), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, prefix) })
	slices.Sort(lines)
	return lines
}

func TestMetricsCountCallsByToolAndOutcome(t *testing.T) {
	handlers := map[string]server.ToolHandlerFunc{
		"good": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("fine"), nil
		},
		"bad": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultError("no"), nil
		},
		"broken": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return nil, errors.New("no")
		},
		"panics": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) { panic("no") },
		"waits": func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			<-ctx.Done()
			return mcp.NewToolResultError("ended"), nil
		},
		"ignores": func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			<-ctx.Done()
			return mcp.NewToolResultText("fine"), nil
		},
		"unlisted": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("fine"), nil
		},
	}
	ended := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		return ctx
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, tt := range []struct {
		name, tool string
		ctx        context.Context
		want       string // tool and outcome
	}{
		{"a result", "good", t.Context(), "good ok"},
		{"a tool error", "bad", t.Context(), "bad error"},
		{"an error of Go", "broken", t.Context(), "broken error"},
		{"a panic", "panics", t.Context(), "panics error"},
		{"one that the client took back", "waits", ended(tools.ErrCancelled), "waits cancelled"},
		{"one that was taken back and has a result all the same", "ignores", ended(tools.ErrCancelled), "ignores cancelled"},
		{"one whose client has gone", "waits", ended(nil), "waits cancelled"},
		{"one whose client has gone, with a result", "ignores", ended(nil), "ignores ok"},
		{"one that took too long", "waits", late, "waits error"},
		{"a tool that isn't there", "no-such\"tool\n", t.Context(), "unknown error"},
		{"a tool that isn't in the catalogue", "unlisted", t.Context(), "unknown ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := serve.NewMetrics(serve.MetricsOptions{Tools: []string{"good", "bad", "broken", "panics", "waits", "ignores"}})
			srv := server.NewMCPServer("test", "1", append(m.ServerOptions(), server.WithRecovery(), server.WithToolCapabilities(false))...)
			for name, handle := range handlers {
				srv.AddTool(mcp.NewTool(name), handle)
			}
			id, err := json.Marshal(tt.tool)
			if err != nil {
				t.Fatal(err)
			}
			srv.HandleMessage(tt.ctx, []byte(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%s}}`, id)))

			var got []string
			for _, line := range page(t, m, "slicervm_mcp_tool_calls_total{") {
				if !strings.HasSuffix(line, " 0") {
					got = append(got, line)
				}
			}
			tool, outcome, _ := strings.Cut(tt.want, " ")
			want := []string{fmt.Sprintf(`slicervm_mcp_tool_calls_total{outcome=%q,tool=%q} 1`, outcome, tool)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			took := fmt.Sprintf(`slicervm_mcp_tool_call_duration_seconds_count{tool=%q}`, tool)
			if strings.HasPrefix(tt.name, "a tool that isn't there") { // nothing ran
				return
			}
			if diff := cmp.Diff([]string{took + " 1"}, page(t, m, took)); diff != "" {
				t.Errorf("durations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetricsOfEveryToolAreThereFromTheStart(t *testing.T) {
	m := serve.NewMetrics(serve.MetricsOptions{Tools: []string{"one", "two"}})
	if got := page(t, m, "slicervm_mcp_tool_calls_total{"); len(got) != 6 {
		t.Errorf("before a call there is %q, want 2 tools with 3 outcomes each", got)
	}
	if got := page(t, m, "go_goroutines"); len(got) != 1 {
		t.Errorf("there is %q, want Go's own numbers too", got)
	}
}

func TestMetricsCountSessions(t *testing.T) {
	m := serve.NewMetrics(serve.MetricsOptions{})
	n := 0
	m.CountSessions(func() int { return n })
	for n = range 3 {
		if diff := cmp.Diff([]string{fmt.Sprintf("slicervm_mcp_sessions %d", n)}, page(t, m, "slicervm_mcp_sessions")); diff != "" {
			t.Errorf("sessions (-want +got):\n%s", diff)
		}
	}
}

func TestMetricsOfVMs(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  func(context.Context) (int, error)
		want []string
		took time.Duration
	}{
		{"the number is the daemon's", func(context.Context) (int, error) { return 3, nil }, []string{"slicervm_mcp_vms_owned 3"}, 0},
		{"none is a number", func(context.Context) (int, error) { return 0, nil }, []string{"slicervm_mcp_vms_owned 0"}, 0},
		{"an error leaves it out", func(context.Context) (int, error) { return 0, errors.New("no daemon") }, nil, 0},
		{"a daemon that doesn't answer holds a scrape for 2 seconds", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}, nil, 2 * time.Second},
		{"without a question there is none", nil, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := serve.NewMetrics(serve.MetricsOptions{VMs: tt.ask})
				began := time.Now()
				got := page(t, m, "slicervm_mcp_vms_owned")
				if took := time.Since(began); took != tt.took {
					t.Errorf("the scrape took %v, want %v", took, tt.took)
				}
				if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("VMs (-want +got):\n%s", diff)
				}
			})
		})
	}
}
