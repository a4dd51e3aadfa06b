package serve_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	mcpclient "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

// modernLine is a request of the newest era, which has no initialize.
func modernLine(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method, params)
}

func TestSSEServesTheLibrarysClient(t *testing.T) {
	w := newSSEWeb(t, newFixture(), serve.HTTPOptions{})
	c, err := mcpclient.NewSSEMCPClient(w.url + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = "2024-11-05"
	hello.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	if _, err := c.Initialize(ctx, hello); err != nil {
		t.Fatal(err)
	}
	list, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil || len(list.Tools) == 0 {
		t.Errorf("ListTools() = %v, %v, want tools", list, err)
	}
	for _, tt := range []struct {
		tool, text string
		isError    bool
	}{{"echo", "hi", false}, {"fail", "it failed", true}} {
		var req mcp.CallToolRequest
		req.Params.Name = tt.tool
		req.Params.Arguments = map[string]any{"text": "hi"}
		got, err := c.CallTool(ctx, req)
		if err != nil {
			t.Errorf("CallTool(%s): %v", tt.tool, err)
			continue
		}
		if text := mcp.GetTextFromContent(got.Content[0]); text != tt.text || got.IsError != tt.isError {
			t.Errorf("CallTool(%s) = %q, error %v, want %q, error %v", tt.tool, text, got.IsError, tt.text, tt.isError)
		}
	}
	var none mcp.CallToolRequest
	none.Params.Name = "no_such"
	if got, err := c.CallTool(ctx, none); err == nil {
		t.Errorf("CallTool(no_such) = %v, want an error", got)
	}
}

func TestSSEAnswersEachMessage(t *testing.T) {
	hello := func(version string) string { return strings.Replace(initialize, "2025-06-18", version, 1) }
	for _, tt := range []struct {
		name    string
		message string
		want    string
	}{
		{"a call is answered", call("1", "echo", `{"text":"hi"}`), "1: hi"},
		{"a message may have many lines", "\n{\n\"jsonrpc\": \"2.0\",\r\n\"id\": 1,\n\"method\": \"ping\"\n}\n", "1: result"},
		{"what isn't JSON", "hello", "null: error -32700"},
		{"nothing at all", "", "null: error -32700"},
		{"two messages", call("1", "echo", `{}`) + "\n" + call("2", "echo", `{}`), "null: error -32700"},
		{"a batch", " [" + call("1", "echo", `{}`) + "]", "null: error -32600"},
		{"an unknown method", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, "1: error -32601"},
		{"a tool's error", call("1", "fail", `{}`), "1: it failed"},
		{"a panic is an error that tells nothing", call("1", "panic", `{}`), "1: error -32603"},
		{"an id comes back to the letter", call("9007199254740993", "echo", `{"text":"hi"}`), "9007199254740993: hi"},
		{"2024-11-05", hello("2024-11-05"), "0: result"},
		{"2025-03-26", hello("2025-03-26"), "0: result"},
		{"2025-06-18", hello("2025-06-18"), "0: result"},
		{"2025-11-25", hello("2025-11-25"), "0: result"},
		{"2026-07-28 says hello by asking", modernLine("1", "server/discover", ""), "1: result"},
		{"2026-07-28 lists without a hello", modernLine("1", "tools/list", ""), "1: result"},
		{"2026-07-28 calls without a hello", modernLine("1", "tools/call", `"name":"echo","arguments":{"text":"hi"},`), "1: hi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newMemoryWeb(t, newFixture(), serve.HTTPOptions{}).openSilently()
				defer s.cut()
				go s.read()
				s.send(tt.message)
				if diff := cmp.Diff([]string{tt.want}, []string{s.receive().String()}); diff != "" {
					t.Errorf("%.200q was answered with (-want +got):\n%s", tt.message, diff)
				}
				if got := s.sync(); got != nil {
					t.Errorf("then came %q, want nothing", got)
				}
			})
		})
	}
}

