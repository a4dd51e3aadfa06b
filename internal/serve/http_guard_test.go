package serve_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func metricsPage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

func TestHTTPChecksHostOriginAndTokenOnEveryPath(t *testing.T) {
	const token = "0123456789abcdef"
	auth := []string{"Authorization", "Bearer " + token}
	with := func(h ...string) []string { return append(h, auth...) }
	tests := []struct {
		name    string
		headers []string
		want    int // 0 is anything but a refusal
		healthz int // where /healthz differs
	}{
		{"the token alone is enough", auth, 0, 0},
		{"localhost is this machine", with("Host", "localhost:8090"), 0, 0},
		{"so is ::1", with("Host", "[::1]:8090"), 0, 0},
		{"so is all of 127.0.0.0/8", with("Host", "127.8.7.6"), 0, 0},
		{"a name that is allowed", with("Host", "Proxy.Example:443"), 0, 0},
		{"another name on a loopback connection", with("Host", "evil.example"), 403, 403},
		{"a name that only begins like this machine", with("Host", "127.0.0.1.evil.example"), 403, 403},
		{"localhost of somebody else", with("Host", "localhost.evil.example"), 403, 403},
		{"a page of this machine", with("Origin", "http://localhost:3000"), 0, 0},
		{"a page of this machine over TLS", with("Origin", "https://127.0.0.1"), 0, 0},
		{"a page that is allowed", with("Origin", "https://chat.example.com"), 0, 0},
		{"case doesn't matter in its host", with("Origin", "https://CHAT.example.com"), 0, 0},
		{"nor does the port that goes without saying", with("Origin", "https://chat.example.com:443"), 0, 0},
		{"another page", with("Origin", "https://evil.example"), 403, 403},
		{"another scheme", with("Origin", "http://chat.example.com"), 403, 403},
		{"another port", with("Origin", "https://chat.example.com:8443"), 403, 403},
		{"a longer host", with("Origin", "https://chat.example.com.evil.example"), 403, 403},
		{"no origin to speak of", with("Origin", "null"), 403, 403},
		{"an origin with a path", with("Origin", "http://localhost/x"), 403, 403},
		{"an origin with a user", with("Origin", "http://evil@localhost"), 403, 403},
		{"an origin that is no web page's but says localhost", with("Origin", "file://localhost"), 403, 403},
		{"two origins in one", with("Origin", "http://localhost http://evil.example"), 403, 403},
		{"no token", nil, 401, 200},
		{"another token", []string{"Authorization", "Bearer 0123456789abcdeX"}, 401, 200},
		{"the beginning of the token", []string{"Authorization", "Bearer 0123456789"}, 401, 200},
		{"another scheme of authorization", []string{"Authorization", "Basic " + token}, 401, 200},
		{"the token without a scheme", []string{"Authorization", token}, 401, 200},
		{"a foreign page is refused before its token is looked at", []string{"Origin", "https://evil.example"}, 403, 403},
	}
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{
		Token:        token,
		AllowOrigins: []string{"https://chat.example.com"},
		AllowHosts:   []string{"proxy.example"},
		Metrics:      metricsPage(),
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, path := range []string{"/mcp", "/healthz", "/readyz", "/metrics", "/no/such", "/mcp?access_token=" + token, "/sse", "/message?sessionId=1"} {
				for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"} {
					want := tt.want
					if path == "/healthz" && (method == "GET" || method == "HEAD") {
						want = tt.healthz
					}
					if path == "/sse" && method == "GET" && want == 0 {
						continue // a stream, which doesn't end by itself
					}
					a := w.do(method, path, "", tt.headers...)
					refused := a.status == 401 || a.status == 403
					if want == 0 && refused || want != 0 && a.status != want {
						t.Errorf("%s %s with %q = %d, want %d", method, path, tt.headers, a.status, want)
					}
					if a.status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
						t.Errorf("%s %s = 401 with WWW-Authenticate %q, want Bearer", method, path, a.header.Get("WWW-Authenticate"))
					}
					if got := a.header.Get("Access-Control-Allow-Origin"); got == "*" || refused && a.status == 403 && got != "" {
						t.Errorf("%s %s = %d with Access-Control-Allow-Origin %q", method, path, a.status, got)
					}
					if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
						t.Errorf("%s %s has X-Content-Type-Options %q, want nosniff", method, path, got)
					}
					if got := a.header.Get("Cache-Control"); got != "no-store" {
						t.Errorf("%s %s has Cache-Control %q, want no-store", method, path, got)
					}
					if refused && method != "HEAD" && strings.Count(a.body, "\n") != 1 {
						t.Errorf("%s %s was refused with %q, want one line", method, path, a.body)
					}
				}
			}
		})
	}
}

