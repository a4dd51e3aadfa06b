package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
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
		ServerInfo   struct{ Name, Title, Version, WebsiteURL string }
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

func newFake() *fakeDaemon { return &fakeDaemon{auth: map[string]bool{}} }

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVersion(t *testing.T) {
	want := regexp.MustCompile(`^slicervm-mcp \S+ \(go1\S+, ` + runtime.GOOS + `/` + runtime.GOARCH + `\)\n$`)
	for _, arg := range []string{"version", "--version", "-v"} {
		got := newWorld(t).run("", arg)
		if got.code != 0 || !want.MatchString(got.stdout) || got.stderr != "" {
			t.Errorf("%s = %+v, want exit 0 and %v", arg, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"serve", "--help"}} {
		got := newWorld(t).run("", args...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%q = %+v, want exit 0 and nothing on standard error", args, got)
		}
		for _, want := range []string{"--url", "--embedded", "--root", "--owner", "--state-dir", "--log-level", "SLICER_URL", "--embedded-net", "--groups", "--group "} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%q says nothing of %s:\n%s", args, want, got.stdout)
			}
		}
		if strings.Contains(got.stdout, "--token") {
			t.Errorf("%q has a flag for the token, which a process list would show:\n%s", args, got.stdout)
		}
		if lines := strings.Count(got.stdout, "\n"); lines > 50 {
			t.Errorf("%q prints %d lines, want 50 at most", args, lines)
		}
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"an unknown flag", []string{"--no-such"}, "unknown flag: --no-such"},
		{"an unknown flag of serve", []string{"serve", "--no-such"}, "unknown flag: --no-such"},
		{"an unknown argument", []string{"no-such"}, `unknown argument "no-such"`},
		{"an unknown argument of serve", []string{"serve", "no-such"}, `unknown argument "no-such"`},
		{"an unknown argument of version", []string{"version", "no-such"}, `unknown argument "no-such"`},
		{"line breaks in an argument stay out of the log", []string{"a\nb\x1b[31m"}, `unknown argument "a\nb\x1b[31m"`},
		{"a flag without its value", []string{"--url"}, "flag needs an argument: --url"},
		{"two daemons", []string{"--embedded", "--url", nowhere}, "use one of them"},
		{"an unknown log level", []string{"--url", nowhere, "--log-level", "loud"}, `--log-level is debug, info, warn or error, not "loud"`},
		{"an empty root", []string{"--url", nowhere, "--root", ""}, "--root wants a folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newWorld(t).run(hello, tt.args...)
			if got.code != 2 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%q = %+v, want exit 2, nothing on standard output, and one line with %q", tt.args, got, tt.want)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	got := newWorld(t).run(hello)
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("without a daemon: %+v, want exit 1, nothing on standard output, one line on standard error", got)
	}
	for _, way := range []string{"start Slicer", "SLICER_URL", "--embedded"} {
		if !strings.Contains(got.stderr, way) {
			t.Errorf("without a daemon the error is %q, want it to name %q", got.stderr, way)
		}
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	w := newWorld(t)
	empty := filepath.Join(w.home, "empty")
	write(t, empty, " \n")
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"a URL of another scheme", nil, []string{"--url", "ftp://user:hunter2@host"}, "--url is neither an address"},
		{"a URL without a scheme", map[string]string{"SLICER_URL": "localhost:8080"}, nil, "SLICER_URL is neither an address"},
		{"a token file that isn't there", map[string]string{"SLICER_TOKEN_FILE": "~/none"}, []string{"--url", nowhere}, "SLICER_TOKEN_FILE"},
		{"a token file that is empty", map[string]string{"SLICER_TOKEN_FILE": empty}, []string{"--url", nowhere}, "is empty"},
		{"a root that isn't there", nil, []string{"--url", nowhere, "--root", filepath.Join(w.home, "none")}, "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{root: w.root, home: w.home, dir: w.dir, env: map[string]string{"HOME": w.home}}
			for name, value := range tt.env {
				w.env[name] = value
			}
			got := w.run(hello, tt.args...)
			if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%v %q = %+v, want exit 1, nothing on standard output, and one line with %q", tt.env, tt.args, got, tt.want)
			}
			if strings.Contains(got.stderr, "hunter2") {
				t.Errorf("the error %q tells a password", got.stderr)
			}
		})
	}
}

