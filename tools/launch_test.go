package tools_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

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
