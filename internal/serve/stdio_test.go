package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
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
	release chan struct{}
}

func newFixture() *fixture {
	f := &fixture{
		MCPServer: server.NewMCPServer("fixture", "1", server.WithToolCapabilities(true)),
		started:   make(chan string, 10_000),
		ended:     make(chan error, 10_000),
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

// pipe serves f with input as all that the client ever says, and returns the
// answers in short.
func pipe(t *testing.T, f *fixture, input string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := serve.Stdio(t.Context(), f.MCPServer, strings.NewReader(input), &out, serve.StdioOptions{}); err != nil {
		t.Errorf("Stdio(%.200q) = %v, want nil", input, err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, parse(t, line).String())
	}
	return got
}

// client is the client's end of a Stdio that is being served.
type client struct {
	t    *testing.T
	in   *io.PipeWriter
	out  chan string // the lines that the server wrote
	done chan error  // Stdio's error
}

func dial(ctx context.Context, t *testing.T, f *fixture, opts serve.StdioOptions) *client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &client{t: t, in: inW, out: make(chan string, 10_000), done: make(chan error, 1)}
	go func() {
		c.done <- serve.Stdio(ctx, f.MCPServer, inR, outW, opts)
		outW.Close()
	}()
	go func() {
		defer close(c.out)
		lines := bufio.NewScanner(outR)
		for lines.Scan() {
			c.out <- lines.Text()
		}
	}()
	c.send(initialize, initialized)
	if got, want := c.receive().String(), "0: result"; got != want {
		t.Fatalf("initialize was answered with %q, want %q", got, want)
	}
	return c
}

func (c *client) send(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(c.in, line+"\n"); err != nil {
			c.t.Fatalf("send %q: %v", line, err)
		}
	}
}

func (c *client) receive() reply {
	c.t.Helper()
	line, ok := <-c.out
	if !ok {
		c.t.Fatal("the server ended, want a message")
	}
	return parse(c.t, line)
}

// rest closes the client's end and returns all that still comes.
func (c *client) rest() []string {
	c.t.Helper()
	c.in.Close()
	var got []string
	for line := range c.out {
		got = append(got, parse(c.t, line).String())
	}
	if err := <-c.done; err != nil {
		c.t.Errorf("Stdio() = %v, want nil", err)
	}
	return got
}

func TestStdioAnswersEachLine(t *testing.T) {
	long := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("x", 8<<20) + `"}}}`
	longWithoutID := strings.Replace(long, `"id":7,`, "", 1)
	tests := []struct {
		name  string
		input string
		want  []string
	}{
		{"a call is answered", call("1", "echo", `{"text":"hi"}`) + "\n", []string{"1: hi"}},
		{"the last line needs no newline", call("1", "echo", `{"text":"hi"}`), []string{"1: hi"}},
		{"CRLF ends a line too", call("1", "echo", `{"text":"hi"}`) + "\r\n", []string{"1: hi"}},
		{"blank lines are nothing", "\n  \n\r\n" + call("1", "echo", `{"text":"hi"}`) + "\n\n", []string{"1: hi"}},
		{"nothing is answered with nothing", "", nil},
		{"a line that isn't JSON", "hello\n" + call("1", "echo", `{"text":"hi"}`), []string{"null: error -32700", "1: hi"}},
		{"a line that was cut", `{"jsonrpc":"2.0","id":1,"method":"to`, []string{"null: error -32700"}},
		{"a batch", "[" + call("1", "echo", `{}`) + "]\n" + call("2", "echo", `{"text":"hi"}`), []string{"null: error -32600", "2: hi"}},
		{"JSON that is no message", "42\n" + call("1", "echo", `{"text":"hi"}`), []string{"null: error -32600", "1: hi"}},
		{"no method", `{"jsonrpc":"2.0","id":1}`, []string{"1: error -32600"}},
		{"a method that is no string", `{"jsonrpc":"2.0","id":1,"method":5}`, []string{"1: error -32600"}},
		{"an id that is null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, []string{"null: error -32600"}},
		{"an id that is an object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, []string{"null: error -32600"}},
		{"the wrong version", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, []string{"1: error -32600"}},
		{"an unknown method", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, []string{"1: error -32601"}},
		{"an unknown notification", `{"jsonrpc":"2.0","method":"notifications/no_such"}`, nil},
		{"a cancel of nothing", cancelled("5") + "\n" + cancelled("null") + "\n" + `{"jsonrpc":"2.0","method":"notifications/cancelled"}`, nil},
		{"an answer to no request", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil},
		{"a request that is an answer as well", `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, []string{"1: error -32600"}},
		{"params of the wrong type", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}`, []string{"1: error -32600"}},
		{"a line that is too long, with its id", long + "\n" + call("1", "echo", `{"text":"hi"}`), []string{"7: error -32600", "1: hi"}},
		{"a line that is too long, without an id", longWithoutID + "\n" + call("1", "echo", `{"text":"hi"}`), []string{"null: error -32600", "1: hi"}},
		{"a last line that is too long", long, []string{"7: error -32600"}},
		{"an id comes back to the letter", call("9007199254740993", "echo", `{"text":"hi"}`), []string{"9007199254740993: hi"}},
		{"a string id", call(`"a\u0000b"`, "echo", `{"text":"hi"}`), []string{`"a\u0000b": hi`}},
		{"a panic is an error that tells nothing", call("1", "panic", `{}`), []string{"1: error -32603"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := pipe(t, newFixture(), tt.input)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("Stdio(%.200q) wrote (-want +got):\n%s", tt.input, diff)
				}
			})
		})
	}
}

