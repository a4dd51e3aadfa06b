package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// service is the daemon's API over a real sandbox, called with plain HTTP.
type service struct {
	t     testing.TB
	state string
	url   string
	http  *http.Client
	stop  func() // ends all of it; called again it does nothing
}

// newService starts a daemon, and ends it with the test.
func newService(t testing.TB) *service {
	t.Helper()
	h, state := openHypervisor(t)
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: h})
	if err != nil {
		t.Fatalf("daemon.New() = %v", err)
	}
	server := httptest.NewServer(d)
	s := &service{t: t, state: state, url: server.URL, http: server.Client()}
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
		s.http.CloseIdleConnections()
		server.Close()
		wantNoState(t, state)
	}
	t.Cleanup(s.stop)
	return s
}

// params makes a query of name, value, name, value, ….
func params(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return "?" + q.Encode()
}

// answered is an answer, read to its end.
type answered struct {
	status int
	body   string
	cut    bool // the answer broke off
}

// refused says that the answer has nothing of what was asked for, or broke off.
func (a answered) refused() bool { return a.status >= 400 || a.cut }

// maxAnswer is the most of an answer that is read.
const maxAnswer = 64 << 20

// try makes a call and returns what it met instead of failing the test, so
// that goroutines can use it.
func (s *service) try(ctx context.Context, method, path string, body io.Reader) (answered, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return answered{}, err
	}
	resp, err := s.http.Do(req)
	if errors.Is(err, io.EOF) {
		return answered{cut: true}, nil // before its first byte was sent
	}
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return answered{resp.StatusCode, string(text), err != nil}, nil
}

func (s *service) call(method, path string, body io.Reader) answered {
	s.t.Helper()
	got, err := s.try(s.t.Context(), method, path, body)
	if err != nil {
		s.t.Fatalf("%s %s = %v", method, path, err)
	}
	return got
}

// want makes a call that must be answered with status.
func (s *service) want(status int, method, path string, body io.Reader) string {
	s.t.Helper()
	got := s.call(method, path, body)
	if got.status != status || got.cut {
		s.t.Fatalf("%s %s = %d %.300q (cut %v), want %d", method, path, got.status, got.body, got.cut, status)
	}
	return got.body
}

// create makes a VM and returns its hostname.
func (s *service) create() string {
	s.t.Helper()
	return hostname(s.t, s.want(http.StatusCreated, "POST", "/hostgroup/sbox/nodes?wait=agent", strings.NewReader("{}")))
}

func hostname(t testing.TB, body string) string {
	t.Helper()
	var node struct {
		Hostname string `json:"hostname"`
	}
	if err := json.Unmarshal([]byte(body), &node); err != nil || node.Hostname == "" {
		t.Fatalf("create answered %q (%v), want a hostname", body, err)
	}
	return node.Hostname
}

// put copies data to a file of a VM that everybody may execute.
func (s *service) put(vm, name string, data []byte) {
	s.t.Helper()
	s.want(http.StatusOK, "POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary", "permissions", "0755", "uid", "0"), bytes.NewReader(data))
}

// ran is how a buffered exec ended.
type ran struct {
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
}

// exec runs a command to its end. extra is more of the query.
func (s *service) exec(vm, uid string, extra []string, argv ...string) ran {
	s.t.Helper()
	pairs := append([]string{"buffered", "true", "uid", uid, "cmd", argv[0]}, extra...)
	for _, arg := range argv[1:] {
		pairs = append(pairs, "args", arg)
	}
	var r ran
	body := s.want(http.StatusOK, "POST", "/vm/"+vm+"/exec"+params(pairs...), nil)
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		s.t.Fatalf("exec %q answered %q: %v", argv, body, err)
	}
	return r
}

// sh runs a shell script as root and returns what it printed.
func (s *service) sh(vm, script string) string {
	s.t.Helper()
	r := s.exec(vm, "0", nil, "/bin/sh", "-c", script)
	if r.ExitCode != 0 {
		s.t.Fatalf("%q = %d %q %q, want 0", script, r.ExitCode, r.Stderr, r.Error)
	}
	return r.Stdout
}

// uidMap names how the guests' ids are mapped: root, range or single.
func (s *service) uidMap(vm string) string {
	s.t.Helper()
	f := strings.Fields(s.sh(vm, "cat /proc/self/uid_map"))
	switch {
	case len(f) == 3 && f[2] == "1":
		return "single"
	case len(f) == 3 && f[1] == "0" && f[2] == "4294967295":
		return "root"
	}
	return "range"
}

// thisProgram is the test binary.
func thisProgram(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
