package serve_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

const changed = "notifications/tools/list_changed 0"

func (f *webFixture) change() {
	f.AddTool(mcp.NewTool(time.Now().String()), nil)
}

// listen opens the stream of a session.
func (w *web) listen(session []string) (next func() string, end func()) {
	w.t.Helper()
	resp, events, end := w.begin(w.request(w.t.Context(), http.MethodGet, "/mcp", "", append(session, "Accept", "text/event-stream")...))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("GET = %d %q, want a stream", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return func() string { return readNext(w.t, events) }, end
}

// subscribe opens a subscriptions/listen stream of the newer era.
func (w *web) subscribe() (next func() string, end func()) {
	w.t.Helper()
	body, headers := modern(w.t, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`)
	resp, events, end := w.begin(w.request(w.t.Context(), http.MethodPost, "/mcp", body, headers...))
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("subscriptions/listen = %d", resp.StatusCode)
	}
	next = func() string { return readNext(w.t, events) }
	if got, want := next(), "notifications/subscriptions/acknowledged 0"; got != want {
		w.t.Fatalf("subscriptions/listen began with %q, want %q", got, want)
	}
	return next, end
}

func TestHTTPStreamsCarryTheServersNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		streams := map[string]func() (func() string, func()){
			"GET":                  func() (func() string, func()) { return w.listen(w.open()) },
			"subscriptions/listen": w.subscribe,
		}
		for name, open := range streams {
			next, end := open()
			synctest.Wait()
			f.change()
			if got := next(); got != changed {
				t.Errorf("%s: %q, want %q", name, got, changed)
			}
			time.Sleep(16 * time.Second)
			if got := next(); got != ": keep-alive" {
				t.Errorf("%s said %q after 15 s, want a comment", name, got)
			}
			end()
		}
		w.close()
	})
}

func TestHTTPStreamEnds(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, w *web, session []string){
		"with its session":     func(_ *testing.T, w *web, session []string) { w.do("DELETE", "/mcp", "", session...) },
		"when the server does": func(t *testing.T, w *web, _ []string) { w.h.Close(t.Context()) }, //nolint:errcheck // another test's matter
		"when there is a newer one": func(_ *testing.T, w *web, session []string) {
			_, end := w.listen(session)
			w.t.Cleanup(end)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{})
				session := w.open()
				next, end := w.listen(session)
				defer end()
				began := time.Now()
				do(t, w, session)
				if got := next(); got != "" {
					t.Errorf("the stream said %q, want its end", got)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("the stream ended after %s, want at once", took)
				}
				w.close()
			})
		})
	}
}

func TestHTTPNewerStreamTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		session := w.open()
		old, endOld := w.listen(session)
		defer endOld()
		newer, endNewer := w.listen(session)
		defer endNewer()
		if got := old(); got != "" {
			t.Errorf("the older stream said %q, want its end", got)
		}
		synctest.Wait()
		f.change()
		if got := newer(); got != changed {
			t.Errorf("the newer stream said %q, want %q", got, changed)
		}
		w.close()
	})
}

func TestHTTPTooManySubscriptions(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{MaxSessions: 1})
	_, end := w.subscribe()
	defer end()
	body, headers := modern(t, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`)
	if a := w.do("POST", "/mcp", body, headers...); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a stream too many = %d, want 503", a.status)
	}
}

func TestHTTPCloseLetsCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		session := w.open()
		stream, end := w.listen(session)
		defer end()
		subscription, endSubscription := w.subscribe()
		defer endSubscription()
		answer := background(func() []string { return w.post(call("1", "wait", `{}`), session...) })
		<-f.started

		closed := background(func() error { return w.h.Close(t.Context()) })
		if got := stream(); got != "" {
			t.Errorf("the stream said %q, want its end", got)
		}
		if got := subscription(); got != "" {
			t.Errorf("the subscription said %q, want its end", got)
		}
		if a := w.do("POST", "/mcp", call("2", "echo", `{}`), session...); a.status != 503 {
			t.Errorf("a new call = %d, want 503", a.status)
		}
		if got := w.h.Sessions(); got != 0 {
			t.Errorf("Sessions() = %d, want 0", got)
		}
		time.Sleep(10 * time.Second)
		close(f.release)
		if got := <-answer; !cmp.Equal(got, []string{"1: waited"}) {
			t.Errorf("the call in flight = %q, want its answer", got)
		}
		if cause := <-f.ended; cause != nil {
			t.Errorf("the context of the call in flight ended with %v", cause)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
		w.close()
	})
}

func TestHTTPCloseCutsCallsThatTakeTooLong(t *testing.T) {
	for name, modernEra := range map[string]bool{"2025-06-18": false, "2026-07-28": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newWebFixture()
				w := newPipeWeb(t, f, serve.HTTPOptions{})
				body, headers := call("1", "wait", `{}`), w.open()
				if modernEra {
					body, headers = modern(t, body)
				}
				answer := background(func() answered { return w.do("POST", "/mcp", body, headers...) })
				<-f.started
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				began := time.Now()
				if err := w.h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Close() = %v, want %v", err, context.DeadlineExceeded)
				}
				if took := time.Since(began); took != 15*time.Second {
					t.Errorf("Close() took %s, want 15 s", took)
				}
				if cause := <-f.ended; cause == nil || errors.Is(cause, tools.ErrCancelled) {
					t.Errorf("the call's context ended with %v, want an ordinary cause", cause)
				}
				if a := <-answer; a.status != 200 || !cmp.Equal(a.messages(t), []string{"1: waited"}) {
					t.Errorf("the call = %d %q, want what the tool said when it was cut off", a.status, a.body)
				}
				w.close()
			})
		})
	}
}

func TestHTTPCloseRefusesCallsThatWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{})
		headers := w.open()
		var running []<-chan answered
		for i := range 256 { // as many as run at once
			running = append(running, background(func() answered { return w.do("POST", "/mcp", call(fmt.Sprint(i), "wait", `{}`), headers...) }))
			<-f.started
		}
		waiting := background(func() answered { return w.do("POST", "/mcp", call("999", "wait", `{}`), headers...) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v, want %v", err, context.DeadlineExceeded)
		}
		for range running {
			if cause := <-f.ended; cause == nil {
				t.Error("a call that ran was not cut off")
			}
		}
		if a := <-waiting; a.status != 503 || !cmp.Equal(a.messages(t), []string{"999: error -32000"}) {
			t.Errorf("the call that waited = %d %q, want 503 and an error", a.status, a.body)
		}
		for _, r := range running {
			<-r
		}
		w.close()
	})
}
