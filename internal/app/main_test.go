package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// asProgram in the environment makes the test binary the program itself.
const asProgram = "SLICERVM_MCP_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	sandbox.RunIfInit()
	if os.Getenv(asProgram) != "" {
		os.Exit(app.Main(app.Process{
			Args:   os.Args[1:],
			Getenv: os.Getenv,
			Stdin:  os.Stdin,
			Stdout: os.Stdout,
			Stderr: os.Stderr,
		}))
	}
	os.Exit(m.Run())
}

const (
	initialize  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}` + "\n"
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"
	hello       = initialize + initialized
	listVMs     = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list_vms"}}` + "\n"
	nowhere     = "http://127.0.0.1:1" // nothing listens there
)

// world is what a run of the program finds.
type world struct {
	root, home, dir string
	env             map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir, whose names are too long for sockets.
	top, err := os.MkdirTemp("", "app")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	w := &world{
		root: filepath.Join(top, "root"),
		home: filepath.Join(top, "home"),
		dir:  filepath.Join(top, "home", "project"),
		env:  map[string]string{},
	}
	w.env["HOME"] = w.home
	for _, dir := range []string{w.root, w.dir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// result is how a run ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program on an input that ends.
func (w *world) run(input string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := app.Main(app.Process{
		Args:   args,
		Getenv: func(name string) string { return w.env[name] },
		Stdin:  strings.NewReader(input),
		Stdout: &stdout,
		Stderr: &stderr,
		Dir:    w.dir,
		Root:   w.root,
	})
	return result{code, stdout.String(), stderr.String()}
}

// reply is an answer of the server.
type reply struct {
	ID     int
	Result struct {
		ServerInfo struct {
			Name, Title, Version, WebsiteURL string
			Icons                            []struct{ Src, MIMEType string }
		}
		Instructions string
		Tools        []struct{ Name string }
		Content      []struct{ Text string }
		IsError      bool
	}
	Error *struct{ Message string }
}

// replies parses what the program wrote, by id. Anything else on standard
// output fails the test.
func replies(t *testing.T, stdout string) map[int]reply {
	t.Helper()
	got := map[int]reply{}
	for line := range strings.Lines(stdout) {
		var r reply
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("standard output has %q, want JSON only: %v", line, err)
		}
		got[r.ID] = r
	}
	return got
}

// fakeDaemon answers as a Slicer daemon without VMs, and remembers the
// Authorization of the requests.
type fakeDaemon struct {
	mu   sync.Mutex
	auth map[string]bool
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.auth[r.Header.Get("Authorization")] = true
	d.mu.Unlock()
	if r.URL.Path == "/info" {
		fmt.Fprint(w, `{"version":"fake","platform":"linux","arch":"amd64"}`)
		return
	}
	fmt.Fprint(w, `[]`)
}

// asked reports whether there were requests, all with this Authorization.
func (d *fakeDaemon) asked(auth string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.auth) == 1 && d.auth[auth]
}

func newFake() *fakeDaemon { return &fakeDaemon{auth: map[string]bool{}} }

// serveFake serves h on network and address until the test ends. It returns
// the address.
func serveFake(t *testing.T, network, address string, h http.Handler) string {
	t.Helper()
	if network == "unix" {
		if err := os.MkdirAll(filepath.Dir(address), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done //nolint:errcheck // ErrServerClosed
	})
	return l.Addr().String()
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logged returns the attribute of the record that says what is served.
func logged(t *testing.T, r result, name string) string {
	t.Helper()
	m := regexp.MustCompile(name + `=("[^"]*"|\S+)`).FindStringSubmatch(r.stderr)
	if m == nil {
		t.Fatalf("the log has no %s:\n%s", name, r.stderr)
	}
	return strings.Trim(m[1], `"`)
}
