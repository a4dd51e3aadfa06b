package tools_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// testOwner is the owner of a session that names none.
const testOwner = "test-owner"

// session is an MCP client talking to a server with the tools.
type session struct {
	t      *testing.T
	client *client.Client
}

// connect starts a server with the tools of cfg and a client for it.
func connect(t *testing.T, cfg tools.Config) *session {
	t.Helper()
	if cfg.Owner == "" {
		cfg.Owner = testOwner
	}
	set, err := tools.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return connectTo(t, set)
}

// connectTo starts a server with the tools of set and a client for it.
func connectTo(t *testing.T, set *tools.Toolset) *session {
	t.Helper()
	s := server.NewMCPServer("test", "1", set.ServerOptions()...)
	set.Register(s)
	c, err := client.NewInProcessClient(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var init mcp.InitializeRequest
	init.Params.ProtocolVersion = mcp.LATEST_PROTOCOL_VERSION
	init.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	if _, err := c.Initialize(t.Context(), init); err != nil {
		t.Fatalf("initialize: %v", err)
	}
	return &session{t: t, client: c}
}

// args are a call's arguments.
type args map[string]any

// raw calls a tool with any arguments.
func (s *session) raw(ctx context.Context, tool string, arguments any) *mcp.CallToolResult {
	s.t.Helper()
	var req mcp.CallToolRequest
	req.Params.Name = tool
	req.Params.Arguments = arguments
	res, err := s.client.CallTool(ctx, req)
	if err != nil {
		s.t.Fatalf("%s(%v): %v", tool, arguments, err)
	}
	if len(res.Content) == 0 {
		s.t.Fatalf("%s(%v) answered without content", tool, arguments)
	}
	return res
}

// call calls a tool that is to succeed and returns its text.
func (s *session) call(tool string, a args) string {
	s.t.Helper()
	res := s.raw(s.t.Context(), tool, a)
	if res.IsError {
		s.t.Fatalf("%s(%v) failed: %s", tool, a, textOf(s.t, res))
	}
	return textOf(s.t, res)
}

// record calls a tool that is to succeed and decodes its structuredContent.
func (s *session) record(tool string, a args, into any) string {
	s.t.Helper()
	res := s.raw(s.t.Context(), tool, a)
	if res.IsError {
		s.t.Fatalf("%s(%v) failed: %s", tool, a, textOf(s.t, res))
	}
	data, err := json.Marshal(res.StructuredContent)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		s.t.Fatalf("%s(%v): structuredContent %s: %v", tool, a, data, err)
	}
	return textOf(s.t, res)
}

// fail calls a tool that is to fail and returns the error's text.
func (s *session) fail(tool string, arguments any) string {
	s.t.Helper()
	res := s.raw(s.t.Context(), tool, arguments)
	text := textOf(s.t, res)
	if !res.IsError {
		s.t.Fatalf("%s(%v) = %q, want an error", tool, arguments, text)
	}
	if res.StructuredContent != nil {
		s.t.Errorf("%s(%v): an error with structuredContent %v", tool, arguments, res.StructuredContent)
	}
	return text
}

// textOf is the text of an answer, which is never empty.
func textOf(t *testing.T, res *mcp.CallToolResult) string {
	t.Helper()
	content, ok := res.Content[0].(mcp.TextContent)
	if !ok {
		t.Fatalf("first content is %T, want text", res.Content[0])
	}
	if strings.TrimSpace(content.Text) == "" {
		t.Fatal("the answer's text is empty")
	}
	return content.Text
}

// wantText reports what of wants is missing in an answer.
func wantText(t testing.TB, what, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%s = %.2000q, want it to contain %q", what, got, want)
		}
	}
}
