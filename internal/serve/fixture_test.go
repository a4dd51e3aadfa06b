package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	initialize  = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// fixture is an MCP server with tools to provoke a transport with.
type fixture struct {
	*server.MCPServer
	started chan string // the label of each wait call that has started
	ended   chan error  // how each wait call's context ended
	causes  chan error  // and why
	release chan struct{}
}

func newFixture() *fixture {
	f := &fixture{
		MCPServer: server.NewMCPServer("fixture", "1", server.WithToolCapabilities(true)),
		started:   make(chan string, 10_000),
		ended:     make(chan error, 10_000),
		causes:    make(chan error, 10_000),
		release:   make(chan struct{}),
	}
	tool := func(name string, h server.ToolHandlerFunc) {
		f.AddTool(mcp.NewTool(name), h)
	}
	tool("echo", func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(r.GetString("text", "")), nil
	})
	tool("sleep", func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		select {
		case <-time.After(20 * time.Second):
			return mcp.NewToolResultText("slept"), nil
		case <-ctx.Done():
			return mcp.NewToolResultError("cancelled"), nil
		}
	})
	tool("wait", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.started <- r.GetString("label", "")
		select {
		case <-f.release:
		case <-ctx.Done():
		}
		f.ended <- ctx.Err()
		f.causes <- context.Cause(ctx)
		return mcp.NewToolResultText("waited"), nil
	})
	tool("progress", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 3 {
			err := f.SendNotificationToClient(ctx, "notifications/progress", map[string]any{
				"progressToken": r.Params.Meta.ProgressToken, "progress": i,
			})
			if err != nil {
				return nil, err
			}
		}
		return mcp.NewToolResultText("done"), nil
	})
	tool("late_progress", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		go func() {
			<-f.release
			f.ended <- f.SendNotificationToClient(context.WithoutCancel(ctx), "notifications/progress", map[string]any{
				"progressToken": r.Params.Meta.ProgressToken, "progress": 1,
			})
		}()
		return mcp.NewToolResultText("done"), nil
	})
	tool("fail", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultError("it failed"), nil
	})
	tool("panic", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		panic("a secret")
	})
	return f
}

// call is a tools/call request; id is the JSON of the id, args that of the
// arguments.
func call(id, tool, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, tool, args)
}

func cancelled(id string) string {
	return `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`
}

// reply is a message from the server.
type reply struct {
	ID     json.RawMessage
	Method string
	Params struct{ Progress int }
	Result struct {
		Content []struct{ Text string }
		IsError bool
	}
	Error *struct {
		Code    int
		Message string
	}
}

// String is the message in short: its id and what it says.
func (r reply) String() string {
	switch {
	case r.Error != nil:
		return fmt.Sprintf("%s: error %d", r.ID, r.Error.Code)
	case r.Method != "":
		return fmt.Sprintf("%s %d", r.Method, r.Params.Progress)
	case len(r.Result.Content) > 0:
		return fmt.Sprintf("%s: %s", r.ID, r.Result.Content[0].Text)
	default:
		return fmt.Sprintf("%s: result", r.ID)
	}
}

func parse(t *testing.T, line string) reply {
	t.Helper()
	var r reply
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("the server wrote %q, which is not JSON: %v", line, err)
	}
	return r
}
