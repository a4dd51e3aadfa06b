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

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
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
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(p.stdout, b); err != nil {
			_ = p.Wait()
			t.Fatalf("daemon %q prints %q (%v), want its address; stderr:\n%s", args, line, err, p.stderr.String())
		}
		if b[0] == '\n' {
			return p, string(line)
		}
	}
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
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatalf("GET %s%s: %v", url, path, err)
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

func TestDaemonTokens(t *testing.T) {
	const secret = "env-s3cret"
	tests := []struct {
		name  string
		setup func(t *testing.T, w *world) (args []string)
		token func(t *testing.T, w *world) string
	}{
		{
			"a file that is made",
			func(_ *testing.T, w *world) []string { return []string{"--token-file", w.root + "/token"} },
			func(t *testing.T, w *world) string { return readFile(t, w.root+"/token") },
		},
		{
			"a file that is there",
			func(t *testing.T, w *world) []string {
				write(t, w.dir+"/token", "  mine \n")
				return []string{"--token-file", "token"}
			},
			func(*testing.T, *world) string { return "mine" },
		},
		{
			"the environment",
			func(_ *testing.T, w *world) []string { w.env["SLICER_TOKEN"] = secret; return nil },
			func(*testing.T, *world) string { return secret },
		},
		{
			"the file that the environment names",
			func(t *testing.T, w *world) []string {
				write(t, w.home+"/t", secret)
				w.env["SLICER_TOKEN_FILE"] = "~/t"
				return nil
			},
			func(*testing.T, *world) string { return secret },
		},
		{
			"the flag's file rather than the environment",
			func(t *testing.T, w *world) []string {
				write(t, w.root+"/token", "mine")
				w.env["SLICER_TOKEN"] = secret
				return []string{"--token-file", w.root + "/token"}
			},
			func(*testing.T, *world) string { return "mine" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			p, url := w.startDaemon(t, append(tt.setup(t, w), "--listen", "0.0.0.0:0", "--state-dir", filepath.Join(w.root, "state"))...)
			url = strings.Replace(strings.Replace(url, "[::]", "127.0.0.1", 1), "0.0.0.0", "127.0.0.1", 1)
			token := strings.TrimSpace(tt.token(t, w))
			if len(token) < 4 {
				t.Errorf("the token is %q, want a longer one", token)
			}
			if status, _ := call(t, url, "/info", nil); status != http.StatusUnauthorized {
				t.Errorf("GET /info without a token = %d, want 401", status)
			}
			if status, _ := call(t, url, "/info", bearer(token+"x")); status != http.StatusUnauthorized {
				t.Errorf("GET /info with a wrong token = %d, want 401", status)
			}
			if status, _ := call(t, url, "/info", bearer(token)); status != http.StatusOK {
				t.Errorf("GET /info with the token = %d, want 200", status)
			}
			p.end(t)
			if strings.Contains(p.stderr.String(), token) {
				t.Errorf("the log tells the token:\n%s", p.stderr.String())
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDaemonMakesATokenForItsUserAlone(t *testing.T) {
	w := newWorld(t)
	name := filepath.Join(w.root, "token")
	args := []string{"--token-file", name, "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(w.root, "state")}
	p, _ := w.startDaemon(t, args...)
	p.end(t)
	first := readFile(t, name)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 || len(strings.TrimSpace(first)) < 20 {
		t.Errorf("the token's file is %v with %d bytes (%v), want -rw------- and a long token", info.Mode(), len(first), err)
	}
	p, _ = w.startDaemon(t, args...)
	p.end(t)
	if readFile(t, name) != first {
		t.Error("the second start made another token, want the same")
	}
}

func TestDaemonTokenFilesThatCannotWork(t *testing.T) {
	w := newWorld(t)
	write(t, filepath.Join(w.root, "empty"), "\n")
	for _, name := range []string{filepath.Join(w.root, "empty"), filepath.Join(w.root, "none", "token"), w.root} {
		got := w.run("", "daemon", "--token-file", name)
		if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--token-file: ") {
			t.Errorf("--token-file %s = %+v, want exit 1 and one line", name, got)
		}
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

func TestDaemonReplacesADeadOnesSocket(t *testing.T) {
	w := newWorld(t)
	socket := filepath.Join(w.root, "x.sock")
	leaveStale(t, socket)
	p, url := w.startDaemon(t, "--listen", socket, "--state-dir", filepath.Join(w.root, "state"))
	if status, _ := call(t, url, "/info", nil); status != http.StatusOK {
		t.Errorf("GET /info = %d, want 200", status)
	}
	p.end(t)
	isEmptyDir(t, w.root)
}

// leaveStale leaves a socket that nobody serves.
func leaveStale(t *testing.T, socket string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestDaemonRefusesSocketsOfOthers(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	live := filepath.Join(w.root, "live.sock")
	serveFake(t, "unix", live, newFake())
	file := filepath.Join(w.root, "file.sock")
	write(t, file, "mine")
	link := filepath.Join(w.root, "link.sock")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(w.root, strings.Repeat("x", 120)+".sock")
	for _, tt := range []struct{ name, socket, want string }{
		{"one that is served", live, "another daemon serves " + live},
		{"a file", file, "is no socket"},
		{"a symlink", link, "is no socket"},
		{"a name that no socket has", long, "too long"},
		{"one in a folder that isn't there", filepath.Join(w.root, "none", "x.sock"), "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.run("", "daemon", "--listen", "unix://"+tt.socket, "--state-dir", filepath.Join(w.root, "state"))
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("daemon on %s = %+v, want exit 1 and %q", tt.socket, got, tt.want)
			}
		})
	}
	if status, _ := call(t, "unix://"+live, "/info", nil); status != http.StatusOK {
		t.Errorf("the living server answers %d, want 200", status)
	}
	if got := readFile(t, link); got != "mine" {
		t.Errorf("the file has %q, want it as it was", got)
	}
	entries, err := os.ReadDir(w.root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"file.sock", "link.sock", "live.sock"}, names); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestOneServerGetsADeadOnesSocket(t *testing.T) {
	w := newWorld(t)
	socket := filepath.Join(w.root, "x.sock")
	for range 30 {
		leaveStale(t, socket)
		const n = 6
		got := make(chan net.Listener, n)
		start := make(chan struct{})
		for range n {
			go func() {
				<-start
				l, err := app.ListenSocket(t.Context(), socket)
				if err != nil && !strings.Contains(err.Error(), "another daemon serves") {
					t.Errorf("ListenSocket() = %v, want that another daemon serves it", err)
				}
				got <- l
			}()
		}
		close(start)
		winners := 0
		var won net.Listener
		for range n {
			if l := <-got; l != nil {
				winners, won = winners+1, l
			}
		}
		if winners != 1 {
			t.Fatalf("%d servers got the socket, want one", winners)
		}
		for range 2 {
			if err := won.Close(); err != nil {
				t.Fatalf("Close() = %v", err)
			}
		}
		isEmptyDir(t, w.root)
	}
}

func TestSocketOfAnotherIsNotRemovedAtTheEnd(t *testing.T) {
	w := newWorld(t)
	socket := filepath.Join(w.root, "x.sock")
	l, err := app.ListenSocket(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	write(t, socket, "mine")
	if err := l.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if got := readFile(t, socket); got != "mine" {
		t.Errorf("the file has %q, want it as it was", got)
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
