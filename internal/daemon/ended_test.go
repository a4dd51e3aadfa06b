package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// lingeringGuest is a guest, and its own hypervisor, whose disk takes until
// removed is closed to go.
type lingeringGuest struct {
	*brokenGuest
	removed chan struct{}
	closed  chan struct{} // closed when the hypervisor is
}

// Boot makes any VM but the first on a guest that does as it is told.
func (g *lingeringGuest) Boot(_ context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	if spec.Hostname != "sbox-1" {
		return &brokenGuest{done: make(chan struct{})}, nil
	}
	return g, nil
}

func (g *lingeringGuest) Close() error {
	close(g.closed)
	return nil
}

func (g *lingeringGuest) Stop(ctx context.Context) error {
	select {
	case <-g.removed:
		return failIf(&g.stop)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newLingering serves a daemon with one VM, sbox-1, on a lingering guest.
func newLingering(t *testing.T) (*lingeringGuest, *daemon.Daemon, *api) {
	t.Helper()
	g := &lingeringGuest{
		brokenGuest: &brokenGuest{done: make(chan struct{})},
		removed:     make(chan struct{}),
		closed:      make(chan struct{}),
	}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	a := &api{t: t, handler: d}
	a.create(`{"tags":["name=web"]}`)
	return g, d, a
}

func TestEndedVMIsGoneBeforeItIsCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d, a := newLingering(t)
		close(g.done)
		synctest.Wait()

		for _, call := range []struct{ method, path string }{
			{"GET", "/vm/sbox-1"},
			{"GET", "/vm/sbox-1/health"},
			{"GET", "/vm/sbox-1/logs"},
			{"GET", "/vm/sbox-1/tags"},
			{"GET", "/node/sbox-1/stats"},
			{"POST", "/vm/sbox-1/exec?cmd=x"},
			{"GET", "/vm/sbox-1/cp?path=/file"},
			{"POST", "/vm/sbox-1/cp?path=/file"},
			{"GET", "/vm/sbox-1/fs/stat?path=/file"},
			{"POST", "/vm/sbox-1/pause"},
			{"POST", "/vm/sbox-1/resume"},
			{"POST", "/vm/sbox-1/shutdown"},
			{"DELETE", "/hostgroup/sbox/nodes/sbox-1"},
		} {
			got := a.call(call.method, call.path, "")
			if got.status != http.StatusNotFound || !strings.Contains(got.message(t), `"sbox-1"`) {
				t.Errorf("%s %s of an ended VM = %d %s, want a 404 that names it", call.method, call.path, got.status, got.body)
			}
		}
		if got := a.want(200, "GET", "/nodes", "").body; strings.TrimSpace(got) != "[]" {
			t.Errorf("GET /nodes = %s, want no VM", got)
		}
		if vm := a.create(`{"tags":["name=web"]}`); vm != "sbox-2" {
			t.Errorf("create with the ended VM's name = %q, want sbox-2", vm)
		}

		ended := make(chan error, 1)
		go func() { ended <- d.Close(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("Close = %v before the disk is removed, want it to wait", err)
		case <-g.closed:
			t.Error("the hypervisor is closed before the disk is removed")
		default:
			close(g.removed)
			if err := <-ended; err != nil {
				t.Errorf("Close = %v", err)
			}
		}
	})
}

// TestCleanUpThatFailsIsTriedAgain is about what an ended VM leaves behind.
func TestCleanUpThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d, a := newLingering(t)
		g.stop.Store(true)
		close(g.done)
		close(g.removed)
		synctest.Wait()
		if got := a.want(200, "GET", "/nodes", "").body; strings.TrimSpace(got) != "[]" {
			t.Errorf("GET /nodes = %s, want no VM", got)
		}
		g.stop.Store(false)
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v, want it to clean up", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g, d, _ := newLingering(t)
		g.stop.Store(true)
		close(g.done)
		close(g.removed)
		synctest.Wait()
		if err := d.Close(t.Context()); err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
			t.Errorf("Close = %v, want what could not be cleaned up", err)
		}
	})
}

// endedGuest is a guest of which the daemon hasn't heard yet that it has ended.
type endedGuest struct{ *brokenGuest }

var errLate = fmt.Errorf("ask the agent: %w", daemon.ErrEnded)

func (g *endedGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }
func (g *endedGuest) Files() daemon.FileTree                                       { return g }
func (g *endedGuest) Freeze(context.Context) error                                 { return errLate }

func (g *endedGuest) PutSecret(context.Context, daemon.SecretFile) error { return errLate }

func (g *endedGuest) Start(context.Context, *daemon.Command) (daemon.Process, error) {
	return nil, errLate
}

func (g *endedGuest) Terminal(context.Context, *daemon.Command, daemon.TerminalSize) (daemon.Terminal, error) {
	return nil, errLate
}

func (g *endedGuest) Dial(context.Context, string, string) (net.Conn, error) { return nil, errLate }

func (g *endedGuest) Stat(context.Context, string) (daemon.FileInfo, error) {
	return daemon.FileInfo{}, errLate
}

func (g *endedGuest) ReadDir(context.Context, string, int) ([]daemon.FileInfo, error) {
	return nil, errLate
}

func (g *endedGuest) Open(context.Context, string) (io.ReadCloser, daemon.FileInfo, error) {
	return nil, daemon.FileInfo{}, errLate
}

