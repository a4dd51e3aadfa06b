package app_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// requireNginx returns nginx's path. Without nginx the test is skipped, or fails
// where nothing may be skipped.
func requireNginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // not in every user's PATH
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" {
		t.Fatal("SLICERVM_REQUIRE_SANDBOX=1, but there is no nginx")
	}
	t.Skip("there is no nginx")
	return ""
}

// startNginx starts nginx with the example's configuration in front of replicas,
// and returns the socket that it listens on. Its answers say in X-Replica which
// replica they are from.
func startNginx(t *testing.T, dir string, replicas []string) string {
	t.Helper()
	nginx := requireNginx(t)
	site := readFile(t, "../../examples/nginx/slicervm-mcp.conf")
	socket := filepath.Join(dir, "nginx.sock")
	for before, after := range map[string]string{
		"    listen 127.0.0.1:8090;": "    listen unix:" + socket + ";",
		"    server 127.0.0.1:8091;": "    server " + replicas[0] + ";",
		"    server 127.0.0.1:8092;": "    server " + replicas[1] + ";",
	} {
		if strings.Count(site, before) != 1 {
			t.Fatalf("the example has %q %d times, want once:\n%s", before, strings.Count(site, before), site)
		}
		site = strings.Replace(site, before, after, 1)
	}
	write(t, filepath.Join(dir, "site.conf"), site)
	write(t, filepath.Join(dir, "nginx.conf"), `
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    add_header X-Replica $upstream_addr;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
`)
	var log lockedBuffer
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	cmd := exec.CommandContext(ctx, nginx, "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	cmd.Stderr = &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // ends the workers too
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is told to end
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("nginx's log:\n%s", log.String())
		}
	})
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			conn.Close()
			return socket
		}
		select {
		case <-ended:
			t.Fatalf("nginx ended:\n%s", log.String())
		case <-ctx.Done():
			t.Fatalf("nginx doesn't listen:\n%s", log.String())
		default:
		}
	}
}

// turns notes which replica answered last.
type turns struct {
	next http.RoundTripper

	mu   sync.Mutex
	last string
}

// RoundTrip implements http.RoundTripper.
func (s *turns) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err == nil {
		s.mu.Lock()
		s.last = resp.Header.Get("X-Replica")
		s.mu.Unlock()
	}
	return resp, err
}

// replica is the one that answered last.
func (s *turns) replica() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// TestReplicasServeOneClientInTurn has nginx give each request of a client to the
// other one of two servers over one daemon.
func TestReplicasServeOneClientInTurn(t *testing.T) {
	for _, version := range []string{"2024-11-05", "2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			started, finish := make(chan struct{}), make(chan struct{})
			daemon := slicertest.NewServer(t, slicertest.Options{Shell: only("waits", waits(started, finish))})
			w := newWorld(t)
			w.env["SLICERVM_MCP_TOKEN"] = callersToken
			var programs []*program
			var replicas []string
			for range 2 {
				p, url := w.serveHTTP(t, "--url", daemon.URL, "--stateless", "--owner", "team", "--allow-host", "mcp.example.com")
				programs = append(programs, p)
				replicas = append(replicas, strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp"))
			}
			front := through(t, "unix://"+startNginx(t, w.home, replicas), "")
			seen := &turns{next: front.Transport}
			front.Transport = seen
			c := connect(t, "http://mcp.example.com/mcp", callersToken, version, front)
			if got := c.ProtocolVersion(); version == "2026-07-28" && got != version {
				t.Fatalf("the client speaks %q, want %s", got, version)
			}

			must(t, c, "create_vm", map[string]any{"name": "web"})
			made := seen.replica()
			text := must(t, c, "exec", map[string]any{"command": "waits", "yield_seconds": 1})
			ran := seen.replica()
			handle := regexp.MustCompile(`process="([^"]+)"`).FindStringSubmatch(text)
			if handle == nil {
				t.Fatalf("exec = %q, want a process", text)
			}
			<-started
			close(finish)
			text = must(t, c, "read_process", map[string]any{"process": handle[1], "wait_seconds": 10})
			if !strings.Contains(text, "finished") {
				t.Errorf("read_process = %q, want what the command wrote", text)
			}
			read := seen.replica()
			if made == ran || made != read || made == "" {
				t.Errorf("create_vm, exec and read_process are answered by %s, %s and %s, want two in turn", made, ran, read)
			}
			var lists []string
			for range 2 {
				text := must(t, c, "list_vms", nil)
				if !strings.Contains(text, "1 VM owned by this server, 0 others") || !strings.Contains(text, "web") {
					t.Errorf("list_vms = %q of %s, want the VM as its own", text, seen.replica())
				}
				lists = append(lists, seen.replica())
			}
			if lists[0] == lists[1] {
				t.Errorf("list_vms is answered by %s twice, want both", lists[0])
			}
			if text, failed := ask(t, c, "read_process", map[string]any{"process": "no-such"}); !failed {
				t.Errorf("read_process of none = %q, want an error", text)
			}
			must(t, c, "delete_vm", map[string]any{"vm": "web"})
			for _, p := range programs {
				p.end(t)
			}
			for _, req := range daemon.Requests() {
				if shown := fmt.Sprint(req.Path, req.Query, req.Header); strings.Contains(shown, callersToken) {
					t.Errorf("the daemon is told the callers' token: %s", shown)
				}
			}
		})
	}
}

// TestReplicasGoOneByOne has a replica end, and the other one go on alone.
func TestReplicasGoOneByOne(t *testing.T) {
	daemon := slicertest.NewServer(t)
	w := newWorld(t)
	var programs []*program
	var replicas []string
	for range 2 {
		p, url := w.serveHTTP(t, "--url", daemon.URL, "--stateless", "--owner", "team")
		programs = append(programs, p)
		replicas = append(replicas, strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp"))
	}
	front := through(t, "unix://"+startNginx(t, w.home, replicas), "")
	c := connect(t, "http://localhost/mcp", "", "2025-11-25", front)
	must(t, c, "create_vm", map[string]any{"name": "web"})
	programs[0].end(t)
	for range 4 {
		if text := must(t, c, "list_vms", nil); !strings.Contains(text, "web") {
			t.Errorf("list_vms = %q with one replica left, want the VM", text)
		}
	}
	programs[1].end(t)
}
