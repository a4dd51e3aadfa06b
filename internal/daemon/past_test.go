package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// wantGone fails the test unless a call on vm is refused with why and when it
// ended.
func wantGone(a *api, vm, why string) {
	a.t.Helper()
	text := regexp.MustCompile(`^VM "` + vm + `" is gone: ` + regexp.QuoteMeta(why) + `, \d\d:\d\d:\d\dZ$`)
	for _, path := range []string{"/vm/" + vm, "/vm/" + vm + "/logs", "/vm/" + vm + "/fs/stat?path=/", "/vm/" + vm + "/tags"} {
		if got := a.want(404, "GET", path, "").message(a.t); !text.MatchString(got) {
			a.t.Errorf("GET %s says %q, want %q and a time", path, got, why)
		}
	}
}

func TestCallsLearnWhyAVMIsGone(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for _, tc := range []struct {
		name, body string
		end        func(vm string)
		why        string
	}{
		{"deleted", `{}`, func(vm string) { a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "") }, "it was deleted"},
		{"shut down", `{}`, func(vm string) { a.want(200, "POST", "/vm/"+vm+"/shutdown", "") }, "it was shut down"},
		{"stopped, later deleted", `{"persistent":true}`, func(vm string) {
			a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
			a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		}, "it was deleted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vm := a.create(tc.body)
			tc.end(vm)
			a := &api{t: t, srv: a.srv}
			wantGone(a, vm, tc.why)
			if got := a.want(404, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").message(t); !strings.Contains(got, "is gone: "+tc.why) {
				t.Errorf("DELETE says %q, want that it is gone: %s", got, tc.why)
			}
		})
	}
	if got := a.want(404, "GET", "/vm/sbox-77", "").message(t); got != `no VM named "sbox-77"` {
		t.Errorf("GET of a VM that never was says %q", got)
	}
}

// hog is a hypervisor whose guests end by themselves, for a reason.
type hog struct {
	noDisks
	guests map[string]*brokenGuest
}

// hogGuest is one of a hog's, which has ended when it is stopped.
type hogGuest struct{ *brokenGuest }

func (hogGuest) Stop(context.Context) error { return nil }

func (h *hog) Boot(_ context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	g := &brokenGuest{done: make(chan struct{}), reason: "it ran out of memory"}
	h.guests[spec.Hostname] = g
	return hogGuest{g}, nil
}

func (h *hog) Close() error { return nil }

func TestReasonOfTheGuestIsToldOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		h := &hog{guests: map[string]*brokenGuest{}}
		d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: h, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatalf("New = %v", err)
		}
		defer d.Close(context.Background())
		a := &api{t: t, handler: d}
		const more = 101
		for range more {
			vm := a.create(`{}`)
			close(h.guests[vm].done)
			synctest.Wait()
		}
		wantGone(a, fmt.Sprintf("sbox-%d", more), "it ran out of memory")
		wantGone(a, "sbox-2", "it ran out of memory")
		if got := a.want(404, "GET", "/vm/sbox-1", "").message(t); got != `no VM named "sbox-1"` {
			t.Errorf("GET of the oldest ended VM says %q, want that only the last 100 are known", got)
		}
		if got := log.String(); !strings.Contains(got, `vm=sbox-2 reason="it ran out of memory"`) {
			t.Errorf("log = %s, want the reason", got)
		}
	})
}

// hoggedShelf is a shelf whose guests end by themselves for a reason.
type hoggedShelf struct {
	*shelf
	last *shelfGuest
}

func (h *hoggedShelf) Boot(ctx context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	g, err := h.shelf.Boot(ctx, spec)
	if err != nil {
		return nil, err
	}
	h.last = g.(*shelfGuest)
	h.last.reason = "it ran out of memory"
	return g, nil
}

