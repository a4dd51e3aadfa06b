package serve_test

import (
	"bytes"
	"context"
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

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

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

func TestStdioLetsCallsAnswerWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.AddTool(mcp.NewTool("brief"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			f.started <- ""
			time.Sleep(900 * time.Millisecond)
			return mcp.NewToolResultText(fmt.Sprint("cancelled: ", ctx.Err())), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		c := dial(ctx, t, f, serve.StdioOptions{})
		c.send(call("1", "brief", `{}`))
		<-f.started
		start := time.Now()
		cancel()
		if got, want := c.receive().String(), "1: cancelled: <nil>"; got != want {
			t.Errorf("the running call was answered with %q, want %q", got, want)
		}
		if err := <-c.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Stdio() = %v, want %v", err, context.Canceled)
		}
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("Stdio ended after %v, want with its last call", took)
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
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("Stdio gave a handler that ignores its context %v, want 2 s", took)
		}
	})
}
