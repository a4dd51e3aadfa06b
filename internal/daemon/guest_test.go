package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

var errBroken = errors.New("the guest is broken")

// brokenGuest is a guest, and its own hypervisor, file tree and process, on
// which what is switched on fails.
type brokenGuest struct {
	daemon.Guest    // answers nothing but what is below
	daemon.FileTree // neither does this
	noDisks

	freeze, stop, secrets atomic.Bool
	done                  chan struct{}
	reason                string // why it ends by itself
}

func (g *brokenGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }
func (g *brokenGuest) Close() error                                                 { return nil }
func (g *brokenGuest) Files() daemon.FileTree                                       { return g }
func (g *brokenGuest) Thaw(context.Context) error                                   { return nil }
func (g *brokenGuest) Done() <-chan struct{}                                        { return g.done }
func (g *brokenGuest) Uptime() time.Duration                                        { return 0 }
func (g *brokenGuest) Pid() int                                                     { return 1 }
func (g *brokenGuest) Signal(string) error                                          { return nil }

func (g *brokenGuest) Start(context.Context, *daemon.Command) (daemon.Process, error) { return g, nil }

func (g *brokenGuest) Wait() (daemon.ExitStatus, error) { return daemon.ExitStatus{}, errBroken }

func (g *brokenGuest) Freeze(context.Context) error { return failIf(&g.freeze) }

func (g *brokenGuest) PutSecret(context.Context, daemon.SecretFile) error { return failIf(&g.secrets) }

func (g *brokenGuest) RemoveSecret(context.Context, string) error { return failIf(&g.secrets) }

func (g *brokenGuest) Stop(context.Context) error {
	if err := failIf(&g.stop); err != nil {
		return err
	}
	close(g.done)
	return nil
}

// Every name is a file of 100 bytes, of which the last 90 can't be read, but
// for /dir, which has one such file.
func (g *brokenGuest) Stat(_ context.Context, name string) (daemon.FileInfo, error) {
	if name == "/dir" {
		return daemon.FileInfo{Name: "dir", Mode: fs.ModeDir | 0o755}, nil
	}
	return daemon.FileInfo{Name: "file", Mode: 0o644, Size: 100}, nil
}

func (g *brokenGuest) ReadDir(ctx context.Context, name string, _ int) ([]daemon.FileInfo, error) {
	info, err := g.Stat(ctx, name+"/file")
	return []daemon.FileInfo{info}, err
}

func (g *brokenGuest) Open(ctx context.Context, name string) (io.ReadCloser, daemon.FileInfo, error) {
	info, err := g.Stat(ctx, name)
	return io.NopCloser(io.MultiReader(strings.NewReader("0123456789"), iotest.ErrReader(errBroken))), info, err
}

func failIf(broken *atomic.Bool) error {
	if broken.Load() {
		return errBroken
	}
	return nil
}

func (g *brokenGuest) EndReason() string    { return g.reason }
func (g *brokenGuest) Unenforced() []string { return nil }

// noDisks is the part of a hypervisor that keeps disks, without any.
type noDisks struct{}

func (noDisks) Disks(context.Context) ([]daemon.Disk, error) { return nil, nil }
func (noDisks) CopyDisk(context.Context, string, string, []byte) error {
	return errors.ErrUnsupported
}
func (noDisks) LabelDisk(context.Context, string, []byte) error { return errors.ErrUnsupported }
func (noDisks) RemoveDisk(context.Context, string) error        { return errors.ErrUnsupported }

// serveBroken serves a daemon with one VM, sbox-1, on a broken guest.
func serveBroken(t *testing.T) (g *brokenGuest, call func(method, path, body string) (int, string, error)) {
	t.Helper()
	g = &brokenGuest{done: make(chan struct{})}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	srv := httptest.NewServer(d)
	t.Cleanup(func() {
		g.stop.Store(false)
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
		srv.Close()
	})
	call = func(method, path, body string) (int, string, error) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatalf("NewRequest(%s) = %v", path, err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), err
	}
	if status, text, err := call("POST", "/hostgroup/sbox/nodes", ""); status != 201 || err != nil {
		t.Fatalf("create = %d %s %v", status, text, err)
	}
	return g, call
}

