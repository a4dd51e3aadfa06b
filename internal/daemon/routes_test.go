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

func TestInfo(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	var got map[string]string
	decode(t, a.want(200, "GET", "/info", "").body, &got)
	want := map[string]string{"version": "slicertest", "git_commit": "", "platform": runtime.GOOS, "arch": runtime.GOARCH}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GET /info (-want +got):\n%s", diff)
	}
	if got := a.want(200, "GET", "/healthz", "").body; got != "OK" {
		t.Errorf("GET /healthz = %q, want OK", got)
	}
	if got := a.want(200, "HEAD", "/healthz", "").body; got != "" {
		t.Errorf("HEAD /healthz = %q, want no body", got)
	}
}

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

func TestRefusedRequests(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{}`)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown path", "GET", "/nope", "", 404, "no such path"},
		{"trailing slash", "GET", "/nodes/", "", 404, "slash"},
		{"trailing slash of a VM", "GET", "/vm/sbox-1/", "", 404, "slash"},
		{"double slash", "GET", "//nodes", "", 404, "no such path"},
		{"dots in the path", "GET", "/vm/../secrets", "", 404, "no such path"},
		{"escaped dots as a VM", "GET", "/vm/..%2Fsecrets/health", "", 404, `no VM named "../secrets"`},
		{"wrong method", "PUT", "/nodes", "", 405, "use GET"},
		{"wrong method with a path value", "DELETE", "/vm/sbox-1/exec", "", 405, "use GET, HEAD, POST"},
		{"unknown query parameter", "GET", "/nodes?colour=red", "", 400, `"colour"`},
		{"unknown query parameter without a value", "GET", "/info?x", "", 400, `"x"`},
		{"unknown exec parameter", "POST", "/vm/sbox-1/exec?cmd=true&tty=1", "", 400, `"tty"`},
		{"parameter given twice", "GET", "/nodes?tag=a&tag=b", "", 400, `"tag"`},
		{"broken query", "GET", "/nodes?tag=%zz", "", 400, "query"},
		{"unknown host group", "GET", "/hostgroup/x/nodes", "", 404, `"x"`},
		{"unknown host group on create", "POST", "/hostgroup/x/nodes", "{}", 404, `"x"`},
		{"unknown host group on delete", "DELETE", "/hostgroup/x/nodes/sbox-1", "", 404, `"x"`},
		{"unknown VM on delete", "DELETE", "/hostgroup/sbox/nodes/sbox-9", "", 404, `"sbox-9"`},
		{"unknown VM on pause", "POST", "/vm/sbox-9/pause", "", 404, `"sbox-9"`},
		{"unknown VM on resume", "POST", "/vm/sbox-9/resume", "", 404, `"sbox-9"`},
		{"unknown VM on health", "GET", "/vm/sbox-9/health", "", 404, `"sbox-9"`},
		{"unknown VM on exec", "POST", "/vm/sbox-9/exec?cmd=true", "", 404, `"sbox-9"`},
		{"unknown VM on cp", "GET", "/vm/sbox-9/cp?path=/x", "", 404, `"sbox-9"`},
		{"unknown VM on logs", "GET", "/vm/sbox-9/logs", "", 404, `"sbox-9"`},
		{"both tag filters", "GET", "/nodes?tag=a&tag_prefix=b", "", 400, "together"},
		{"empty tag filter", "GET", "/nodes?tag=", "", 400, "empty"},
		{"lines is no number", "GET", "/vm/sbox-1/logs?lines=all", "", 400, "lines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, tt.path, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("%s %s = %d %s, want %d and %q", tt.method, tt.path, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	if got := a.call("PUT", "/secrets", "").header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("PUT /secrets: Allow = %q, want GET, HEAD, POST", got)
	}
}

func TestToken(t *testing.T) {
	a := newAPI(t, slicertest.Options{Token: "s3cret"})
	for _, tt := range []struct {
		name, path, auth string
		status           int
	}{
		{"none", "/nodes", "", 401},
		{"wrong", "/nodes", "Bearer s3creT", 401},
		{"a prefix", "/nodes", "Bearer s3cre", 401},
		{"empty", "/nodes", "Bearer ", 401},
		{"another scheme", "/nodes", "Basic s3cret", 401},
		{"without a scheme", "/nodes", "s3cret", 401},
		{"right", "/nodes", "Bearer s3cret", 200},
		{"right, scheme in lower case", "/nodes", "bearer s3cret", 200},
		{"unknown path without a token", "/nope", "", 401},
		{"healthz without a token", "/healthz", "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("GET", tt.path, "", "Authorization", tt.auth)
			if got.status != tt.status {
				t.Fatalf("GET %s with %q = %d, want %d", tt.path, tt.auth, got.status, tt.status)
			}
			if tt.status == 401 && strings.Contains(got.message(t), "s3cre") {
				t.Errorf("401 says %q, which has the token", got.body)
			}
		})
	}
	if _, err := a.srv.Client().ListVMs(t.Context()); err != nil {
		t.Errorf("ListVMs with the token = %v, want no error", err)
	}
}

func TestForeignWebPageIsRefused(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	got := a.call("POST", execPath(vm, "cmd", "true"), "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	if got.status != 403 {
		t.Errorf("exec from another site's page = %d %s, want 403", got.status, got.body)
	}
}

func TestBodiesAreStrict(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for _, tt := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"unknown field", `{"cpu":1}`, 400, `unknown field "cpu"`},
		{"wrong type", `{"cpus":"1"}`, 400, "cpus"},
		{"not JSON", `cpus=1`, 400, "body"},
		{"cut short", `{"cpus":1`, 400, "body"},
		{"data after the value", `{} {}`, 400, "more"},
		{"too large", `{"userdata":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "larger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("POST", "/hostgroup/sbox/nodes", tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("create = %d %s, want %d and %q", got.status, got.body, tt.status, tt.says)
			}
		})
	}
	if got := a.hostnames("/nodes"); len(got) != 0 {
		t.Errorf("VMs after refused bodies = %v, want none", got)
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
			d, err := daemon.New(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("New = %v, %v, want an error with %q", d, err, tt.says)
			}
		})
	}
}

func TestDefaultGroupHasTheMachinesSize(t *testing.T) {
	d, err := daemon.New(daemon.Config{Hypervisor: noHypervisor{}})
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
	d, err := daemon.New(daemon.Config{Hypervisor: noHypervisor{panics: true}})
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
	d, err := daemon.New(daemon.Config{Hypervisor: noHypervisor{}})
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