func (g *endedGuest) Create(context.Context, string, daemon.FileAttr) (daemon.FileWriter, error) {
	return nil, errLate
}

func (g *endedGuest) Mkdir(context.Context, string, daemon.FileAttr, bool) error { return errLate }

func (g *endedGuest) Remove(context.Context, string, bool) error { return errLate }

func TestCallsOnAGuestThatHasEndedAreOfAMissingVM(t *testing.T) {
	g := &endedGuest{&brokenGuest{done: make(chan struct{})}}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	a := &api{t: t, handler: d}
	a.create(`{}`)
	upgrade := []string{
		"Connection", "Upgrade", "Upgrade", "websocket", "X-Inlets-Upstream", "localhost:80",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==",
	}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
	}{
		{"exec", "POST", "/vm/sbox-1/exec?cmd=x", "", nil},
		{"buffered exec", "POST", "/vm/sbox-1/exec?cmd=x&buffered=true", "", nil},
		{"background exec", "POST", "/vm/sbox-1/exec?cmd=x&background=true", "", nil},
		{"read", "GET", "/vm/sbox-1/cp?path=/file", "", nil},
		{"write", "POST", "/vm/sbox-1/cp?path=/file", "x", nil},
		{"write an archive", "POST", "/vm/sbox-1/cp?path=/dir&mode=tar", "", nil},
		{"stat", "GET", "/vm/sbox-1/fs/stat?path=/file", "", nil},
		{"readdir", "GET", "/vm/sbox-1/fs/readdir?path=/dir", "", nil},
		{"mkdir", "POST", "/vm/sbox-1/fs/mkdir", `{"path":"/dir"}`, nil},
		{"remove", "DELETE", "/vm/sbox-1/fs/remove?path=/file", "", nil},
		{"watch", "GET", "/vm/sbox-1/fs/watch?paths=/dir", "", nil},
		{"forward", "GET", "/vm/sbox-1/forward", "", upgrade},
		{"shell", "GET", "/vm/sbox-1/shell", "", upgrade},
		{"pause", "POST", "/vm/sbox-1/pause", "", nil},
		{"suspend", "POST", "/vm/sbox-1/suspend", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, tt.path, tt.body, tt.header...)
			if got.status != http.StatusNotFound || !strings.Contains(got.message(t), `"sbox-1"`) {
				t.Errorf("%s %s = %d %s, want a 404 that names the VM", tt.method, tt.path, got.status, got.body)
			}
		})
	}
	a.want(201, "POST", "/secrets", secretBody("key", "x", ""))
}

// stillborn is a hypervisor whose guests end as soon as they have booted.
type stillborn struct{ noDisks }

func (stillborn) Close() error { return nil }

func (stillborn) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) {
	g := &lingeringGuest{brokenGuest: &brokenGuest{done: make(chan struct{})}, removed: make(chan struct{})}
	close(g.done)
	close(g.removed)
	return g, nil
}

func TestVMThatEndsAtOnceIsNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: stillborn{}})
		if err != nil {
			t.Fatalf("New = %v", err)
		}
		a := &api{t: t, handler: d}
		for range 100 {
			a.create(`{"tags":["name=web"]}`)
			synctest.Wait()
			if got := a.want(200, "GET", "/nodes", "").body; strings.TrimSpace(got) != "[]" {
				t.Fatalf("GET /nodes = %s, want no VM", got)
			}
		}
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
}

// TestConnectionOutlivesItsVM is about the next call on the connection of one
// whose VM has ended.
func TestConnectionOutlivesItsVM(t *testing.T) {
	for _, tt := range []struct{ name, path, body string }{
		{"without a body", "?cmd=wait", ""},
		{"with a body", "?cmd=wait&stdin=true", "input"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runs := make(chan struct{})
			a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
				"wait": func(ctx context.Context, p *slicertest.Proc) int {
					_, _ = io.Copy(io.Discard, p.Stdin) // the input is of no interest
					close(runs)
					<-ctx.Done()
					return 0
				},
			}})
			transport := &http.Transport{MaxConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			call := func(path, body string) (status int, text string) {
				t.Helper()
				resp, err := (&http.Client{Transport: transport}).Do(a.request(t.Context(), "POST", path, strings.NewReader(body)))
				if err != nil {
					t.Fatalf("POST %s = %v", path, err)
				}
				defer resp.Body.Close()
				read, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatalf("POST %s: read the answer: %v", path, err)
				}
				return resp.StatusCode, string(read)
			}
			vm := a.create(`{}`)
			deleted := make(chan struct{})
			go func() {
				defer close(deleted)
				<-runs
				if got := a.call("DELETE", "/hostgroup/sbox/nodes/"+vm, ""); got.status != 200 {
					t.Errorf("delete = %d %s, want 200", got.status, got.body)
				}
			}()
			status, text := call("/vm/"+vm+"/exec"+tt.path, tt.body)
			if list := frames(t, text); status != 200 || len(list) == 0 || list[len(list)-1].Type != "exit" {
				t.Errorf("exec in a VM that is deleted = %d %s, want frames with an end", status, text)
			}
			<-deleted
			if status, text := call("/hostgroup/sbox/nodes", `{}`); status != 201 {
				t.Errorf("create on the same connection = %d %s, want 201", status, text)
			}
		})
	}
}
