package serve_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// wantOrdinaryEnd fails the test when a call's context did not end, or as if
// its client had taken the call back.
func wantOrdinaryEnd(t *testing.T, f *fixture) {
	t.Helper()
	if err := <-f.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
	}
	if cause := <-f.causes; errors.Is(cause, tools.ErrCancelled) {
		t.Errorf("the handler's context ended because of %v, want an ordinary end", cause)
	}
}

func TestSSECancelsARunningCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		s := newMemoryWeb(t, f, serve.HTTPOptions{}).open()
		defer s.cut()
		s.send(call("1", "wait", `{}`))
		<-f.started
		s.send(cancelled("1"))
		if cause := <-f.causes; !errors.Is(cause, tools.ErrCancelled) {
			t.Errorf("the handler's context ended because of %v, want %v", cause, tools.ErrCancelled)
		}
		synctest.Wait()
		if got := s.sync(); got != nil {
			t.Errorf("after the cancel came %q, want nothing", got)
		}
	})
}

func TestSSENobodyCancelsACallOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		a, b := w.open(), w.open()
		defer a.cut()
		defer b.cut()
		b.send(call("1", "wait", `{}`))
		<-f.started
		a.send(cancelled("1"))
		synctest.Wait()
		if len(f.ended) > 0 {
			t.Error("the call of the other stream was cancelled")
		}
		close(f.release)
		if got, want := b.receive().String(), "1: waited"; got != want {
			t.Errorf("the call was answered with %q, want %q", got, want)
		}
		if got := a.sync(); got != nil {
			t.Errorf("the other stream received %q, want nothing", got)
		}
	})
}

func TestSSEStreamsDoNotShareNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		a, b := w.open(), w.open()
		defer a.cut()
		defer b.cut()
		a.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}`)
		synctest.Wait()
		if got := len(a.sync()); got != 4 {
			t.Errorf("the call's stream received %d messages, want 3 of progress and the result", got)
		}
		if got := b.sync(); got != nil {
			t.Errorf("the other stream received %q, want nothing", got)
		}
	})
}

func TestSSEClientThatGoesEndsItsCalls(t *testing.T) {
	const streams = 200
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		var open []*sseStream
		for range streams {
			s := w.open()
			s.send(call("1", "wait", `{}`))
			<-f.started
			open = append(open, s)
		}
		if got := w.Sessions(); got != streams {
			t.Errorf("Sessions() = %d, want %d", got, streams)
		}
		stays := w.open()
		defer stays.cut()
		for _, s := range open {
			s.cut()
		}
		for range streams {
			wantOrdinaryEnd(t, f)
		}
		synctest.Wait() // that nothing of them is left shows at the bubble's end
		if got := w.Sessions(); got != 1 {
			t.Errorf("Sessions() = %d, want the one that stays", got)
		}
		if got := stays.sync(); got != nil {
			t.Errorf("the stream that stays received %q, want nothing", got)
		}
	})
}

func TestSSEKeepsAStreamAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryWeb(t, newFixture(), serve.HTTPOptions{}).open()
		defer s.cut()
		for i := range 8 { // beyond the server's time limits
			start := time.Now()
			if got, want := <-s.comments, "keep-alive"; got != want {
				t.Errorf("comment %d is %q, want %q", i, got, want)
			}
			if took := time.Since(start); took != 15*time.Second {
				t.Errorf("comment %d came after %v, want 15 s", i, took)
			}
		}
		if got := s.sync(); got != nil {
			t.Errorf("after two minutes came %q, want nothing", got)
		}
	})
}

func TestSSEEndsIdleStreams(t *testing.T) {
	const idle = 10 * time.Minute
	for _, tt := range []struct {
		name string
		do   func(*fixture, *sseStream) // after the half of it
		want time.Duration              // when it ends
	}{
		{"a stream without a request", func(*fixture, *sseStream) {}, idle},
		{"a message begins the time anew", func(_ *fixture, s *sseStream) { s.sync() }, idle + idle/2},
		{"a call in flight holds the stream", func(f *fixture, s *sseStream) {
			s.send(call("1", "wait", `{}`))
			time.AfterFunc(idle, func() { close(f.release) })
		}, idle + idle/2 + idle},
		{"a subscription doesn't", func(_ *fixture, s *sseStream) {
			s.send(modernLine("1", "subscriptions/listen", `"notifications":{"toolsListChanged":true},`))
		}, idle + idle/2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				w := newMemoryWeb(t, f, serve.HTTPOptions{SessionIdle: idle})
				s := w.open()
				start := time.Now()
				time.Sleep(idle / 2) // fake
				tt.do(f, s)
				if err := <-s.end; err != nil {
					t.Errorf("the stream ended with %v, want in order", err)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("the stream ended after %v, want %v", got, tt.want)
				}
				if got, want := s.post(initialize), http.StatusNotFound; got != want {
					t.Errorf("a message to it was answered with %d, want %d", got, want)
				}
				if got := w.Sessions(); got != 0 {
					t.Errorf("Sessions() = %d, want 0", got)
				}
			})
		})
	}
}

func TestSSEBoundsTheStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMemoryWeb(t, newFixture(), serve.HTTPOptions{MaxSessions: 2})
		a, b := w.open(), w.open()
		defer b.cut()
		resp, _ := w.do(http.MethodGet, "/sse", nil)
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a third stream was answered with %d, Retry-After %q, want 503 and when", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		a.cut()
		synctest.Wait()
		w.open().cut()
	})
}

func TestSSEBoundsWhatAllStreamsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		first := w.open()
		defer first.cut()
		for i := range 256 { // as many as run at once: what follows waits
			first.send(call(fmt.Sprint(i), "wait", `{}`))
			<-f.started
		}
		pad := `{"pad":"` + strings.Repeat("x", 7<<20) + `"}`
		for range 4 {
			s := w.open()
			defer s.cut()
			s.send(call("1", "wait", pad))
		}
		synctest.Wait()
		if len(f.started) > 0 {
			t.Error("a call of another stream was started beside 256, want it to wait")
		}
		s := w.open()
		defer s.cut()
		if got, want := s.post(call("1", "wait", pad)), http.StatusServiceUnavailable; got != want {
			t.Errorf("the fifth 7 MiB were answered with %d, want %d", got, want)
		}
	})
}

func TestSSECutsOffAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		s := w.openSilently()
		defer s.body.Close()
		s.send(call(`"waits"`, "wait", `{}`))
		<-f.started
		start := time.Now()
		s.send(call(`"huge"`, "echo", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`))
		wantOrdinaryEnd(t, f)
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("the client was cut off after %v, want 30 s", took)
		}
		synctest.Wait()
		if got := w.Sessions(); got != 0 {
			t.Errorf("Sessions() = %d, want 0", got)
		}
	})
}

func TestSSECloseLetsCallsBeAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		s := w.open()
		s.send(call("1", "sleep", `{}`))
		s.send(modernLine(`"sub"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true},`))
		if got, want := s.receive().Method, "notifications/subscriptions/acknowledged"; got != want {
			t.Fatalf("subscriptions/listen was followed by %q, want %q", got, want)
		}
		closed := make(chan error, 1)
		go func() { closed <- w.Close(t.Context()) }()
		synctest.Wait()
		if resp, _ := w.do(http.MethodGet, "/sse", nil); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a new stream was answered with %d, want 503", resp.StatusCode)
		}
		var got []string
		for data := range s.out {
			got = append(got, parse(t, data).String())
		}
		if diff := cmp.Diff([]string{`"sub": result`, "1: slept"}, got); diff != "" {
			t.Errorf("at the end came (-want +got):\n%s", diff)
		}
		if err := <-s.end; err != nil {
			t.Errorf("the stream ended with %v, want in order", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
		if got := w.Sessions(); got != 0 {
			t.Errorf("Sessions() = %d, want 0", got)
		}
	})
}

func TestSSECloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		stuck := make(chan struct{})
		defer close(stuck)
		f.AddTool(mcp.NewTool("stuck"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			<-stuck
			return mcp.NewToolResultText(""), nil
		})
		w := newMemoryWeb(t, f, serve.HTTPOptions{})
		s, other, deaf := w.open(), w.open(), w.openSilently()
		defer deaf.body.Close()
		s.send(call("1", "wait", `{}`))
		other.send(call("1", "stuck", `{}`))
		start := time.Now()
		deaf.send(call("1", "echo", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("Close took %v, want the 2 s it was given and 5 s of grace", took)
		}
		wantOrdinaryEnd(t, f)
		if got, want := s.receive().String(), "1: waited"; got != want {
			t.Errorf("the call that was stopped was answered with %q, want %q", got, want)
		}
		if err := <-s.end; err != nil {
			t.Errorf("the stream ended with %v, want in order", err)
		}
	})
}

func TestSSEOverHTTP2(t *testing.T) {
	h := serve.NewHTTP(newFixture().MCPServer, serve.HTTPOptions{})
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	w := &sseWeb{h, t, srv.URL, srv.Client()}
	s := w.open()
	s.send(call("1", "echo", `{"text":"hi"}`))
	if got, want := s.receive().String(), "1: hi"; got != want {
		t.Errorf("the call was answered with %q, want %q", got, want)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
	if err := <-s.end; err != nil {
		t.Errorf("the stream ended with %v, want in order", err)
	}
}
