package app_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
)

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
