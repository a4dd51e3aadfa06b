package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestHTTPAnswersAsItWasAsked(t *testing.T) {
	eras(t, serve.HTTPOptions{}, func(t *testing.T, w *web, _ *webFixture, request func(context.Context, string) *http.Request) {
		for _, tt := range []struct {
			name, message, want string
		}{
			{"a call", call("1", "echo", `{"text":"hi"}`), "1: hi"},
			{"a string id", call(`"a\u0000b"`, "echo", `{"text":"hi"}`), `"a\u0000b": hi`},
			{"an unknown method", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, "1: error -32601"},
			{"an unknown tool", call("1", "no_such", `{}`), "1: error -32602"},
			{"a panic is an error that tells nothing", call("1", "panic", `{}`), "1: error -32603"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a, err := w.try(request(t.Context(), tt.message))
				if err != nil || !cmp.Equal(a.messages(t), []string{tt.want}) {
					t.Errorf("%s was answered with %d %q, %v, want %s", tt.message, a.status, a.body, err, tt.want)
				}
				if strings.Contains(a.body, "secret") {
					t.Errorf("%s was answered with %q, which tells a secret", tt.message, a.body)
				}
			})
		}
	})
}

func TestHTTPIDComesBackToTheLetter(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	if got := w.post(call("9007199254740993", "echo", `{"text":"hi"}`), w.open()...); !cmp.Equal(got, []string{"9007199254740993: hi"}) {
		t.Errorf("the answer is %q, want the id 9007199254740993", got)
	}
}

func TestHTTPLogsAPanicWithItsStack(t *testing.T) {
	var log bytes.Buffer
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	session := w.open()
	w.post(call("1", "panic", `{}`), session...)
	if got := w.post(call("2", "echo", `{"text":"hi"}`), session...); !cmp.Equal(got, []string{"2: hi"}) {
		t.Errorf("a call after the panic = %q, want hi", got)
	}
	w.close()
	if !strings.Contains(log.String(), "a secret") || !strings.Contains(log.String(), "http_test.go") {
		t.Errorf("the log says %q, want the panic and its stack", log.String())
	}
}

func TestHTTPProgressComesBeforeItsResultAndWhole(t *testing.T) {
	const calls, notifications = 100, 50
	eras(t, serve.HTTPOptions{}, func(t *testing.T, w *web, _ *webFixture, request func(context.Context, string) *http.Request) {
		var want []string
		for i := range notifications {
			want = append(want, fmt.Sprintf("notifications/progress %d", i+1))
		}
		var all sync.WaitGroup
		for i := range calls {
			id := fmt.Sprint(i + 1)
			req := request(t.Context(), progressing(id, "progress", fmt.Sprintf(`{"count":%d}`, notifications)))
			all.Go(func() {
				a, err := w.try(req)
				if err != nil {
					t.Error(err)
					return
				}
				if diff := cmp.Diff(append(want[:notifications:notifications], id+": done"), a.messages(t)); diff != "" {
					t.Errorf("call %s (-want +got):\n%s", id, diff)
				}
				if n := strings.Count(a.body, `"progressToken":`+id+`}`) + strings.Count(a.body, `"progressToken":`+id+`,`); n != notifications {
					t.Errorf("call %s got %d notifications of its own, want %d", id, n, notifications)
				}
			})
		}
		all.Wait()
	})
}

func TestHTTPProgressIsForThoseWhoTakeEvents(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	session := w.open()
	for accept, want := range map[string]string{
		"application/json":                        "application/json",
		"application/json, text/event-stream;q=0": "application/json",
		"":                  "application/json",
		"text/event-stream": "text/event-stream",
		"*/*":               "text/event-stream",
		"application/json;q=0.5,text/event-stream;q=.1": "text/event-stream",
	} {
		a := w.do("POST", "/mcp", progressing("1", "progress", `{"count":3}`), append(session, "Accept", accept)...)
		got := a.messages(t)
		if a.header.Get("Content-Type") != want || len(got) == 0 || got[len(got)-1] != "1: done" {
			t.Errorf("with Accept %q the answer is %q %q, want %s", accept, a.header.Get("Content-Type"), a.body, want)
		}
	}
	if a := w.do("POST", "/mcp", call("1", "echo", `{"text":"hi"}`), append(session, "Accept", "text/event-stream")...); !cmp.Equal(a.messages(t), []string{"1: hi"}) ||
		a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("a client that takes events alone got %q %q", a.header.Get("Content-Type"), a.body)
	}
}