func TestHTTPRefusesHeadersThatComeTwice(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{Token: "0123456789abcdef"})
	for name, tt := range map[string]struct {
		values []string
		want   int
	}{
		"Origin":        {[]string{"http://localhost", "http://localhost"}, 403},
		"Authorization": {[]string{"Bearer 0123456789abcdef", "Bearer 0123456789abcdef"}, 401},
		"Content-Type":  {[]string{"application/json", "text/plain"}, 415},
	} {
		t.Run(name, func(t *testing.T) {
			req := w.request(t.Context(), "POST", "/mcp", initialize, "Authorization", "Bearer 0123456789abcdef")
			req.Header[name] = tt.values
			a, err := w.try(req)
			if err != nil || a.status != tt.want {
				t.Errorf("POST with %s twice = %d, %v, want %d", name, a.status, err, tt.want)
			}
		})
	}
}

func TestHTTPTakesAnyHostOverTheNetwork(t *testing.T) {
	h := serve.NewHTTP(newWebFixture().MCPServer, serve.HTTPOptions{})
	defer h.Close(t.Context()) //nolint:errcheck // nothing is in flight
	req := httptest.NewRequestWithContext(
		context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}),
		"GET", "http://vms.example/healthz", nil)
	got := httptest.NewRecorder()
	h.ServeHTTP(got, req)
	if got.Code != 200 {
		t.Errorf("GET http://vms.example/healthz over a network = %d, want 200", got.Code)
	}
}

func TestHTTPAllowedHostGetsItsAnswerFromMCPToo(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{AllowHosts: []string{"proxy.example"}})
	body, headers := modern(t, call("1", "huge", `{}`))
	headers = append(headers, "Host", "proxy.example")
	if a := w.do("POST", "/mcp", body, headers...); a.status != 200 {
		t.Errorf("a call by an allowed name = %d %q, want 200", a.status, a.body)
	}
	// mcp-go answers this one, with a guard of its own that knows no names.
	if a := w.do("GET", "/mcp", "", headers...); a.status != 405 {
		t.Errorf("GET by an allowed name = %d %q, want 405", a.status, a.body)
	}
}

func TestHTTPLetsAnAllowedPageCall(t *testing.T) {
	const origin = "https://chat.example.com"
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{Token: "0123456789abcdef", AllowOrigins: []string{origin}})
	pre := w.do("OPTIONS", "/mcp", "", "Origin", origin, "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization,content-type,mcp-session-id")
	if pre.status != 204 || pre.header.Get("Access-Control-Allow-Origin") != origin || pre.header.Get("Vary") != "Origin" ||
		!strings.Contains(pre.header.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(pre.header.Get("Access-Control-Allow-Headers"), "Mcp-Session-Id") {
		t.Errorf("the preflight was answered with %d %v", pre.status, pre.header)
	}
	if bad := w.do("OPTIONS", "/mcp", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); bad.status != 403 {
		t.Errorf("the preflight of another page = %d, want 403", bad.status)
	}
	a := w.do("POST", "/mcp", initialize, "Origin", origin, "Authorization", "Bearer 0123456789abcdef")
	if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != origin ||
		!strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") {
		t.Errorf("initialize of an allowed page = %d %v", a.status, a.header)
	}
}

func TestHTTPKeepsTheTokenToItself(t *testing.T) {
	f := newWebFixture()
	w := newWeb(t, f, serve.HTTPOptions{Token: "0123456789abcdef"})
	auth := []string{"Authorization", "Bearer 0123456789abcdef"}
	session := w.open(auth...)
	w.post(call("1", "echo", `{}`), append(auth, session...)...)
	header := receive(t, f.headers, "the call's headers")
	if header.Get("Authorization") != "" || header.Get("Mcp-Session-Id") != "" {
		t.Errorf("a tool sees the headers %v, want no token and no session", header)
	}
}

