package tools_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// TestUnreadProcessesOutlastReadOnes is about an agent that has no more room
// for output.
func TestUnreadProcessesOutlastReadOnes(t *testing.T) {
	release := make(chan struct{})
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, p *slicertest.Proc, command string) int {
		if command == "unread" {
			select {
			case <-release:
			case <-ctx.Done():
				return 1
			}
		}
		fmt.Fprintln(p.Stdout, "output of", command)
		return 0
	})})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	unread := processOf(t, s.call("exec", args{"command": "unread", "background": true}))
	close(release)
	for strings.Contains(s.call("list_processes", args{}), "running") && t.Context().Err() == nil {
	}
	for i := range 80 {
		s.call("exec", args{"command": fmt.Sprintf("read %d", i)})
	}
	starts := 0
	for _, r := range srv.Requests() {
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/exec") {
			starts++
		}
	}
	if starts <= 81 {
		t.Errorf("%d starts of 81 commands: the agent never lacked room, so that this test shows nothing", starts)
	}
	if got := s.call("read_process", args{"process": unread}); !strings.Contains(got, "output of unread") {
		t.Errorf("read_process of what was never read = %q, want its output", got)
	}
}

func TestParallelCommandsShareTheRoom(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprintln(p.Stdout, "done")
		return 0
	})})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	const clients, calls = 200, 3
	wrong := make(chan string, clients*calls)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range calls {
				var req mcp.CallToolRequest
				req.Params.Name, req.Params.Arguments = "exec", args{"command": "true"}
				switch res, err := s.client.CallTool(t.Context(), req); {
				case err != nil:
					wrong <- err.Error()
				case res.IsError || !strings.Contains(textOf(t, res), "done"):
					wrong <- textOf(t, res)
				}
			}
		})
	}
	all.Wait()
	close(wrong)
	if n := len(wrong); n > 0 {
		t.Errorf("%d of %d commands failed, the first with %q", n, clients*calls, <-wrong)
	}
}