func TestHTTPCancelEndsOnesOwnCallWithoutAnAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		tool   string
		status int
		want   []string
	}{
		"before anything was sent": {"wait", 202, nil},
		"after progress":           {"begin", 200, []string{"notifications/progress 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newWebFixture()
			w := newWeb(t, f, serve.HTTPOptions{})
			mine, other := w.open(), w.open()
			ended := background(func() answered { return w.do("POST", "/mcp", progressing("7", tt.tool, `{}`), mine...) })
			receive(t, f.started, "the call to start")
			otherEnded := background(func() answered { return w.do("POST", "/mcp", progressing("8", tt.tool, `{}`), other...) })
			receive(t, f.started, "the other call to start")

			for _, id := range []string{`"7"`, "8", "null", "[7]"} {
				if got := w.post(cancelled(id), mine...); !cmp.Equal(got, []string{"202"}) {
					t.Errorf("cancelling %s = %q, want 202", id, got)
				}
			}
			if got := w.post(cancelled("7"), other...); !cmp.Equal(got, []string{"202"}) {
				t.Errorf("cancelling somebody else's = %q, want 202", got)
			}
			body, headers := modern(t, cancelled("7"))
			if got := w.post(body, headers...); !cmp.Equal(got, []string{"202"}) {
				t.Errorf("cancelling in the newer era = %q, want 202", got)
			}
			select {
			case cause := <-f.ended:
				t.Fatalf("a call was ended by a notification that isn't about it: %v", cause)
			default:
			}

			w.post(cancelled("7"), mine...)
			if cause := receive(t, f.ended, "the call's context to end"); !errors.Is(cause, tools.ErrCancelled) {
				t.Errorf("the call's context ended with %v, want %v", cause, tools.ErrCancelled)
			}
			a := receive(t, ended, "the call's response to end")
			if got := a.messages(t); a.status != tt.status || !cmp.Equal(got, tt.want) {
				t.Errorf("the cancelled call = %d %q, want %d %q", a.status, a.body, tt.status, tt.want)
			}
			close(f.release)
			if cause := receive(t, f.ended, "the other call to end"); cause != nil {
				t.Errorf("the other call's context ended with %v", cause)
			}
			if a := receive(t, otherEnded, "the other call's answer"); a.status != 200 {
				t.Errorf("the other call = %d %q, want its answer", a.status, a.body)
			}
		})
	}
}

func TestHTTPNobodyCancelsWithoutASession(t *testing.T) {
	f := newWebFixture()
	w := newWeb(t, f, serve.HTTPOptions{Stateless: true})
	old := background(func() []string { return w.post(call("7", "wait", `{}`)) })
	receive(t, f.started, "the call to start")
	body, headers := modern(t, call("7", "wait", `{}`))
	newer := background(func() []string { return w.post(body, headers...) })
	receive(t, f.started, "the call of the newer era to start")
	for range 2 {
		w.post(cancelled("7"))
		body, headers := modern(t, cancelled("7"))
		w.post(body, headers...)
		w.post(strings.Replace(cancelled("7"), `"method"`, `"id":null,"method"`, 1))
	}
	close(f.release)
	for _, c := range []<-chan []string{old, newer} {
		if got := receive(t, c, "an answer"); !cmp.Equal(got, []string{"7: waited"}) {
			t.Errorf("a call that somebody else cancelled = %q, want its answer", got)
		}
	}
}

func TestHTTPQueuedCallIsCancelledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		session := w.open()
		var calls sync.WaitGroup
		for i := range 256 {
			calls.Go(func() { w.post(call(fmt.Sprint(i+1), "wait", `{}`), session...) })
		}
		for range 256 {
			<-f.started
		}
		queued := background(func() answered { return w.do("POST", "/mcp", call("1000", "wait", `{"label":"queued"}`), session...) })
		synctest.Wait()
		if got := w.post(`{"jsonrpc":"2.0","id":2000,"method":"tools/list"}`, session...); !cmp.Equal(got, []string{"2000: result"}) {
			t.Errorf("tools/list beside 256 calls = %q, want a result", got)
		}
		if got := w.post(call("1000", "echo", `{}`), session...); !cmp.Equal(got, []string{"400"}) {
			t.Errorf("a call with the id of one in flight = %q, want 400", got)
		}
		w.post(cancelled("1000"), session...)
		if a := <-queued; a.status != 202 {
			t.Errorf("the cancelled call = %d, want 202", a.status)
		}
		close(f.release)
		calls.Wait()
		select {
		case label := <-f.started:
			t.Errorf("the call %q has run, though it was cancelled", label)
		default:
		}
		w.close()
	})
}