func TestAnswerThatFailsMidwayIsCut(t *testing.T) {
	_, call := serveBroken(t)
	for _, path := range []string{
		"/vm/sbox-1/cp?path=/file",
		"/vm/sbox-1/cp?path=/file&mode=tar",
		"/vm/sbox-1/cp?path=/dir&mode=tar",
	} {
		// What was not sent off yet breaks off before the status.
		if status, text, err := call("GET", path, ""); err == nil {
			t.Errorf("GET %s = %d, %d bytes, want an answer that breaks off", path, status, len(text))
		}
	}
	status, text, err := call("POST", "/vm/sbox-1/exec?cmd=x", "")
	if status != 200 || err == nil || strings.Contains(text, `"exit"`) {
		t.Errorf("exec whose end is unknown = %d %q, %v, want a 200 that breaks off without an exit frame", status, text, err)
	}
	if status, text, err := call("POST", "/vm/sbox-1/exec?cmd=x&buffered=1", ""); status != 500 || err != nil {
		t.Errorf("buffered exec whose end is unknown = %d %q, %v, want 500", status, text, err)
	}
}

func TestVMThatCannotBeFrozenRunsOn(t *testing.T) {
	g, call := serveBroken(t)
	g.freeze.Store(true)
	if status, text, _ := call("POST", "/vm/sbox-1/pause", ""); status != 500 || !strings.Contains(text, errBroken.Error()) {
		t.Errorf("pause = %d %s, want 500 with the cause", status, text)
	}
	if status, text, _ := call("GET", "/vm/sbox-1/health", ""); status != 200 {
		t.Errorf("health after the failed pause = %d %s, want 200", status, text)
	}
}

func TestVMThatCannotBeStoppedCanBeTriedAgain(t *testing.T) {
	g, call := serveBroken(t)
	g.stop.Store(true)
	if status, text, _ := call("DELETE", "/hostgroup/sbox/nodes/sbox-1", ""); status != 500 || !strings.Contains(text, errBroken.Error()) {
		t.Errorf("delete = %d %s, want 500 with the cause", status, text)
	}
	if _, text, _ := call("GET", "/nodes", ""); !strings.Contains(text, `"status":"Stopped"`) {
		t.Errorf("nodes after the failed delete = %s, want the VM stopped", text)
	}
	for _, path := range []string{"/vm/sbox-1/exec?cmd=x", "/vm/sbox-1/pause", "/vm/sbox-1/resume"} {
		if status, text, _ := call("POST", path, ""); status != 404 || !strings.Contains(text, "gone") {
			t.Errorf("POST %s = %d %s, want 404", path, status, text)
		}
	}
	g.stop.Store(false)
	if status, text, _ := call("DELETE", "/hostgroup/sbox/nodes/sbox-1", ""); status != 200 {
		t.Errorf("second delete = %d %s, want 200", status, text)
	}
}

func TestSecretThatCannotBeBroughtIsTriedAgain(t *testing.T) {
	g, call := serveBroken(t)
	g.secrets.Store(true)
	if status, text, _ := call("POST", "/secrets", secretBody("key", "x", "")); status != 201 {
		t.Errorf("create = %d %s, want 201: the secret is there", status, text)
	}
	g.secrets.Store(false)
	if status, text, _ := call("PATCH", "/secrets/key", "{}"); status != 200 {
		t.Errorf("patch = %d %s, want 200", status, text)
	}
}

func TestHalfSentUploadIsRefused(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.srv.URL, "http://"))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", cpPath(vm, "path", "/tmp/x"))
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatalf("CloseWrite = %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "ended early") {
		t.Errorf("half an upload = %d %s, %v, want 400", resp.StatusCode, text, err)
	}
	if got := a.file(vm, "/tmp/x"); got != "absent" {
		t.Errorf("file after half an upload = %s, want it absent", got)
	}
}