func TestSSERefuses(t *testing.T) {
	const limit = 8 << 20
	synctest.Test(t, func(t *testing.T) {
		w := newMemoryWeb(t, newFixture(), serve.HTTPOptions{})
		s := w.open()
		defer s.cut()
		ended := w.open()
		ended.cut()
		synctest.Wait()
		ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
		padded := func(n int) string { return ping + strings.Repeat(" ", n-len(ping)) }
		for _, tt := range []struct {
			name, method, path string
			body               io.Reader
			want               int
		}{
			{"a message without an id", "POST", "/message", strings.NewReader(ping), http.StatusBadRequest},
			{"an empty id", "POST", "/message?sessionId=", strings.NewReader(ping), http.StatusBadRequest},
			{"a made-up id", "POST", "/message?sessionId=stdio", strings.NewReader(ping), http.StatusNotFound},
			{"the id of a stream that has ended", "POST", ended.endpoint, strings.NewReader(ping), http.StatusNotFound},
			{"a message that is too long", "POST", s.endpoint, strings.NewReader(padded(limit + 1)), http.StatusRequestEntityTooLarge},
			{"one that doesn't say how long it is", "POST", s.endpoint, io.MultiReader(strings.NewReader(padded(limit + 1))), http.StatusRequestEntityTooLarge},
			{"one of 8 MiB is taken", "POST", s.endpoint, strings.NewReader(padded(limit)), http.StatusAccepted},
			{"a stream's head", "HEAD", "/sse", nil, http.StatusMethodNotAllowed},
			{"a message that is fetched", "GET", s.endpoint, nil, http.StatusMethodNotAllowed},
		} {
			if got, _ := w.do(tt.method, tt.path, tt.body); got.StatusCode != tt.want {
				t.Errorf("%s: %s %s was answered with %d, want %d", tt.name, tt.method, tt.path, got.StatusCode, tt.want)
			}
		}
		if got, want := s.receive().String(), "1: result"; got != want {
			t.Errorf("the message of 8 MiB was answered with %q, want %q", got, want)
		}
	})
}

func TestSSEHasNoPlaceWithoutSessions(t *testing.T) {
	w := newSSEWeb(t, newFixture(), serve.HTTPOptions{Stateless: true})
	for _, tt := range []struct{ method, path string }{{"GET", "/sse"}, {"POST", "/message?sessionId=1"}} {
		var body io.Reader
		if tt.method == http.MethodPost {
			body = strings.NewReader(initialize)
		}
		resp, text := w.do(tt.method, tt.path, body)
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(text, "/mcp") {
			t.Errorf("%s %s = %d %q, want 404 and the way out", tt.method, tt.path, resp.StatusCode, text)
		}
	}
}

func TestSSEIDsCannotBeGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMemoryWeb(t, newFixture(), serve.HTTPOptions{})
		seen := map[string]bool{}
		for range 20 {
			s := w.open()
			defer s.cut()
			_, id, _ := strings.Cut(s.endpoint, "sessionId=")
			if len(id) < 26 || seen[id] { // 26 digits of 5 bits
				t.Errorf("a stream's id is %q, want 128 random bits", id)
			}
			seen[id] = true
		}
	})
}

func TestSSEProgressPrecedesItsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryWeb(t, newFixture(), serve.HTTPOptions{}).open()
		defer s.cut()
		for i := range 100 {
			s.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}`, i))
			var got []string
			for range 4 {
				got = append(got, s.receive().String())
			}
			want := []string{"notifications/progress 0", "notifications/progress 1", "notifications/progress 2", fmt.Sprintf("%d: done", i)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("call %d was answered with (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestSSECarriesHugeAnswers(t *testing.T) {
	f := newFixture()
	f.AddTool(mcp.NewTool("huge"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(strings.Repeat("0123456789abcde\n", 1<<19)), nil // 8 MiB
	})
	s := newSSEWeb(t, f, serve.HTTPOptions{}).open()
	defer s.cut()
	s.send(call("1", "huge", `{}`))
	if got, want := s.receive().String(), "1: "+strings.Repeat("0123456789abcde\n", 1<<19); got != want {
		t.Errorf("the answer has %d bytes, want %d", len(got), len(want))
	}
}

func TestSSEClientThatDoesNotReadHoldsNoMoreThanItsShare(t *testing.T) {
	const posts = 8
	w := newMemoryWeb(t, newFixture(), serve.HTTPOptions{})
	s := w.openSilently()
	defer s.body.Close()
	garbage := strings.Repeat("x", 8<<20) // four of them are all that may be held
	answers := make(chan int, posts)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range posts {
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+s.endpoint, strings.NewReader(garbage))
			if err != nil {
				answers <- 0
				return
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := w.client.Do(req)
			if err != nil {
				answers <- 0
				return
			}
			resp.Body.Close()
			answers <- resp.StatusCode
		}()
	}
	for range posts - 4 {
		if got := <-answers; got != http.StatusServiceUnavailable {
			t.Errorf("a message beyond the 32 MiB that wait for a client to read = %d, want 503", got)
		}
	}
	s.cancel()
}
