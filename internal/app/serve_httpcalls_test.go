package app_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestHTTPReadyWhenTheDaemonAnswers(t *testing.T) {
	daemon := slicertest.NewServer(t)
	daemon.Fault("GET /info", slicertest.Fault{Status: http.StatusInternalServerError, Body: "hunter2"})
	p, url := newWorld(t).serveHTTP(t, "--url", daemon.URL)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if status, body := get(t, url, path, "", ""); status != want || strings.Contains(body, "hunter2") {
			t.Errorf("with a daemon that doesn't answer, GET %s = %d %q, want %d without the daemon's words", path, status, body, want)
		}
	}
	p.end(t)

	p, url = newWorld(t).serveHTTP(t, "--url", slicertest.NewServer(t).URL)
	if status, body := get(t, url, "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("with a daemon, GET /readyz = %d %q, want 200", status, body)
	}
	p.end(t)

	p, url = newWorld(t).serveHTTP(t, "--url", nowhere)
	if status, body := get(t, url, "/readyz", "", ""); status != http.StatusServiceUnavailable {
		t.Errorf("without a daemon, GET /readyz = %d %q, want 503", status, body)
	}
	if _, body := get(t, url, "/metrics", "", ""); strings.Contains(body, "\nslicervm_mcp_vms_owned ") {
		t.Errorf("without a daemon the metrics count VMs:\n%s", body)
	}
	p.end(t)
}