func TestStdioKeepsPanicTextToItself(t *testing.T) {
	var out bytes.Buffer
	if err := serve.Stdio(t.Context(), newFixture().MCPServer, strings.NewReader(call("1", "panic", `{}`)), &out, serve.StdioOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("Stdio wrote %q, want nothing of the panic's text", out.String())
	}
}

func TestStdioLineLimit(t *testing.T) {
	const limit = 8 << 20
	line := call("1", "echo", `{"text":"hi"}`)
	for _, tt := range []struct {
		name string
		size int
		want string
	}{
		{"a line of 8 MiB is served", limit, "1: hi"},
		{"a byte more is refused", limit + 1, "1: error -32600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := pipe(t, newFixture(), line+strings.Repeat(" ", tt.size-len(line))+"\n")
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Errorf("a line of %d bytes was answered with (-want +got):\n%s", tt.size, diff)
			}
		})
	}
}

func TestStdioAnswersAllBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := pipe(t, newFixture(), strings.Join([]string{initialize, initialized, call("1", "sleep", `{}`)}, "\n"))
		if diff := cmp.Diff([]string{"0: result", "1: slept"}, got); diff != "" {
			t.Errorf("Stdio wrote (-want +got):\n%s", diff)
		}
		if took := time.Since(start); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("Stdio took %v, want the 20 s of the call", took)
		}
	})
}

func TestStdioAnswersQueuedCallsBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000 // more than run at once
		var in strings.Builder
		for i := range n {
			fmt.Fprintln(&in, call(fmt.Sprint(i), "sleep", `{}`))
		}
		got := map[string]int{}
		for _, line := range pipe(t, newFixture(), in.String()) {
			got[line]++
		}
		for i := range n {
			if want := fmt.Sprintf("%d: slept", i); got[want] != 1 {
				t.Errorf("%q came %d times, want once", want, got[want])
			}
		}
	})
}

func TestStdioSubscriptionDoesNotHoldTheEnd(t *testing.T) {
	const listen = `{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	synctest.Test(t, func(t *testing.T) {
		c := dial(t.Context(), t, newFixture(), serve.StdioOptions{})
		c.send(listen)
		if got, want := c.receive().Method, "notifications/subscriptions/acknowledged"; got != want {
			t.Fatalf("subscriptions/listen was followed by %q, want %q", got, want)
		}
		start := time.Now()
		if diff := cmp.Diff([]string{`"sub": result`}, c.rest()); diff != "" {
			t.Errorf("after the end came (-want +got):\n%s", diff)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Stdio ended %v after its input, want at once", took)
		}
	})
}

func TestStdioCancelsARunningCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`))
		<-f.started
		c.send(cancelled("1"))
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		c.send(call("1", "echo", `{"text":"the id is free again"}`))
		if diff := cmp.Diff([]string{"1: the id is free again"}, c.rest()); diff != "" {
			t.Errorf("after the cancel came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioNeverStartsACancelledQueuedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		const running = 256
		for i := range running {
			c.send(call(fmt.Sprint(i+1), "wait", `{"label":"running"}`))
		}
		synctest.Wait() // they have all started
		c.send(call(`"queued"`, "wait", `{"label":"queued"}`))
		synctest.Wait()
		c.send(cancelled(`"queued"`))
		synctest.Wait()
		close(f.release)
		if got := len(c.rest()); got != running {
			t.Errorf("%d answers came, want %d", got, running)
		}
		close(f.started)
		for label := range f.started {
			if label == "queued" {
				t.Error("the cancelled call was started")
			}
		}
	})
}

func TestStdioTellsIDsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`), call(`"1"`, "wait", `{}`))
		<-f.started
		<-f.started
		c.send(cancelled(`"1"`))
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		close(f.release)
		if diff := cmp.Diff([]string{"1: waited"}, c.rest()); diff != "" {
			t.Errorf("after the cancel of \"1\" came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioRefusesAnIDInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`))
		<-f.started
		c.send(call("1", "echo", `{}`))
		if got, want := c.receive().String(), "1: error -32600"; got != want {
			t.Errorf("the second request was answered with %q, want %q", got, want)
		}
		close(f.release)
		if diff := cmp.Diff([]string{"1: waited"}, c.rest()); diff != "" {
			t.Errorf("then came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioCallsDoNotStarveEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		for i := range 64 {
			c.send(call(fmt.Sprint(i+1), "wait", `{}`))
		}
		for range 64 {
			<-f.started
		}
		c.send(call(`"quick"`, "echo", `{"text":"hi"}`))
		if got, want := c.receive().String(), `"quick": hi`; got != want {
			t.Errorf("beside 64 blocked calls came %q, want %q", got, want)
		}
		close(f.release)
		if got := len(c.rest()); got != 64 {
			t.Errorf("%d answers came, want 64", got)
		}
	})
}

func TestStdioRefusesAndCancelsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		const most = 4096
		for i := range most {
			c.send(call(fmt.Sprint(i+1), "wait", `{}`))
		}
		c.send(call(`"one too many"`, "echo", `{}`))
		if got, want := c.receive().String(), `"one too many": error -32000`; got != want {
			t.Errorf("the request over the limit was answered with %q, want %q", got, want)
		}
		for i := range most {
			c.send(cancelled(fmt.Sprint(i + 1)))
		}
		c.send(call(`"after"`, "echo", `{"text":"hi"}`))
		if diff := cmp.Diff([]string{`"after": hi`}, c.rest()); diff != "" {
			t.Errorf("after the cancels came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioBoundsTheBytesItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		for i := range 256 { // as many as run at once: what follows waits
			c.send(call(fmt.Sprint(i), "wait", `{}`))
		}
		synctest.Wait()
		pad := `{"pad":"` + strings.Repeat("x", 7<<20) + `"}`
		for i := range 4 {
			c.send(call(fmt.Sprintf(`"pad %d"`, i+1), "wait", pad))
		}
		c.send(call(`"pad 5"`, "wait", pad))
		if got, want := c.receive().String(), `"pad 5": error -32000`; got != want {
			t.Errorf("the fifth 7 MiB were answered with %q, want %q", got, want)
		}
		for i := range 4 {
			c.send(cancelled(fmt.Sprintf(`"pad %d"`, i+1)))
		}
		close(f.release)
		if got := len(c.rest()); got != 256 {
			t.Errorf("%d answers came, want 256", got)
		}
	})
}

func TestStdioProgressPrecedesItsResult(t *testing.T) {
	const want = "notifications/progress 0,notifications/progress 1,notifications/progress 2,1: done"
	for range 200 {
		got := pipe(t, newFixture(), initialize+"\n"+
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}`)
		if got := strings.Join(got[1:], ","); got != want {
			t.Fatalf("the call was answered with %q, want %q", got, want)
		}
	}
}

func TestStdioDropsProgressOfAFinishedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"late_progress","_meta":{"progressToken":1}}}`)
		if got, want := c.receive().String(), "1: done"; got != want {
			t.Errorf("the call was answered with %q, want %q", got, want)
		}
		close(f.release)
		if err := <-f.ended; err != nil {
			t.Errorf("the late notification was not taken: %v", err)
		}
		if got := c.rest(); got != nil {
			t.Errorf("after the result came %q, want nothing", got)
		}
	})
}

func TestStdioServersDoNotShareNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newFixture(), newFixture()
		ca := dial(t.Context(), t, a, serve.StdioOptions{})
		cb := dial(t.Context(), t, b, serve.StdioOptions{})
		a.SendNotificationToAllClients("notifications/message", nil)
		if got, want := ca.receive().Method, "notifications/message"; got != want {
			t.Errorf("the server's client received %q, want %q", got, want)
		}
		if got := append(ca.rest(), cb.rest()...); got != nil {
			t.Errorf("then the clients received %q, want nothing", got)
		}
	})
}

func TestStdioContextEndsItInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		ctx, cancel := context.WithCancel(t.Context())
		c := dial(ctx, t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`))
		<-f.started
		cancel()
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		if got, want := c.receive().String(), "1: waited"; got != want {
			t.Errorf("the running call was answered with %q, want %q", got, want)
		}
		if err := <-c.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Stdio() = %v, want %v", err, context.Canceled)
		}
	})
}

func TestStdioEndsWhenNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		var gone atomic.Bool
		c := dial(t.Context(), t, f, serve.StdioOptions{HungUp: gone.Load})
		c.send(call("1", "wait", `{}`))
		<-f.started
		c.in.Close()
		time.Sleep(time.Minute) // fake; a client that stays is waited for
		gone.Store(true)
		start := time.Now()
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		if got, want := c.receive().String(), "1: waited"; got != want {
			t.Errorf("the running call was answered with %q, want %q", got, want)
		}
		if err := <-c.done; !errors.Is(err, serve.ErrHungUp) {
			t.Errorf("Stdio() = %v, want %v", err, serve.ErrHungUp)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Stdio noticed after %v, want 2 s at most", took)
		}
	})
}

// failingWriter fails every write.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestStdioReportsABrokenOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		in, inW := io.Pipe()
		defer inW.Close()
		go func() {
			if _, err := io.WriteString(inW, initialize+"\n"); err != nil {
				t.Errorf("send: %v", err)
			}
		}()
		err := serve.Stdio(t.Context(), newFixture().MCPServer, in, failingWriter{broken}, serve.StdioOptions{})
		if !errors.Is(err, broken) {
			t.Errorf("Stdio() = %v, want %v", err, broken)
		}
	})
}

// failingReader gives a line and then fails.
type failingReader struct {
	io.Reader
	err error
}

func (r failingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = r.err
	}
	return n, err
}

func TestStdioReportsABrokenInput(t *testing.T) {
	broken := errors.New("broken")
	var out bytes.Buffer
	in := failingReader{strings.NewReader(call("1", "echo", `{"text":"hi"}`) + "\n"), broken}
	err := serve.Stdio(t.Context(), newFixture().MCPServer, in, &out, serve.StdioOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("Stdio() = %v, want %v", err, broken)
	}
	if got, want := parse(t, out.String()).String(), "1: hi"; got != want {
		t.Errorf("what was read before was answered with %q, want %q", got, want)
	}
}

func TestStdioDoesNotWaitForEverForAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		stuck := make(chan struct{})
		defer close(stuck)
		f.AddTool(mcp.NewTool("stuck"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			f.started <- ""
			<-stuck
			return mcp.NewToolResultText(""), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		c := dial(ctx, t, f, serve.StdioOptions{})
		c.send(call("1", "stuck", `{}`))
		<-f.started
		start := time.Now()
		cancel()
		if err := <-c.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Stdio() = %v, want %v", err, context.Canceled)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("Stdio gave a handler that ignores its context %v, want 5 s", took)
		}
	})
}

func TestStdioLosesNoAnswerOfParallelCalls(t *testing.T) {
	const n = 1000
	f := newFixture()
	c := dial(t.Context(), t, f, serve.StdioOptions{})
	go func() {
		for i := range n {
			if _, err := io.WriteString(c.in, call(fmt.Sprint(i+1), "echo", fmt.Sprintf(`{"text":"text %d"}`, i+1))+"\n"); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	got := map[string]bool{}
	for range n {
		got[c.receive().String()] = true
	}
	for i := range n {
		if want := fmt.Sprintf("%d: text %d", i+1, i+1); !got[want] {
			t.Errorf("%q did not come", want)
		}
	}
	if got := c.rest(); got != nil {
		t.Errorf("then came %q, want nothing", got)
	}
}
