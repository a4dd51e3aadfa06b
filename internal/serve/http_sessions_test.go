package serve_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func TestHTTPSessionsAreThoseThatInitializeBegan(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	live := w.open()
	ended := w.open()
	if a := w.do("DELETE", "/mcp", "", ended...); a.status != 200 {
		t.Errorf("DELETE of a session = %d, want 200", a.status)
	}
	if live[1] == ended[1] || len(live[1]) < 26 {
		t.Errorf("sessions %q and %q, want two of 128 random bits", live[1], ended[1])
	}
	if got := w.h.Sessions(); got != 1 {
		t.Errorf("Sessions() = %d, want 1", got)
	}
	madeUp := []string{"Mcp-Session-Id", "made-up"}
	for _, tt := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"a made-up id", madeUp, 404},
		{"an ended id", ended, 404},
		{"no id", nil, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for method, body := range map[string]string{"POST": call("1", "echo", `{}`), "GET": "", "DELETE": ""} {
				if a := w.do(method, "/mcp", body, tt.headers...); a.status != tt.want {
					t.Errorf("%s with %q = %d, want %d", method, tt.headers, a.status, tt.want)
				}
			}
			for _, body := range []string{initialized, cancelled("1")} {
				if a := w.do("POST", "/mcp", body, tt.headers...); a.status != tt.want {
					t.Errorf("POST %s with %q = %d, want %d", body, tt.headers, a.status, tt.want)
				}
			}
		})
	}
	if got := w.post(call("1", "echo", `{"text":"hi"}`), live...); !cmp.Equal(got, []string{"1: hi"}) {
		t.Errorf("a call of the live session = %q, want hi", got)
	}
	if a := w.do("POST", "/mcp", initialize, madeUp...); a.header.Get("Mcp-Session-Id") == "made-up" {
		t.Error("initialize took the id that the client made up")
	}
	if a := w.do("POST", "/mcp", strings.Replace(initialize, `"params":{`, `"params":5,"x":{`, 1)); a.header.Get("Mcp-Session-Id") != "" || w.h.Sessions() != 2 {
		t.Errorf("an initialize that went wrong = %d %s with the session %q, and there are %d, want none and 2", a.status, a.body, a.header.Get("Mcp-Session-Id"), w.h.Sessions())
	}
}

func TestHTTPNewerEraHasNoSessions(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	body, headers := modern(t, call("1", "echo", `{"text":"hi"}`))
	for _, id := range []string{"", "made-up"} {
		a := w.do("POST", "/mcp", body, append(headers, "Mcp-Session-Id", id)...)
		if a.status != 200 || a.header.Get("Mcp-Session-Id") != "" || !cmp.Equal(a.messages(t), []string{"1: hi"}) {
			t.Errorf("a call with the session %q = %d %q with the session %q, want hi and none", id, a.status, a.body, a.header.Get("Mcp-Session-Id"))
		}
	}
	body, headers = modern(t, `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`)
	if got := w.post(body, headers...); !cmp.Equal(got, []string{"1: result"}) {
		t.Errorf("server/discover = %q, want a result", got)
	}
	headers[len(headers)-1] = "tools/list"
	if a := w.do("POST", "/mcp", body, headers...); a.status != 400 || !strings.Contains(a.body, "-32020") {
		t.Errorf("a header that contradicts its body = %d %s, want 400 and -32020", a.status, a.body)
	}
	if got := w.h.Sessions(); got != 0 {
		t.Errorf("Sessions() = %d, want 0", got)
	}
}

func TestHTTPEndsTheSessionThatWasIdleLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{MaxSessions: 2})
		first := w.open()
		time.Sleep(time.Second)
		second := w.open()
		time.Sleep(time.Second)
		w.post(call("1", "echo", `{}`), first...)
		w.open()
		if got := w.post(call("1", "echo", `{}`), second...); !cmp.Equal(got, []string{"404"}) {
			t.Errorf("a call of the session that was idle longest = %q, want 404", got)
		}
		if got := w.post(call("1", "echo", `{"text":"hi"}`), first...); !cmp.Equal(got, []string{"1: hi"}) {
			t.Errorf("a call of the session that was used last = %q, want hi", got)
		}
		if got := w.h.Sessions(); got != 2 {
			t.Errorf("Sessions() = %d, want 2", got)
		}
		w.close()
	})
}

func TestHTTPKeepsSessionsThatAreInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newWebFixture()
		w := newPipeWeb(t, f, serve.HTTPOptions{MaxSessions: 2, SessionIdle: time.Minute})
		calling, listening := w.open(), w.open()
		var calls sync.WaitGroup
		calls.Go(func() {
			if got := w.post(call("1", "wait", `{}`), calling...); !cmp.Equal(got, []string{"1: waited"}) {
				t.Errorf("the call = %q, want its answer", got)
			}
		})
		<-f.started
		_, events, end := w.begin(w.request(t.Context(), "GET", "/mcp", "", append(listening, "Accept", "text/event-stream")...))
		go func() {
			for events.Scan() { //nolint:revive // comments are read and forgotten
			}
		}()
		time.Sleep(time.Hour)
		a := w.do("POST", "/mcp", initialize)
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("a session too many = %d, Retry-After %q, want 503 and when to come back", a.status, a.header.Get("Retry-After"))
		}
		if got := w.h.Sessions(); got != 2 {
			t.Errorf("Sessions() = %d, want 2", got)
		}
		close(f.release)
		calls.Wait()
		end()
		time.Sleep(time.Minute + time.Second)
		if got := w.h.Sessions(); got != 0 {
			t.Errorf("Sessions() = %d after the idle time, want 0", got)
		}
		w.close()
	})
}

func TestHTTPAbandonedSessionsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{SessionIdle: 30 * time.Minute})
		for range 1000 {
			w.open()
		}
		if got := w.h.Sessions(); got != 1000 {
			t.Errorf("Sessions() = %d, want 1000", got)
		}
		time.Sleep(29 * time.Minute)
		kept := w.open()
		time.Sleep(2 * time.Minute)
		if got := w.h.Sessions(); got != 1 {
			t.Errorf("Sessions() = %d after the idle time, want 1", got)
		}
		if got := w.post(call("1", "echo", `{"text":"hi"}`), kept...); !cmp.Equal(got, []string{"1: hi"}) {
			t.Errorf("a call of the session that was made later = %q, want hi", got)
		}
		w.close()
	})
}

func TestHTTPStateless(t *testing.T) {
	var replicas [2]*web
	for i := range replicas {
		replicas[i] = newWeb(t, newWebFixture(), serve.HTTPOptions{Stateless: true})
	}
	turn := 0
	post := func(body string, headers ...string) answered {
		turn++
		return replicas[turn%2].do("POST", "/mcp", body, headers...)
	}
	if a := post(initialize); a.status != 200 || a.header.Get("Mcp-Session-Id") != "" {
		t.Errorf("initialize = %d with the session %q, want none", a.status, a.header.Get("Mcp-Session-Id"))
	}
	if a := post(initialized); a.status != 202 {
		t.Errorf("notifications/initialized = %d, want 202", a.status)
	}
	for range 4 {
		if a := post(call("1", "echo", `{"text":"hi"}`), "Mcp-Session-Id", "somebody-else-gave-it"); !cmp.Equal(a.messages(t), []string{"1: hi"}) {
			t.Errorf("a call = %d %q, want hi", a.status, a.body)
		}
		body, headers := modern(t, call("1", "echo", `{"text":"hi"}`))
		if a := post(body, headers...); !cmp.Equal(a.messages(t), []string{"1: hi"}) {
			t.Errorf("a call of the newer era = %d %q, want hi", a.status, a.body)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if a := replicas[0].do(method, "/mcp", ""); a.status != 405 || a.header.Get("Allow") != "POST" {
			t.Errorf("%s = %d, Allow %q, want 405 and POST", method, a.status, a.header.Get("Allow"))
		}
	}
	if got := replicas[0].h.Sessions(); got != 0 {
		t.Errorf("Sessions() = %d, want 0", got)
	}
}

func TestHTTPLogLevelIsTheSessions(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	loud, quiet := w.open(), w.open()
	w.post(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`, quiet...)
	if got, want := len(w.post(call("1", "log", `{}`), quiet...)), 2; got != want {
		t.Errorf("a session that wants errors got %d messages, want %d", got, want)
	}
	if got, want := len(w.post(call("1", "log", `{}`), loud...)), 3; got != want {
		t.Errorf("a session that has said nothing got %d messages, want %d", got, want)
	}
}

// background runs do on its own goroutine and gives what it returns.
func background[T any](do func() T) <-chan T {
	out := make(chan T, 1)
	go func() { out <- do() }()
	return out
}

// untilDone returns a context that ends with the test or by cancel.
func untilDone(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