func TestHTTPMetrics(t *testing.T) {
	daemon := slicertest.NewServer(t)
	p, url := newWorld(t).serveHTTP(t, "--url", daemon.URL)
	c := connectHTTP(t, url, "", "")
	must(t, c, "create_vm", map[string]any{"name": "web"})
	must(t, c, "create_vm", map[string]any{"name": "db"})
	if text, failed := ask(t, c, "get_vm", map[string]any{"vm": "nobody"}); !failed {
		t.Errorf("get_vm of nobody = %q, want an error", text)
	}
	var req mcp.CallToolRequest
	req.Params.Name = "no_such_tool"
	if res, err := c.CallTool(t.Context(), req); err == nil && !res.IsError {
		t.Errorf("no_such_tool = %+v, want an error", res)
	}
	_, body := get(t, url, "/metrics", "", "")
	var got []string
	for _, line := range regexp.MustCompile(`(?m)^slicervm_mcp_(tool_calls_total|vms|sessions|tool_call_duration_seconds_count).*$`).FindAllString(body, -1) {
		if !strings.HasSuffix(line, " 0") {
			got = append(got, line)
		}
	}
	want := []string{
		"slicervm_mcp_sessions 1",
		`slicervm_mcp_tool_call_duration_seconds_count{tool="create_vm"} 2`,
		`slicervm_mcp_tool_call_duration_seconds_count{tool="get_vm"} 1`,
		`slicervm_mcp_tool_calls_total{outcome="error",tool="get_vm"} 1`,
		`slicervm_mcp_tool_calls_total{outcome="error",tool="unknown"} 1`,
		`slicervm_mcp_tool_calls_total{outcome="ok",tool="create_vm"} 2`,
		"slicervm_mcp_vms_owned 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	p.end(t)
}

// only is a shell in which command runs program, and everything else ends well.
func only(command string, program slicertest.Program) func(context.Context, *slicertest.Proc, string) int {
	return func(ctx context.Context, p *slicertest.Proc, _ string) int {
		if p.Args[len(p.Args)-1] != command {
			return 0
		}
		return program(ctx, p)
	}
}

// waits is a program that says that it runs and ends when it is told to.
func waits(started, finish chan struct{}) slicertest.Program {
	return func(ctx context.Context, p *slicertest.Proc) int {
		close(started)
		select {
		case <-finish:
			fmt.Fprintln(p.Stdout, "finished")
			return 0
		case <-ctx.Done():
			return 1
		}
	}
}

func TestHTTPSignalLetsCallsFinish(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	daemon := slicertest.NewServer(t, slicertest.Options{Shell: only("waits", waits(started, finish))})
	p, url := newWorld(t).serveHTTP(t, "--url", daemon.URL)
	c := connectHTTP(t, url, "", "")
	must(t, c, "create_vm", nil)
	answer := make(chan string, 1)
	go func() {
		var req mcp.CallToolRequest
		req.Params.Name, req.Params.Arguments = "exec", map[string]any{"command": "waits", "yield_seconds": 10}
		res, err := c.CallTool(context.WithoutCancel(t.Context()), req)
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- fmt.Sprintf("%+v", res.Content)
	}()
	<-started
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp")
	silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	refused(t, address)
	close(finish)
	finished := time.Now()
	if got := <-answer; !strings.Contains(got, "finished") {
		t.Errorf("the call that ran is answered with %s, want its output", got)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
	if took := time.Since(finished); took > 4*time.Second {
		t.Errorf("the program ended %v after its last call, want it not to wait for a connection without a request", took)
	}
}

func TestHTTPSignalTellsHandles(t *testing.T) {
	t.Parallel() // the call has some seconds
	started, finish := make(chan struct{}), make(chan struct{})
	defer close(finish)
	daemon := slicertest.NewServer(t, slicertest.Options{Shell: only("waits", waits(started, finish))})
	p, url := newWorld(t).serveHTTP(t, "--url", daemon.URL)
	c := connectHTTP(t, url, "", "")
	must(t, c, "create_vm", nil)
	answer := make(chan string, 1)
	go func() {
		text, _ := ask(t, c, "exec", map[string]any{"command": "waits"})
		answer <- text
	}()
	<-started
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.HasPrefix(got, "still running (process ex_") || !strings.Contains(got, "Next: read_process(") {
		t.Errorf("the call that waited is answered with %q, want the handle and the next call", got)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
}

// refused returns once nobody can connect to address any more.
func refused(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return
		}
		conn.Close()
	}
	t.Fatalf("%s takes connections 10 s after SIGTERM, want none", address)
}

// echoes is a program that prints a text of the test's own, as it is and in base64.
func echoes(text string) slicertest.Program {
	return func(_ context.Context, p *slicertest.Proc) int {
		fmt.Fprintln(p.Stdout, text, base64.StdEncoding.EncodeToString([]byte(text)))
		return 0
	}
}

func TestHTTPTokensStayInside(t *testing.T) {
	const daemonsToken = "daemons-0123456789"
	daemon := slicertest.NewServer(t, slicertest.Options{
		Token: daemonsToken,
		Shell: only("tell", echoes(callersToken+" "+daemonsToken)),
	})
	daemon.Fault("GET /info", slicertest.Fault{Status: http.StatusInternalServerError, Body: "a fault for " + callersToken})
	w := newWorld(t)
	w.env["SLICERVM_MCP_TOKEN"], w.env["SLICER_TOKEN"] = callersToken, daemonsToken
	p, url := w.serveHTTP(t, "--url", daemon.URL, "--log-level", "debug")
	c := connectHTTP(t, url, callersToken, "")
	must(t, c, "create_vm", map[string]any{"name": "web"})
	shown := must(t, c, "exec", map[string]any{"command": "tell"})
	if !strings.Contains(shown, "[redacted secret SLICERVM_MCP_TOKEN] [redacted secret SLICER_TOKEN]") {
		t.Errorf("a command that prints the tokens is answered with %q, want them redacted", shown)
	}
	for _, path := range []string{"/metrics", "/readyz"} {
		_, body := get(t, url, path, callersToken, "")
		shown += body
	}
	for _, edit := range []func(*http.Request){
		bearer(callersToken + "x"),
		bearer(daemonsToken),
		func(r *http.Request) { r.SetBasicAuth("me", callersToken) },
		func(r *http.Request) { r.URL.RawQuery = "access_token=" + callersToken },
		func(r *http.Request) { r.URL.Path += "/" + callersToken },
		func(r *http.Request) { r.Header.Set("Mcp-Session-Id", callersToken) },
	} {
		status, body := fetch(t, through(t, url, ""), url, edit)
		if status != http.StatusUnauthorized {
			t.Errorf("a request without the token as it should be = %d %q, want 401", status, body)
		}
		shown += body
	}
	// With the token, what a client sends may not reach the log either.
	_, body := fetch(t, through(t, url, ""), url, func(r *http.Request) {
		bearer(callersToken)(r)
		r.Header.Set("Origin", "http://"+callersToken)
	})
	shown += body
	p.end(t)

	for _, req := range daemon.Requests() {
		shown += fmt.Sprintln(req.Path, req.Query, req.Header)
	}
	shown += p.stderr.String()
	if !strings.Contains(p.stderr.String(), "a fault for [redacted secret SLICERVM_MCP_TOKEN]") {
		t.Errorf("the log has no redacted fault of the daemon:\n%s", p.stderr.String())
	}
	for _, token := range []string{callersToken, daemonsToken} {
		for what, form := range map[string]string{"as it is": token, "in base64": base64.RawStdEncoding.EncodeToString([]byte(token))[:20]} {
			if at := strings.Index(shown, form); at >= 0 {
				t.Errorf("%s %s came out: …%s", token, what, shown[max(0, at-200):at+40])
			}
		}
	}
}

func TestHTTPAllowsNoFolderByDefault(t *testing.T) {
	w := newWorld(t)
	write(t, w.dir+"/f", "text")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"the working folder isn't allowed", nil, "[]"},
		{"one that is named is", []string{"--root", "."}, "[" + w.dir + "]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := w.serveHTTP(t, append(tt.args, "--url", nowhere)...)
			p.end(t)
			if got := logged(t, result{stderr: p.stderr.String()}, "roots"); got != tt.want {
				t.Errorf("%q allows %s, want %s", tt.args, got, tt.want)
			}
		})
	}
}

func TestHTTPOwnerIsThatOfTheProject(t *testing.T) {
	w := newWorld(t)
	p, _ := w.serveHTTP(t, "--url", nowhere)
	p.end(t)
	over := logged(t, result{stderr: p.stderr.String()}, "owner")
	if want := logged(t, w.run(hello, "--url", nowhere), "owner"); over != want {
		t.Errorf("over HTTP the owner is %q, want %q as on standard input", over, want)
	}
}

func TestHTTPAddressThatIsTaken(t *testing.T) {
	address := serveFake(t, "tcp", "127.0.0.1:0", newFake())
	got := newWorld(t).run("", "--transport", "http", "--url", nowhere, "--log-level", "error", "--listen", address)
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--listen: ") {
		t.Errorf("on an address that is taken: %+v, want exit 1, nothing on standard output, and one line that names --listen", got)
	}
}