func TestHTTPClientThatGoesAway(t *testing.T) {
	eras(t, serve.HTTPOptions{}, func(t *testing.T, w *web, f *webFixture, request func(context.Context, string) *http.Request) {
		isModern := strings.Contains(t.Name(), "2026")
		for _, tool := range []string{"wait", "begin"} {
			ctx, hangUp := untilDone(t)
			gone := background(func() error {
				_, err := w.try(request(ctx, progressing("1", tool, `{}`)))
				return err
			})
			receive(t, f.started, "the call to start")
			hangUp()
			receive(t, gone, "the client to go") //nolint:errcheck // its error is that it went
			cause := receive(t, f.ended, "the call's context to end")
			if cause == nil || errors.Is(cause, tools.ErrCancelled) != isModern {
				t.Errorf("the context of a call whose client went away ended with %v, cancelled = %t, want %t", cause, errors.Is(cause, tools.ErrCancelled), isModern)
			}
		}
	})
}

func TestHTTPClientThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		session := w.open()
		_, _, end := w.begin(w.request(t.Context(), "POST", "/mcp", call("1", "huge", `{"size":20000000}`), session...))
		defer end()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.h.Close(ctx); err != nil {
			t.Errorf("Close() = %v beside a client that doesn't read, want nil", err)
		}
		w.close()
	})
}

func TestHTTPSlowBodyIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{})
		session := w.open()
		slow, never := io.Pipe()
		defer never.Close()
		req := w.request(t.Context(), "POST", "/mcp", "", session...)
		req.Body, req.ContentLength = slow, 1000
		began := time.Now()
		a, err := w.try(req)
		if took := time.Since(began); err == nil && a.status != 408 || took > time.Minute {
			t.Errorf("a body that doesn't come = %d, %v after %s, want 408", a.status, err, took)
		}
		w.close()
	})
}

func TestHTTPLargeMessageIsRefusedBeforeItArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{})
		session := w.open()
		body, never := io.Pipe()
		defer never.Close()
		req := w.request(t.Context(), "POST", "/mcp", "", session...)
		req.Body, req.ContentLength = body, 8<<20+1
		began := time.Now()
		a, err := w.try(req)
		if took := time.Since(began); err != nil || a.status != 413 || took != 0 {
			t.Errorf("a message that says it is too long = %d, %v after %s, want 413 at once", a.status, err, took)
		}
		w.close()
		time.Sleep(time.Second) // net/http lets a refusal be read before it hangs up
	})
}

func TestHTTPTooMuchIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{})
		session := w.open()
		almost := strings.Repeat("x", 8<<20-1)
		var posts sync.WaitGroup
		var ends []io.Closer
		for range 4 {
			body, rest := io.Pipe()
			req := w.request(t.Context(), "POST", "/mcp", "", session...)
			req.Body, req.ContentLength = body, 8<<20
			posts.Go(func() { w.try(req) })                   //nolint:errcheck // it is cut off
			posts.Go(func() { io.WriteString(rest, almost) }) //nolint:errcheck // and so is this
			ends = append(ends, rest)
		}
		synctest.Wait()
		a := w.do("POST", "/mcp", call("9", "echo", `{"text":"hi"}`), session...)
		if a.status != 503 || a.header.Get("Retry-After") != "1" {
			t.Errorf("a message beyond 32 MiB = %d, Retry-After %q, want 503 and 1", a.status, a.header.Get("Retry-After"))
		}
		for _, end := range ends {
			end.Close()
		}
		posts.Wait()
		synctest.Wait()
		if got := w.post(call("9", "echo", `{"text":"hi"}`), session...); !cmp.Equal(got, []string{"9: hi"}) {
			t.Errorf("a call afterwards = %q, want hi", got)
		}
		w.close()
	})
}

func TestHTTPParallelCalls(t *testing.T) {
	const sessions, each = 200, 5
	synctest.Test(t, func(t *testing.T) {
		before := heap()
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		var all sync.WaitGroup
		for range sessions {
			all.Go(func() {
				session := w.open()
				for i := range each {
					all.Go(func() {
						id, text := fmt.Sprint(i), strings.Repeat(session[1], 100)
						if got := w.post(call(id, "echo", fmt.Sprintf(`{"text":%q}`, text)), session...); !cmp.Equal(got, []string{id + ": " + text}) {
							t.Errorf("call %s = %q, want its own text", id, got)
						}
					})
				}
			})
		}
		all.Wait()
		if got := len(f.headers); got != sessions*each {
			t.Errorf("%d calls have run, want %d", got, sessions*each)
		}
		w.close()
		for len(f.headers) > 0 {
			<-f.headers
		}
		// The bubble fails if a goroutine is left.
		if after := heap(); after > before+10<<20 {
			t.Errorf("the heap has grown from %d to %d bytes", before, after)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
