package daemon_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// api calls a daemon with plain HTTP.
type api struct {
	t   *testing.T
	srv *slicertest.Server

	handler http.Handler // serves in the place of srv, without a network
}

func newAPI(t *testing.T, o slicertest.Options) *api {
	t.Helper()
	return &api{t: t, srv: slicertest.NewServer(t, o)}
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// message is the text of an error answer.
func (r reply) message(t *testing.T) string {
	t.Helper()
	var e struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Error == "" {
		t.Fatalf("answer %d %q is no JSON error", r.status, r.body)
	}
	return e.Error
}

// request makes a request; header is name, value, name, value, ….
func (a *api) request(ctx context.Context, method, path string, body io.Reader, header ...string) *http.Request {
	a.t.Helper()
	url := "http://slicertest"
	if a.handler == nil {
		url = a.srv.URL
	}
	req, err := http.NewRequestWithContext(ctx, method, url+path, body)
	if err != nil {
		a.t.Fatalf("NewRequest(%s %s) = %v", method, path, err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// call makes a request and reads the answer.
func (a *api) call(method, path, body string, header ...string) reply {
	a.t.Helper()
	return a.send(a.request(a.t.Context(), method, path, strings.NewReader(body), header...))
}

func (a *api) send(req *http.Request) reply {
	a.t.Helper()
	if a.handler != nil {
		rec := httptest.NewRecorder()
		a.handler.ServeHTTP(rec, req)
		return reply{rec.Code, rec.Header(), rec.Body.String(), nil}
	}
	resp, err := a.srv.HTTPClient().Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text), err}
}

// want makes a request that must be answered with status.
func (a *api) want(status int, method, path, body string, header ...string) reply {
	a.t.Helper()
	got := a.call(method, path, body, header...)
	if got.status != status || got.err != nil {
		a.t.Fatalf("%s %s = %d %s (read: %v), want %d", method, path, got.status, got.body, got.err, status)
	}
	return got
}

// create makes a VM and returns its hostname.
func (a *api) create(body string) string {
	a.t.Helper()
	var vm struct {
		Hostname string `json:"hostname"`
	}
	decode(a.t, a.want(http.StatusCreated, "POST", "/hostgroup/sbox/nodes", body).body, &vm)
	return vm.Hostname
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
}

// frame is a line of a streaming exec answer.
type frame struct {
	Type      string  `json:"type"`
	Timestamp string  `json:"timestamp"`
	PID       int     `json:"pid"`
	StartedAt string  `json:"started_at"`
	EndedAt   string  `json:"ended_at"`
	Stdout    string  `json:"stdout"`
	Stderr    string  `json:"stderr"`
	Encoding  string  `json:"encoding"`
	ExitCode  *int    `json:"exit_code"`
	Signal    *string `json:"signal"`
	Error     string  `json:"error"`

	// Of a background exec's logs alone.
	ID            uint64 `json:"id"`
	DroppedBytes  int64  `json:"dropped_bytes"`
	DroppedFrames int    `json:"dropped_frames"`
	Message       string `json:"message"`
}

func frames(t *testing.T, body string) []frame {
	t.Helper()
	var list []frame
	for line := range strings.Lines(body) {
		var f frame
		decode(t, line, &f)
		if f.Timestamp == "" {
			t.Errorf("frame %q has no timestamp", line)
		}
		list = append(list, f)
	}
	return list
}

// execPath is the path of an exec call; params is name, value, name, value, ….
func execPath(vm string, params ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return "/vm/" + vm + "/exec?" + q.Encode()
}

// rawUpload sends a whole body of zeros before it reads the answer.
func (a *api) rawUpload(conn net.Conn, path string, size int) *http.Response {
	a.t.Helper()
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path, size); err != nil {
		a.t.Fatalf("send: %v", err)
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		a.t.Fatalf("send the body: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		a.t.Fatalf("read the answer: %v", err)
	}
	return resp
}