func TestServesWithoutItsDaemon(t *testing.T) {
	got := newWorld(t).run(hello+listVMs+`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, "--url", "http://user:hunter2@127.0.0.1:1")
	if got.code != 0 {
		t.Fatalf("with an unreachable daemon: %+v, want exit 0", got)
	}
	answers := replies(t, got.stdout)
	if got, want := answers[1].Result.ServerInfo.Name, "slicervm-mcp"; got != want {
		t.Errorf("initialize says the name is %q, want %q", got, want)
	}
	if !answers[2].Result.IsError || len(answers[2].Result.Content) == 0 {
		t.Errorf("list_vms = %+v, want a tool error", answers[2])
	}
	if got, want := len(answers[3].Result.Tools), len(tools.Catalogue()); got != want {
		t.Errorf("tools/list has %d tools, want %d", got, want)
	}
	if strings.Contains(got.stderr+got.stdout, "hunter2") {
		t.Errorf("the password in the URL came out: %+v", got)
	}
}

func TestFindsTheDaemon(t *testing.T) {
	const token = "s3cret-token"
	tests := []struct {
		name  string
		setup func(t *testing.T, w *world, d http.Handler) (args []string)
		auth  string // what the daemon is asked with
	}{
		{"by --url", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = nowhere
			return []string{"--url", "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)}
		}, ""},
		{"by --url after serve", func(t *testing.T, _ *world, d http.Handler) []string {
			return []string{"serve", "--url", "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)}
		}, ""},
		{"by SLICER_URL", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN"] = token
			return nil
		}, "Bearer " + token},
		{"by SLICER_URL of a socket", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "unix://" + serveFake(t, "unix", filepath.Join(w.home, "x.sock"), d)
			return nil
		}, ""},
		{"with the token of a file", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN_FILE"] = "~/auth/token"
			write(t, filepath.Join(w.home, "auth", "token"), token+"\n")
			return nil
		}, "Bearer " + token},
		{"with SLICER_TOKEN rather than the file's", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN"] = token
			w.env["SLICER_TOKEN_FILE"] = "~/none"
			return nil
		}, "Bearer " + token},
		{"at the system's socket, with its token", func(t *testing.T, w *world, d http.Handler) []string {
			serveFake(t, "unix", filepath.Join(w.root, "var/run/slicer/api.sock"), d)
			write(t, filepath.Join(w.root, "var/lib/slicer/auth/token"), token)
			return nil
		}, "Bearer " + token},
		{"at the system's socket, with the user's token", func(t *testing.T, w *world, d http.Handler) []string {
			serveFake(t, "unix", filepath.Join(w.root, "var/run/slicer/api.sock"), d)
			write(t, filepath.Join(w.root, "var/lib/slicer/auth/token"), "another")
			w.env["SLICER_TOKEN"] = token
			return nil
		}, "Bearer " + token},
		{"at the Mac's socket", func(t *testing.T, w *world, d http.Handler) []string {
			write(t, filepath.Join(w.root, "var/run/slicer/api.sock"), "a file, no socket")
			serveFake(t, "unix", filepath.Join(w.home, "slicer-mac/slicer.sock"), d)
			return nil
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, d := newWorld(t), newFake()
			args := append(tt.setup(t, w, d), "--log-level", "debug")
			got := w.run(hello+listVMs, args...)
			if r := replies(t, got.stdout)[2]; got.code != 0 || len(r.Result.Content) == 0 || r.Result.IsError {
				t.Errorf("list_vms = %+v (%+v), want a result", r, got)
			}
			if !d.asked(tt.auth) {
				t.Errorf("the daemon was asked with %v, want %q", d.auth, tt.auth)
			}
			if strings.Contains(got.stderr+got.stdout, token) {
				t.Errorf("the token came out: %+v", got)
			}
		})
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

func TestRoots(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name string
		dir  string
		args []string
		want string
	}{
		{"the working folder", w.dir, nil, "[" + w.dir + "]"},
		{"none in the home folder", w.home, nil, "[]"},
		{"none above the home folder", filepath.Dir(w.home), nil, "[]"},
		{"none at the top", filepath.VolumeName(w.dir) + string(filepath.Separator), nil, "[]"},
		{"the one that is named", w.home, []string{"--root", w.home}, "[" + w.home + "]"},
		{"relative to the working folder", w.home, []string{"--root", "project"}, "[" + w.dir + "]"},
		{"several", w.dir, []string{"--root", ".", "--root", w.root}, "[" + w.dir + " " + w.root + "]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{root: w.root, home: w.home, dir: tt.dir, env: w.env}
			got := w.run(hello, append(tt.args, "--url", nowhere)...)
			if roots := logged(t, got, "roots"); got.code != 0 || roots != tt.want {
				t.Errorf("in %s, %q allows %s, want %s", tt.dir, tt.args, roots, tt.want)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	w := newWorld(t)
	owner := func(args ...string) string {
		return logged(t, w.run(hello, append(args, "--url", nowhere)...), "owner")
	}
	first := owner()
	if again := owner(); first == "" || again != first {
		t.Errorf("the owner is %q and then %q, want the same", first, again)
	}
	if strings.Contains(first, "project") {
		t.Errorf("the owner %q tells the folder's name", first)
	}
	if other := owner("--root", w.root); other == first {
		t.Errorf("the owner is %q for another project too", other)
	}
	if got := owner("--owner", "me"); got != "me" {
		t.Errorf("--owner me gives %q", got)
	}
}

func TestLogHasNoColourOffATerminal(t *testing.T) {
	got := newWorld(t).run(hello, "--url", nowhere)
	if got.stderr == "" || strings.Contains(got.stderr, "\x1b") {
		t.Errorf("the log is %q, want text without escape sequences", got.stderr)
	}
}

func TestInstructions(t *testing.T) {
	known := map[string]bool{}
	for _, tool := range tools.Catalogue() {
		known[tool.Name] = true
	}
	quoted := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(app.Instructions, -1)
	if len(quoted) == 0 {
		t.Error("the instructions name no tool")
	}
	for _, name := range quoted {
		if !known[name[1]] {
			t.Errorf("the instructions name %q, which is no tool", name[1])
		}
	}
	for _, word := range regexp.MustCompile(`[a-z]+(_[a-z]+)+`).FindAllString(app.Instructions, -1) {
		if !known[word] {
			t.Errorf("the instructions name %q, which is no tool", word)
		}
	}
	if first, _, _ := strings.Cut(app.Instructions, "\n"); len(first) > 250 {
		t.Errorf("the first paragraph has %d characters, want 250 at most", len(first))
	}
	if len(app.Instructions) > 2000 {
		t.Errorf("the instructions have %d characters, want 2,000 at most", len(app.Instructions))
	}
	got := replies(t, newWorld(t).run(hello, "--url", nowhere).stdout)[1].Result
	if got.Instructions != app.Instructions {
		t.Errorf("initialize says %q, want the instructions", got.Instructions)
	}
	info := got.ServerInfo
	if info.Title == "" || info.Version == "" || info.WebsiteURL == "" {
		t.Errorf("initialize says %+v, want a title, a version and a website", info)
	}
}

// lockedBuffer is a bytes.Buffer that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// program is the program in a process of its own.
type program struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr lockedBuffer
}

// start starts the program. It is killed when the test ends, or after a
// minute.
func (w *world) start(t *testing.T, args ...string) *program {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals and broken pipes are Unix's")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.CommandContext(ctx, exe, args...)}
	p.Dir = w.dir
	p.Env = append(os.Environ(), asProgram+"=1", "SLICER_URL=", "SLICER_TOKEN=", "SLICER_TOKEN_FILE=")
	for name, value := range w.env {
		p.Env = append(p.Env, name+"="+value)
	}
	p.Stderr = &p.stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.stdout, err = p.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends lines and returns the one that comes back, by its id.
func (p *program) ask(t *testing.T, lines string) map[int]reply {
	t.Helper()
	if _, err := io.WriteString(p.stdin, lines); err != nil {
		t.Fatalf("send %q: %v", lines, err)
	}
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\n")); {
		if _, err := io.ReadFull(p.stdout, b); err != nil {
			t.Fatalf("receive the answer to %q: %v; stderr:\n%s", lines, err, p.stderr.String())
		}
		got = append(got, b...)
	}
	return replies(t, string(got))
}

func TestSignalsEndItInOrder(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			p := newWorld(t).start(t, "--url", nowhere)
			p.ask(t, hello)
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Errorf("after %v the program ended with %v, want exit 0; stderr:\n%s", sig, err, p.stderr.String())
			}
		})
	}
}

// stalled is a daemon that never answers a list of VMs. It says when it has
// been asked.
type stalled struct{ asked chan struct{} }

func (d stalled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/info" {
		fmt.Fprint(w, `{"version":"fake"}`)
		return
	}
	if r.URL.Query().Has("tag") { // the server looks after its own VMs
		fmt.Fprint(w, `[]`)
		return
	}
	d.asked <- struct{}{}
	<-r.Context().Done()
}

func TestSignalCancelsRunningCalls(t *testing.T) {
	d := stalled{make(chan struct{}, 10)}
	p := newWorld(t).start(t, "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", d))
	p.ask(t, hello)
	if _, err := io.WriteString(p.stdin, listVMs); err != nil {
		t.Fatal(err)
	}
	<-d.asked
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := replies(t, string(rest))[2]; !ok || !r.Result.IsError {
		t.Errorf("the running call was answered with %q, want a tool error", rest)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
}

func TestClientThatDiesEndsIt(t *testing.T) {
	d := stalled{make(chan struct{}, 10)}
	p := newWorld(t).start(t, "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", d))
	p.ask(t, hello)
	if _, err := io.WriteString(p.stdin, listVMs); err != nil {
		t.Fatal(err)
	}
	<-d.asked
	start := time.Now()
	p.stdin.Close()
	p.stdout.Close()
	err := p.Wait()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the program outlived its client by %v, want 2 s at most", took)
	}
	if got, want := p.ProcessState.ExitCode(), 1; got != want {
		t.Errorf("the program ended with %v (%v), want %d; stderr:\n%s", got, err, want, p.stderr.String())
	}
}

func TestPipeOfManyLines(t *testing.T) {
	var in strings.Builder
	in.WriteString(hello)
	const n = 200
	for i := range n {
		fmt.Fprintf(&in, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"list_vms"}}`+"\n", i+2)
	}
	got := newWorld(t).run(strings.TrimSuffix(in.String(), "\n"), "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", newFake()))
	answered := 0
	for _, r := range replies(t, got.stdout) {
		if r.Error == nil && !r.Result.IsError {
			answered++
		}
	}
	if diff := cmp.Diff([]int{0, n + 1}, []int{got.code, answered}); diff != "" {
		t.Errorf("exit and answers (-want +got):\n%s\n%s", diff, got.stderr)
	}
}