func TestHTTPRefusesWhatIsNoMessage(t *testing.T) {
	f := newWebFixture()
	w := newWeb(t, f, serve.HTTPOptions{})
	session := w.open()
	long := call("1", "huge", `{"text":"`+strings.Repeat("x", 8<<20)+`"}`)
	short := call("1", "huge", `{}`)
	full := call("1", "huge", `{"text":""}`)
	full = strings.Replace(full, `""`, `"`+strings.Repeat("x", 8<<20-len(full))+`"`, 1)
	tests := []struct {
		name    string
		method  string
		path    string
		body    string
		headers []string
		want    int
	}{
		{"a message of 8 MiB", "POST", "/mcp", full, nil, 200},
		{"a message of more than 8 MiB", "POST", "/mcp", long, nil, 413},
		{"a form", "POST", "/mcp", short, []string{"Content-Type", "text/plain"}, 415},
		{"no content type", "POST", "/mcp", short, []string{"Content-Type", ""}, 415},
		{"a charset is no other type", "POST", "/mcp", short, []string{"Content-Type", "application/json; charset=utf-8"}, 200},
		{"a client that takes neither form", "POST", "/mcp", short, []string{"Accept", "text/html"}, 406},
		{"a client that says nothing of forms", "POST", "/mcp", short, []string{"Accept", ""}, 200},
		{"a client that takes JSON alone", "POST", "/mcp", short, []string{"Accept", "application/json"}, 200},
		{"what isn't JSON", "POST", "/mcp", "hello", nil, 400},
		{"nothing", "POST", "/mcp", "", nil, 400},
		{"a batch", "POST", "/mcp", "[" + call("1", "echo", `{}`) + "]", nil, 400},
		{"an id that is null", "POST", "/mcp", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, nil, 400},
		{"an id that is an object", "POST", "/mcp", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, nil, 400},
		{"an id that is too long", "POST", "/mcp", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1024) + `","method":"ping"}`, nil, 400},
		{"an id that is just not too long", "POST", "/mcp", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1022) + `","method":"ping"}`, nil, 200},
		{"a message without a method", "POST", "/mcp", `{"jsonrpc":"2.0","id":1}`, nil, 400},
		{"a request that is an answer as well", "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, nil, 400},
		{"an answer to no request", "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 202},
		{"a notification", "POST", "/mcp", initialized, nil, 202},
		{"a version that isn't known", "POST", "/mcp", short, []string{"Mcp-Protocol-Version", "1999-01-01"}, 400},
		{"a path that isn't there", "GET", "/", "", nil, 404},
		{"a path below", "POST", "/mcp/", short, nil, 404},
		{"a method that isn't", "PUT", "/mcp", short, nil, 405},
		{"HEAD of the endpoint", "HEAD", "/mcp", "", nil, 405},
		{"a post to a page", "POST", "/healthz", short, nil, 405},
		{"metrics that there aren't", "GET", "/metrics", "", nil, 404},
		{"a GET of the newer era", "GET", "/mcp", "", []string{"Mcp-Protocol-Version", "2026-07-28"}, 405},
		{"a DELETE of the newer era", "DELETE", "/mcp", "", []string{"Mcp-Protocol-Version", "2026-07-28"}, 405},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.do(tt.method, tt.path, tt.body, append(session, tt.headers...)...)
			if a.status != tt.want {
				t.Errorf("%s %s = %d %.200q, want %d", tt.method, tt.path, a.status, a.body, tt.want)
			}
			if a.status == 405 && a.header.Get("Allow") == "" {
				t.Errorf("%s %s = 405 without Allow", tt.method, tt.path)
			}
		})
	}
	t.Run("a message of more than 8 MiB in chunks", func(t *testing.T) {
		req := w.request(t.Context(), "POST", "/mcp", "", session...)
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(long)), -1
		a, err := w.try(req)
		if err != nil || a.status != 413 {
			t.Errorf("POST of %d bytes in chunks = %d, %v, want 413", len(long), a.status, err)
		}
	})
}

func TestHTTPPages(t *testing.T) {
	var broken error
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{
		Ready:   func(context.Context) error { return broken },
		Metrics: metricsPage(),
	})
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if a := w.do("GET", path, ""); a.status != 200 {
			t.Errorf("GET %s = %d, want 200", path, a.status)
		}
	}
	broken = errors.New("a secret")
	if a := w.do("GET", "/readyz", ""); a.status != 503 || strings.Contains(a.body, "secret") || strings.Count(a.body, "\n") != 1 {
		t.Errorf("GET /readyz of a server that isn't = %d %q, want 503 and a line without the error", a.status, a.body)
	}
	if a := w.do("GET", "/healthz", ""); a.status != 200 || a.body != "ok\n" {
		t.Errorf("GET /healthz of a server that isn't ready = %d %q, want 200", a.status, a.body)
	}
}
