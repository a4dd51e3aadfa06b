package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestRefusedWatches(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{}`)
	for _, tt := range []struct {
		name   string
		vm     string
		params []string
		status int
		says   string
	}{
		{"unknown VM", "sbox-9", []string{"paths", "/tmp"}, 404, `"sbox-9"`},
		{"no path", "sbox-1", nil, 400, "paths"},
		{"empty path", "sbox-1", []string{"paths", ""}, 400, "path"},
		{"relative path", "sbox-1", []string{"paths", "tmp"}, 400, "absolute"},
		{"missing path", "sbox-1", []string{"paths", "/tmp", "paths", "/nope"}, 404, "/nope"},
		{"path below a file", "sbox-1", []string{"paths", "/etc/hostname/x"}, 400, "directory"},
		{"too many paths", "sbox-1", many("paths", "/tmp", 65), 400, "64"},
		{"malformed pattern", "sbox-1", []string{"paths", "/tmp", "patterns", "[a"}, 400, "malformed"},
		{"empty pattern", "sbox-1", []string{"paths", "/tmp", "patterns", ""}, 400, "empty"},
		{"too many patterns", "sbox-1", append(many("patterns", "x", 65), "paths", "/tmp"), 400, "64"},
		{"unknown kind", "sbox-1", []string{"paths", "/tmp", "events", "read"}, 400, `"read"`},
		{"kind after all", "sbox-1", []string{"paths", "/tmp", "events", "all", "events", "read"}, 400, `"read"`},
		{"recursive is no flag", "sbox-1", []string{"paths", "/tmp", "recursive", "deep"}, 400, "recursive"},
		{"one_shot is no flag", "sbox-1", []string{"paths", "/tmp", "one_shot", "x"}, 400, "one_shot"},
		{"debounce without a unit", "sbox-1", []string{"paths", "/tmp", "debounce", "200"}, 400, "debounce"},
		{"negative debounce", "sbox-1", []string{"paths", "/tmp", "debounce", "-1s"}, 400, "debounce"},
		{"endless debounce", "sbox-1", []string{"paths", "/tmp", "debounce", "61s"}, 400, "debounce"},
		{"no timeout", "sbox-1", []string{"paths", "/tmp", "timeout", "0s"}, 400, "timeout"},
		{"endless timeout", "sbox-1", []string{"paths", "/tmp", "timeout", "25h"}, 400, "timeout"},
		{"negative max_events", "sbox-1", []string{"paths", "/tmp", "max_events", "-1"}, 400, "max_events"},
		{"max_events is no number", "sbox-1", []string{"paths", "/tmp", "max_events", "1e3"}, 400, "max_events"},
		{"uid is no number", "sbox-1", []string{"paths", "/tmp", "uid", "root"}, 400, "uid"},
		{"unknown parameter", "sbox-1", []string{"paths", "/tmp", "depth", "2"}, 400, `"depth"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("GET", watchPath(tt.vm, tt.params...), "")
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("watch = %d %s, want %d and %q", got.status, got.body, tt.status, tt.says)
			}
		})
	}
	for _, id := range []string{"x", "-1", "18446744073709551616", "1 2"} {
		got := a.call("GET", watchPath("sbox-1", "paths", "/tmp"), "", "Last-Event-ID", id)
		if got.status != 400 || !strings.Contains(got.message(t), "Last-Event-ID") {
			t.Errorf("watch with Last-Event-ID %q = %d %s, want 400", id, got.status, got.body)
		}
	}
	path := watchPath("sbox-1", "paths", "/tmp", "timeout", "1ms")
	a.want(200, "GET", path, "", "Last-Event-ID", "18446744073709551615")
	if got := a.want(200, "HEAD", watchPath("sbox-1", "paths", "/tmp"), "").body; got != "" {
		t.Errorf("HEAD watch = %q, want no body", got)
	}
}

// many is a parameter n times.
func many(name, value string, n int) []string {
	var params []string
	for range n {
		params = append(params, name, value)
	}
	return params
}

// badWatcher is a guest that fails to watch, or whose watch fails.
type badWatcher struct {
	*brokenGuest
	err error // of Watch
}

func (g *badWatcher) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }

func (g *badWatcher) Watch(context.Context, daemon.WatchSpec) (daemon.Watch, error) {
	return badWatch{}, g.err
}

type badWatch struct{}

func (badWatch) Next() (daemon.WatchChange, error) { return daemon.WatchChange{}, errBroken }
func (badWatch) Close() error                      { return nil }

func TestGuestThatFailsToWatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int // 0 is a cut answer
		says   string
	}{
		{"has no watch", errors.ErrUnsupported, 501, "can't be watched"},
		{"file is gone meanwhile", fmt.Errorf("watch: %w", fs.ErrNotExist), 404, "/tmp"},
		{"another error", errBroken, 500, errBroken.Error()},
		{"fails later", nil, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := &badWatcher{&brokenGuest{done: make(chan struct{})}, tt.err}
			d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
			if err != nil {
				t.Fatalf("New = %v", err)
			}
			defer func() {
				cut, _ := recover().(error)
				if errors.Is(cut, http.ErrAbortHandler) != (tt.status == 0) {
					t.Errorf("watch panicked with %v, want a cut answer: %t", cut, tt.status == 0)
				}
				if err := d.Close(context.Background()); err != nil {
					t.Errorf("Close = %v", err)
				}
			}()
			serveOnce(t, d, "POST", "/hostgroup/sbox/nodes")
			status, text := serveOnce(t, d, "GET", watchPath("sbox-1", "paths", "/tmp"))
			if status != tt.status || !strings.Contains(text, tt.says) {
				t.Errorf("watch = %d %s, want %d and %q", status, text, tt.status, tt.says)
			}
		})
	}
}
