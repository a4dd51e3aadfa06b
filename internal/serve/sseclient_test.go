package serve_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

// sseWeb is an HTTP that is being served.
type sseWeb struct {
	*serve.HTTP
	t      *testing.T
	url    string
	client *http.Client
}

// newSSEWeb serves f on a loopback port until the test ends.
func newSSEWeb(t *testing.T, f *fixture, opts serve.HTTPOptions) *sseWeb {
	t.Helper()
	h := serve.NewHTTP(f.MCPServer, opts)
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return &sseWeb{h, t, srv.URL, srv.Client()}
}

// newMemoryWeb serves f in memory, for synctest, with the time limits of a
// server of requests that end.
func newMemoryWeb(t *testing.T, f *fixture, opts serve.HTTPOptions) *sseWeb {
	t.Helper()
	h := serve.NewHTTP(f.MCPServer, opts)
	l := newPipeListener()
	srv := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	transport := &http.Transport{DialContext: l.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve() = %v, want %v", err, http.ErrServerClosed)
		}
		time.Sleep(time.Second) // fake; net/http lets a connection that it refuses linger
	})
	return &sseWeb{h, t, "http://127.0.0.1", &http.Client{Transport: transport}}
}

// do sends a request and returns its answer, whose body it has read.
func (w *sseWeb) do(method, path string, body io.Reader) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(text)
}

// sseStream is the client's end of a stream.
type sseStream struct {
	*sseWeb
	endpoint string
	out      chan string // the data of the messages
	comments chan string
	end      chan error // how the stream ended: nil when in order
	cancel   context.CancelFunc
}

// open opens a stream and says hello on it.
func (w *sseWeb) open() *sseStream {
	w.t.Helper()
	s := w.openSilently()
	go s.read()
	s.send(initialize, initialized)
	if got, want := s.receive().String(), "0: result"; got != want {
		w.t.Fatalf("initialize was answered with %q, want %q", got, want)
	}
	return s.sseStream
}

// rawStream is a stream of which nothing but the endpoint has been read.
type rawStream struct {
	*sseStream
	body  io.ReadCloser
	lines *bufio.Reader
}

// openSilently opens a stream and reads its first event.
func (w *sseWeb) openSilently() *rawStream {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/sse", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("GET /sse: %v", err)
	}
	if got, want := resp.StatusCode, http.StatusOK; got != want {
		w.t.Fatalf("GET /sse was answered with %d, want %d", got, want)
	}
	if got, want := resp.Header.Get("Content-Type"), "text/event-stream"; got != want {
		w.t.Errorf("a stream has the type %q, want %q", got, want)
	}
	s := &rawStream{
		sseStream: &sseStream{
			sseWeb:   w,
			out:      make(chan string, 10_000),
			comments: make(chan string, 10_000),
			end:      make(chan error, 1),
			cancel:   cancel,
		},
		body:  resp.Body,
		lines: bufio.NewReader(resp.Body),
	}
	name, data, err := s.event()
	if err != nil || name != "endpoint" || !strings.HasPrefix(data, "/message?sessionId=") {
		w.t.Fatalf("a stream begins with %q, %q, %v, want the endpoint", name, data, err)
	}
	s.endpoint = data
	return s
}

// event reads the next event. A comment is one without a name.
func (s *rawStream) event() (name, data string, err error) {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", "", err
		}
		line = strings.TrimSuffix(line, "\n")
		switch field, value, _ := strings.Cut(line, ": "); {
		case line == "":
			return name, data, nil
		case field == "event" && name == "":
			name = value
		case field == "data" && data == "":
			data = value
		case field == "":
			data = value
		default:
			return "", "", fmt.Errorf("an event has the line %.100q", line)
		}
	}
}

// read reads events until the stream ends.
func (s *rawStream) read() {
	defer close(s.out)
	defer s.body.Close()
	for {
		switch name, data, err := s.event(); {
		case errors.Is(err, io.EOF):
			s.end <- nil
			return
		case err != nil:
			s.end <- err
			return
		case name == "":
			s.comments <- data
		case name == "message":
			s.out <- data
		default:
			s.end <- fmt.Errorf("the event %q", name)
			return
		}
	}
}

// post sends one message and returns the status of the answer.
func (s *sseStream) post(message string) int {
	s.t.Helper()
	resp, _ := s.do(http.MethodPost, s.endpoint, strings.NewReader(message))
	return resp.StatusCode
}

func (s *sseStream) send(messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		if got, want := s.post(m), http.StatusAccepted; got != want {
			s.t.Fatalf("%.200q was answered with %d, want %d", m, got, want)
		}
	}
}

func (s *sseStream) receive() reply {
	s.t.Helper()
	data, ok := <-s.out
	if !ok {
		s.t.Fatalf("the stream ended (%v), want a message", <-s.end)
	}
	return parse(s.t, data)
}

// cut has the client go away.
func (s *sseStream) cut() {
	s.cancel()
	for range s.out {
	}
}

// sync waits until all that came before on the stream has been received, and
// returns it.
func (s *sseStream) sync() []string {
	s.t.Helper()
	s.send(call(`"sync"`, "echo", `{"text":"hi"}`))
	var got []string
	for {
		r := s.receive().String()
		if r == `"sync": hi` {
			return got
		}
		got = append(got, r)
	}
}
