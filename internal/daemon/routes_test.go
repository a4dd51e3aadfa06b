package daemon_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestHostGroups(t *testing.T) {
	a := newAPI(t, slicertest.Options{Groups: []slicer.SlicerHostGroup{
		{Name: "sbox", CPUs: 2, RamBytes: 1 << 30},
		{Name: "k3s", Count: 2, CPUs: 1, RamBytes: 1 << 29},
	}})
	var got []map[string]any
	decode(t, a.want(200, "GET", "/hostgroup", "").body, &got)
	arch := map[string]string{"amd64": "x86_64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	want := []map[string]any{
		{"name": "sbox", "count": 0.0, "ram_bytes": float64(1 << 30), "cpus": 2.0, "gpu_count": 0.0, "arch": arch},
		{"name": "k3s", "count": 2.0, "ram_bytes": float64(1 << 29), "cpus": 1.0, "gpu_count": 0.0, "arch": arch},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GET /hostgroup (-want +got):\n%s", diff)
	}
	if got := a.hostnames("/nodes"); !cmp.Equal(got, []string{"k3s-1", "k3s-2"}) {
		t.Errorf("VMs at the start = %v, want those of the group's count", got)
	}
	if got := a.want(403, "DELETE", "/hostgroup/k3s/nodes/k3s-1", "").message(t); !strings.Contains(got, "protected") {
		t.Errorf("DELETE of a counted VM says %q, want that it is protected", got)
	}
}

func TestNewRefusesBadConfigs(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  daemon.Config
		says string
	}{
		{"no hypervisor", daemon.Config{}, "hypervisor"},
		{"bad group name", daemon.Config{Hypervisor: noHypervisor{}, Groups: []daemon.HostGroup{{Name: "A/b"}}}, `"A/b"`},
		{"group twice", daemon.Config{Hypervisor: noHypervisor{}, Groups: []daemon.HostGroup{{Name: "a"}, {Name: "a"}}}, "twice"},
		{"negative size", daemon.Config{Hypervisor: noHypervisor{}, Groups: []daemon.HostGroup{{Name: "a", CPUs: -1}}}, "negative"},
		{"a counted VM that doesn't boot", daemon.Config{Hypervisor: noHypervisor{}, Groups: []daemon.HostGroup{{Name: "a", Count: 1}}}, errNoGuests.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := daemon.New(t.Context(), tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("New = %v, %v, want an error with %q", d, err, tt.says)
			}
		})
	}
}

func TestDefaultGroupHasTheMachinesSize(t *testing.T) {
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: noHypervisor{}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/hostgroup", nil))
	var groups []struct {
		Name     string `json:"name"`
		CPUs     int    `json:"cpus"`
		RAMBytes int64  `json:"ram_bytes"`
	}
	decode(t, rec.Body.String(), &groups)
	if len(groups) != 1 || groups[0].Name != "sbox" || groups[0].CPUs != runtime.NumCPU() || groups[0].RAMBytes < 64<<20 {
		t.Errorf("default groups = %+v, want sbox with the machine's size", groups)
	}
}

func TestPanicIsA500(t *testing.T) {
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: noHypervisor{panics: true}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "POST", "/hostgroup/sbox/nodes", strings.NewReader("{}")))
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "boom") {
		t.Errorf("a panic is answered %d %q, want a 500 without its text", rec.Code, rec.Body)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func TestClosedDaemonRefuses(t *testing.T) {
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: noHypervisor{}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	for range 2 {
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	for _, path := range []string{"/nodes", "/healthz", "/nope"} {
		rec := httptest.NewRecorder()
		d.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if rec.Code != http.StatusServiceUnavailable {
			t.Errorf("GET %s after Close = %d, want 503", path, rec.Code)
		}
	}
}

var errNoGuests = errors.New("no guests here")

// noHypervisor boots nothing.
type noHypervisor struct {
	noDisks
	panics bool
}

func (h noHypervisor) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) {
	if h.panics {
		panic("boom")
	}
	return nil, errNoGuests
}
func (noHypervisor) Close() error { return nil }