func TestReasonIsOnTheConsoleOfAPersistentVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hoggedShelf{shelf: &shelf{disks: map[string]string{}}}
		d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: h})
		if err != nil {
			t.Fatalf("New = %v", err)
		}
		defer d.Close(context.Background())
		a := &api{t: t, handler: d}
		vm := a.create(`{"persistent":true}`)
		h.last.once.Do(func() { close(h.last.done) })
		synctest.Wait()
		if got := a.console(vm); !strings.Contains(got, "it ran out of memory") {
			t.Errorf("console = %s, want why the VM ended", got)
		}
		if got := a.want(409, "POST", "/vm/"+vm+"/exec?cmd=x", "").message(t); !strings.Contains(got, "stopped") {
			t.Errorf("exec says %q, want that the VM is stopped", got)
		}
	})
}

// TestFullStateFolder is about labels that can't be written.
func TestFullStateFolder(t *testing.T) {
	s := &shelf{disks: map[string]string{}}
	a, log, closeIt := serveShelf(t, s)
	vm := a.create(`{"persistent":true}`)
	s.mu.Lock()
	s.fails = func(step string) error {
		if strings.HasPrefix(step, "label ") {
			return errors.New("no space left on device")
		}
		return nil
	}
	s.mu.Unlock()
	a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
	if got := a.described(vm).Status; got != "Stopped" {
		t.Errorf("status = %s, want it stopped", got)
	}
	if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "no space left") {
		t.Errorf("log = %s, want that the end was not noted", got)
	}
	closeIt()
}

// badDisks is a hypervisor whose every answer names a path of the machine.
type badDisks struct{ noDisks }

func (badDisks) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) {
	return nil, fmt.Errorf("make folder: %w", &fs.PathError{Op: "mkdir", Path: "/srv/secret/state", Err: syscall.ENOSPC})
}

func (badDisks) Close() error { return nil }

func TestAnswersDoNotNameTheMachinesPaths(t *testing.T) {
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: badDisks{}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer d.Close(context.Background())
	a := &api{t: t, handler: d}
	got := a.want(http.StatusInternalServerError, "POST", "/hostgroup/sbox/nodes", "{}").message(t)
	if strings.Contains(got, "secret") || !strings.Contains(got, "no space left") {
		t.Errorf("create says %q, want the reason without the path", got)
	}
}

func TestLeastMemory(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for _, ram := range []string{"1", "16777215"} {
		if got := a.want(400, "POST", "/hostgroup/sbox/nodes", `{"ram_bytes":`+ram+`}`).message(t); !strings.Contains(got, "16777216") {
			t.Errorf("create with %s bytes says %q, want the least", ram, got)
		}
	}
	a.create(`{"ram_bytes":16777216}`)
}

// lastIDs is a guest without the ids above 65535.
type lastIDs struct{ *brokenGuest }

func (g lastIDs) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }

func (g lastIDs) Files() daemon.FileTree { return g }

func (g lastIDs) Create(context.Context, string, daemon.FileAttr) (daemon.FileWriter, error) {
	return nil, fmt.Errorf("create: %w", &daemon.IDError{ID: 70000, Largest: 65535})
}

func TestUnknownIDIsRefused(t *testing.T) {
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: lastIDs{&brokenGuest{done: make(chan struct{})}}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer d.Close(context.Background())
	a := &api{t: t, handler: d}
	vm := a.create(`{}`)
	if got := a.want(400, "POST", cpPath(vm, "path", "/f", "uid", "70000"), "x").message(t); !strings.Contains(got, "65535") {
		t.Errorf("cp says %q, want the largest id", got)
	}
}

func TestRefusalsNameWhatIsWrong(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for _, tc := range []struct{ name, body, want string }{
		{"a list for a body", `[]`, "the body can't be a JSON array"},
		{"a mode that is none", `{"path":"/m","mode":"9"}`, "mode must be octal"},
	} {
		if got := a.want(400, "POST", "/vm/"+vm+"/fs/mkdir", tc.body).message(t); !strings.HasPrefix(got, tc.want) {
			t.Errorf("mkdir with %s says %q, want %q", tc.name, got, tc.want)
		}
	}
}
