package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDaemonHelp(t *testing.T) {
	got := newWorld(t).run("", "daemon", "--help")
	if got.code != 0 || got.stderr != "" {
		t.Errorf("daemon --help = %+v, want exit 0 and nothing on standard error", got)
	}
	for _, want := range []string{
		"--listen", "--token-file", "--state-dir", "--groups", "--group", "--net", "--legacy-frames", "--log-level",
		"SLICER_TOKEN", "default api.sock in the state folder", "not a hypervisor",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("daemon --help says nothing of %s:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(strings.ReplaceAll(got.stdout, "--token-file", ""), "--token") {
		t.Errorf("daemon --help has a flag for the token, which a process list would show:\n%s", got.stdout)
	}
	if lines := strings.Count(got.stdout, "\n"); lines > 40 {
		t.Errorf("daemon --help prints %d lines, want 40 at most", lines)
	}
}

func TestDaemonMistakesOnTheCommandLine(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"an unknown flag", []string{"--no-such"}, "unknown flag: --no-such"},
		{"an unknown argument", []string{"no-such"}, `unknown argument "no-such"`},
		{"a token as a flag", []string{"--token", "x"}, "unknown flag: --token"},
		{"an unknown log level", []string{"--log-level", "loud"}, `--log-level is debug, info, warn or error, not "loud"`},
		{"an unknown network", []string{"--net", "bridge"}, `--net is isolated or host, not "bridge"`},
		{"an address without a port", []string{"--listen", "127.0.0.1"}, "--listen is host:port"},
		{"a URL", []string{"--listen", "http://127.0.0.1:80"}, "--listen is host:port"},
		{"a socket without a path", []string{"--listen", "unix://"}, "write unix:///path/to/api.sock"},
		{"a folder for a socket", []string{"--listen", "unix:///tmp/"}, "write unix:///path/to/api.sock"},
		{"every address without a token", []string{"--listen", ":8080"}, "add --token-file"},
		{"another machine's reach without a token", []string{"--listen", "0.0.0.0:0"}, "add --token-file"},
		{"another machine's reach over IPv6", []string{"--listen", "[::]:0"}, "add --token-file"},
		{"a name that need not be this machine's", []string{"--listen", "example.com:80"}, "add --token-file"},
		{"a group without =", []string{"--group", "sbox"}, "write name=sbox,cpus=2,ram=4GiB,count=0"},
		{"a group without a name", []string{"--group", "cpus=2"}, "needs a name"},
		{"an unknown key of a group", []string{"--group", "name=a,cores=2"}, `unknown key "cores"; a host group has name, count, cpus and ram`},
		{"a key twice", []string{"--group", "name=a,cpus=1,cpus=2"}, "cpus is there twice"},
		{"a size twice", []string{"--group", "name=a,ram=1GiB,ram_bytes=1073741824"}, "ram is there twice"},
		{"no CPU", []string{"--group", "name=a,cpus=0"}, `cpus is a whole number from 1 to 1024, not "0"`},
		{"a size of no unit that is known", []string{"--group", "name=a,ram=4GB"}, "written like 4GiB"},
		{"a size without digits", []string{"--group", "name=a,ram=GiB"}, "written like 4GiB"},
		{"a size below zero", []string{"--group", "name=a,ram=-1GiB"}, "written like 4GiB"},
		{"a size that no number holds", []string{"--group", "name=a,ram=9999999TiB"}, "written like 4GiB"},
		{"a size that no guest starts in", []string{"--group", "name=a,ram=1MiB"}, "64MiB is the least"},
		{"a count below zero", []string{"--group", "name=a,count=-1"}, "count is a whole number, 0 or more"},
		{"a count beyond the addresses", []string{"--group", "name=a,count=1000"}, "is the most"},
		{"a group's name that no VM could have", []string{"--group", "name=A_1"}, "lower-case letters"},
		{"a group twice", []string{"--group", "name=a", "--group", "name=a"}, `host group "a" is there twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newWorld(t).run("", append([]string{"daemon"}, tt.args...)...)
			const next = " (see slicervm-mcp daemon --help)\n"
			if got.code != 2 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) || !strings.HasSuffix(got.stderr, next) {
				t.Errorf("daemon %q = %+v, want exit 2, nothing on standard output, and one line with %q that ends with %q", tt.args, got, tt.want, next)
			}
		})
	}
}

func TestEmbeddedFlagsNeedEmbedded(t *testing.T) {
	for _, args := range [][]string{{"--embedded-net", "host"}, {"--groups", "x"}, {"--group", "name=x"}} {
		got := newWorld(t).run(hello, append(args, "--url", nowhere)...)
		if want := args[0] + " needs --embedded"; got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("%q = %+v, want exit 2 and %q", args, got, want)
		}
	}
	got := newWorld(t).run(hello, "--embedded", "--embedded-net", "bridge")
	if want := `--embedded-net is isolated or host, not "bridge"`; got.code != 2 || !strings.Contains(got.stderr, want) {
		t.Errorf("--embedded-net bridge = %+v, want exit 2 and %q", got, want)
	}
}

// startDaemon starts the daemon command and returns the address that it
// prints.
func (w *world) startDaemon(t *testing.T, args ...string) (p *program, url string) {
	t.Helper()
	requireSandbox(t)
	p = w.start(t, append([]string{"daemon"}, args...)...)
	return p, p.address(t)
}

// end ends the program with SIGTERM. Anything but exit 0, and more text on
// standard output, fails the test.
func (p *program) end(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.stdout)
	if err != nil || len(rest) > 0 {
		t.Errorf("after its address the program prints %q, %v, want nothing", rest, err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
}

// call is a request to a daemon at an address as it prints it. It returns the
// answer's status and body.
func call(t *testing.T, url, path string, edit func(*http.Request)) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if socket, ok := strings.CutPrefix(url, "unix://"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
		url = "http://localhost"
	}
	return fetch(t, &http.Client{Transport: transport, Timeout: 30 * time.Second}, url+path, edit)
}

// fetch is the answer to a GET, its status and body.
func fetch(t *testing.T, c *http.Client, url string, edit func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func TestDaemonServes(t *testing.T) {
	tests := []struct {
		name   string
		args   func(w *world) []string
		prefix func(w *world) string // of the address
	}{
		{
			"a port of its own choice", func(*world) []string { return []string{"--listen", "127.0.0.1:0"} },
			func(*world) string { return "http://127.0.0.1:" },
		},
		{
			"the machine under its name", func(*world) []string { return []string{"--listen", "localhost:0"} },
			func(*world) string { return "http://127.0.0.1:" },
		},
		{
			"a socket as a URL", func(w *world) []string { return []string{"--listen", "unix://" + w.root + "/x.sock"} },
			func(w *world) string { return "unix://" + w.root + "/x.sock" },
		},
		{
			"a socket as a path", func(w *world) []string { return []string{"--listen", w.root + "/x.sock"} },
			func(w *world) string { return "unix://" + w.root + "/x.sock" },
		},
		{
			"a socket of the working folder", func(*world) []string { return []string{"--listen", "x.sock"} },
			func(w *world) string { return "unix://" + w.dir + "/x.sock" },
		},
		{
			"a socket in the state folder, by default", func(*world) []string { return nil },
			func(w *world) string { return "unix://" + w.root + "/state/api.sock" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			state := filepath.Join(w.root, "state")
			p, url := w.startDaemon(t, append(tt.args(w), "--state-dir", state)...)
			if !strings.HasPrefix(url, tt.prefix(w)) {
				t.Errorf("the address is %q, want %q", url, tt.prefix(w))
			}
			if status, body := call(t, url, "/info", nil); status != http.StatusOK || !strings.Contains(body, `"platform":"linux"`) {
				t.Errorf("GET /info = %d %s, want 200", status, body)
			}
			socket, isSocket := strings.CutPrefix(url, "unix://")
			if isSocket {
				if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the socket is %v (%v), want -rw-------", info.Mode(), err)
				}
			}
			p.end(t)
			if _, err := os.Lstat(socket); isSocket && err == nil {
				t.Errorf("the socket %s is left", socket)
			}
			isEmptyDir(t, w.root)
			isEmptyDir(t, w.dir)
		})
	}
}

// A page of a site that points its name at this machine is no foreign site to
// the browser; the name tells it.
func TestDaemonWithoutATokenWantsThisMachinesNames(t *testing.T) {
	w := newWorld(t)
	p, url := w.startDaemon(t, "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(w.root, "state"))
	port := url[strings.LastIndexByte(url, ':'):]
	for host, want := range map[string]int{
		"127.0.0.1" + port: http.StatusOK, "localhost" + port: http.StatusOK, "LOCALHOST": http.StatusOK, "[::1]" + port: http.StatusOK, "[::1]": http.StatusOK,
		"evil.example" + port: http.StatusForbidden, "localhost.evil.example" + port: http.StatusForbidden, "192.0.2.1" + port: http.StatusForbidden,
	} {
		if status, body := call(t, url, "/nodes", func(r *http.Request) { r.Host = host }); status != want {
			t.Errorf("GET /nodes with Host %s = %d %s, want %d", host, status, body, want)
		}
	}
	status, body := call(t, url, "/nodes", func(r *http.Request) {
		r.Method = http.MethodPost
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	})
	if status != http.StatusForbidden {
		t.Errorf("a POST of another site's page = %d %s, want 403", status, body)
	}
	p.end(t)
	if got := p.stderr.String(); !strings.Contains(got, "no token is asked for") {
		t.Errorf("the log is %q, want a warning that no token is asked for", got)
	}
}

func TestDaemonHostGroups(t *testing.T) {
	w := newWorld(t)
	write(t, filepath.Join(w.dir, "groups.yaml"), "groups:\n- name: one\n  cpus: 1\n  ram: 512MiB\n  count: 1\n")
	p, url := w.startDaemon(t, "--groups", "groups.yaml", "--group", "name=two,cpus=2,ram=1GiB", "--net", "host",
		"--listen", "127.0.0.1:0", "--state-dir", filepath.Join(w.root, "state"))
	_, body := call(t, url, "/hostgroup", nil)
	var groups []struct {
		Name     string
		Count    int
		CPUs     int
		RAMBytes int64 `json:"ram_bytes"`
	}
	if err := json.Unmarshal([]byte(body), &groups); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(groups), fmt.Sprintf("[{one 1 1 %d} {two 0 2 %d}]", 512<<20, 1<<30); got != want {
		t.Errorf("GET /hostgroup = %s, want %s", got, want)
	}
	if status, body := call(t, url, "/vm/one-1", nil); status != http.StatusOK ||
		!strings.Contains(body, `"mode":"host"`) || !strings.Contains(body, `"image":"host`) {
		t.Errorf("GET /vm/one-1 = %d %s, want the machine's network and image", status, body)
	}
	p.end(t)
	if got := p.stderr.String(); !strings.Contains(got, "VMs share this machine's network") {
		t.Errorf("the log is %q, want a warning of the shared network", got)
	}
	if got := p.stderr.String(); strings.Contains(got, "VMs' root is this machine's root") != (os.Geteuid() == 0) {
		t.Errorf("the log is %q, want a warning of the VMs' root where this is root, and none elsewhere", got)
	}
}
