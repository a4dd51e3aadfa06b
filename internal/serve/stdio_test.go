package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

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
