package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// status is a VM's status.
func (a *api) status(vm string) string {
	a.t.Helper()
	var got struct{ Status string }
	decode(a.t, a.want(200, "GET", "/vm/"+vm, "").body, &got)
	return got.Status
}

func TestSuspendAndRestore(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for range 2 { // suspending a suspended VM changes nothing
		got := a.want(200, "POST", "/vm/"+vm+"/suspend", "")
		if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("suspend answers %s, want text/plain", kind)
		}
	}
	if got := a.status(vm); got != "Suspended" {
		t.Errorf("status = %s, want Suspended", got)
	}
	for _, call := range []struct{ method, path, body string }{
		{"GET", "/health", ""},
		{"POST", "/exec?cmd=true", ""},
		{"GET", "/cp?path=/etc/hostname", ""},
		{"GET", "/fs/stat?path=/", ""},
		{"GET", "/fs/watch?paths=/", ""},
		{"POST", "/pause", ""},
		{"POST", "/resume", ""},
		{"POST", "/shutdown", ""},
	} {
		if got := a.want(409, call.method, "/vm/"+vm+call.path, call.body).message(t); !strings.Contains(got, "is suspended; restore it") {
			t.Errorf("%s %s on a suspended VM says %q, want that it is suspended", call.method, call.path, got)
		}
	}
	for _, query := range []string{"", "?wait=agent", "?wait=agent&timeout=5s"} { // a running VM goes on
		a.want(200, "POST", "/vm/"+vm+"/restore"+query, "")
	}
	if got := a.status(vm); got != "Running" {
		t.Errorf("status after restore = %s, want Running", got)
	}
	a.want(200, "GET", "/vm/"+vm+"/health", "")

	a.want(200, "POST", "/vm/"+vm+"/pause", "")
	if got := a.want(409, "POST", "/vm/"+vm+"/restore", "").message(t); !strings.Contains(got, "is paused; resume it") {
		t.Errorf("restore of a paused VM says %q, want that it is paused", got)
	}
	a.want(200, "POST", "/vm/"+vm+"/suspend", "") // a paused VM can be suspended
	if got := a.status(vm); got != "Suspended" {
		t.Errorf("status = %s, want Suspended", got)
	}
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "") // a suspended VM can go
}

func TestSecretOfASuspendedVMComesWithItsRestore(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", "/vm/"+vm+"/suspend", "")
	a.want(201, "POST", "/secrets", secretBody("key", "x", ""))
	a.want(200, "POST", "/vm/"+vm+"/restore", "")
	if got := a.file(vm, "/run/slicer/secrets/key"); got != `"x" 600 0:0` {
		t.Errorf("secret after the restore = %s, want x", got)
	}
}

func TestRefusedStateChanges(t *testing.T) {
	a := newAPI(t, slicertest.Options{Groups: []slicer.SlicerHostGroup{
		{Name: "sbox", CPUs: 1, RamBytes: 1 << 30},
		{Name: "k3s", Count: 1, CPUs: 1, RamBytes: 1 << 30},
	}})
	a.create(`{}`)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown VM on suspend", "POST", "/vm/sbox-9/suspend", "", 404, `"sbox-9"`},
		{"unknown VM on restore", "POST", "/vm/sbox-9/restore", "", 404, `"sbox-9"`},
		{"unknown VM on shutdown", "POST", "/vm/sbox-9/shutdown", "", 404, `"sbox-9"`},
		{"unknown VM on relaunch", "POST", "/vm/sbox-9/relaunch", "", 404, `"sbox-9"`},
		{"unknown parameter of suspend", "POST", "/vm/sbox-1/suspend?wait=agent", "", 400, `"wait"`},
		{"restore that waits for userdata", "POST", "/vm/sbox-1/restore?wait=userdata", "", 400, "wait"},
		{"restore with a timeout alone", "POST", "/vm/sbox-1/restore?timeout=3s", "", 400, "needs wait"},
		{"restore with a bad timeout", "POST", "/vm/sbox-1/restore?wait=agent&timeout=0s", "", 400, "timeout"},
		{"unknown action", "POST", "/vm/sbox-1/shutdown?action=halt", "", 400, `"halt"`},
		{"unknown action in the body", "POST", "/vm/sbox-1/shutdown", `{"action":"halt"}`, 400, `"halt"`},
		{"two actions", "POST", "/vm/sbox-1/shutdown?action=reboot", `{"action":"shutdown"}`, 400, "reboot"},
		{"unknown field of shutdown", "POST", "/vm/sbox-1/shutdown", `{"force":true}`, 400, "force"},
		{"shutdown of a protected VM", "POST", "/vm/k3s-1/shutdown", "", 403, "protected"},
		{"relaunch of a running VM", "POST", "/vm/sbox-1/relaunch", "", 409, "Running"},
		{"GET suspend", "GET", "/vm/sbox-1/suspend", "", 405, "POST"},
		{"commit of an ephemeral VM", "POST", "/vm/sbox-1/commit", `{}`, 409, "persistent: true"},
		{"unknown VM on commit", "POST", "/vm/sbox-9/commit", `{}`, 404, `"sbox-9"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, tt.path, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("%s %s = %d %s, want %d and %q", tt.method, tt.path, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	if got := a.hostnames("/nodes"); len(got) != 2 {
		t.Errorf("VMs after the refusals = %v, want both", got)
	}
}

func TestShutdownEndsAnEphemeralVM(t *testing.T) {
	for _, tt := range []struct{ name, query, body string }{
		{"by default", "", ""},
		{"shutdown", "?action=shutdown", ""},
		{"reboot", "?action=reboot", ""},
		{"reboot in the body", "", `{"action":"reboot"}`},
		{"the same in both", "?action=reboot", `{"action":"reboot"}`},
		{"empty action", "", `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			vm := a.create(`{"tags":["name=x"]}`)
			got := a.want(200, "POST", "/vm/"+vm+"/shutdown"+tt.query, tt.body)
			if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
				t.Errorf("shutdown answers %s, want text/plain", kind)
			}
			a.want(404, "POST", "/vm/"+vm+"/shutdown", "")
			a.want(404, "POST", "/vm/"+vm+"/relaunch", "")
			a.create(`{"tags":["name=x"]}`) // its name is free
			if a.srv.Files(vm) != nil {
				t.Error("the guest is still there")
			}
		})
	}
}

func TestShutdownEndsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		exec := make(chan reply, 1)
		go func() {
			exec <- a.send(a.request(t.Context(), "POST", execPath(vm, "cmd", "sleep", "args", "1e6"), nil))
		}()
		synctest.Wait()
		a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
		if got := <-exec; !strings.Contains(got.body, `"KILL"`) {
			t.Errorf("exec of the VM that was shut down = %s, want its end by KILL", got.body)
		}
	})
}

// slowGuest is a guest whose thawing takes until release is closed.
type slowGuest struct {
	daemon.Guest
	noDisks
	done, release chan struct{}
}

func (g *slowGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }
func (g *slowGuest) Close() error                                                 { return nil }
func (g *slowGuest) Done() <-chan struct{}                                        { return g.done }
func (g *slowGuest) Freeze(context.Context) error                                 { return nil }
func (g *slowGuest) Stop(context.Context) error                                   { close(g.done); return nil }
func (g *slowGuest) Uptime() time.Duration                                        { return 0 }
func (g *slowGuest) EndReason() string                                            { return "" }
func (g *slowGuest) Unenforced() []string                                         { return nil }

func (g *slowGuest) Thaw(ctx context.Context) error {
	select {
	case <-g.release:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("thaw: %w", ctx.Err())
	}
}

func TestRestoreThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &slowGuest{done: make(chan struct{}), release: make(chan struct{})}
		d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
		if err != nil {
			t.Fatalf("New = %v", err)
		}
		defer func() {
			if err := d.Close(context.Background()); err != nil {
				t.Errorf("Close = %v", err)
			}
		}()
		call := func(method, path string) (int, string) {
			t.Helper()
			return serveOnce(t, d, method, path)
		}
		if status, text := call("POST", "/hostgroup/sbox/nodes"); status != 201 {
			t.Fatalf("create = %d %s", status, text)
		}
		if status, text := call("POST", "/vm/sbox-1/suspend"); status != 200 {
			t.Fatalf("suspend = %d %s", status, text)
		}
		begin := time.Now()
		status, text := call("POST", "/vm/sbox-1/restore?wait=agent&timeout=3s")
		if took := time.Since(begin); status != 408 || took != 3*time.Second || !strings.Contains(text, "suspended still") {
			t.Errorf("slow restore = %d %s after %s, want 408 after 3s", status, text, took)
		}
		if _, text := call("GET", "/vm/sbox-1"); !strings.Contains(text, `"status":"Suspended"`) {
			t.Errorf("VM after the slow restore = %s, want it suspended", text)
		}
		close(g.release)
		if status, text := call("POST", "/vm/sbox-1/restore"); status != 200 {
			t.Errorf("second restore = %d %s, want 200", status, text)
		}
		if status, text := call("GET", "/vm/sbox-1/health"); status != 200 {
			t.Errorf("health after the restore = %d %s, want 200", status, text)
		}
	})
}

func TestVMThatCannotBeFrozenIsNotSuspended(t *testing.T) {
	g, call := serveBroken(t)
	g.freeze.Store(true)
	if status, text, _ := call("POST", "/vm/sbox-1/suspend", ""); status != 500 || !strings.Contains(text, errBroken.Error()) {
		t.Errorf("suspend = %d %s, want 500 with the cause", status, text)
	}
	if status, text, _ := call("GET", "/vm/sbox-1/health", ""); status != 200 {
		t.Errorf("health after the failed suspend = %d %s, want 200", status, text)
	}
	g.stop.Store(true)
	if status, text, _ := call("POST", "/vm/sbox-1/shutdown", ""); status != 500 || !strings.Contains(text, errBroken.Error()) {
		t.Errorf("shutdown = %d %s, want 500 with the cause", status, text)
	}
	if status, text, _ := call("POST", "/vm/sbox-1/relaunch", ""); status != 404 || !strings.Contains(text, "gone") {
		t.Errorf("relaunch of the ended VM = %d %s, want 404", status, text)
	}
}

// serveOnce makes a call without a connection.
func serveOnce(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	if err != nil {
		t.Fatalf("NewRequest(%s) = %v", path, err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	text, err := io.ReadAll(rec.Result().Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", path, err)
	}
	return rec.Code, string(text)
}
