package daemon_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestDescribe(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"cpus":2,"tags":["name=x"]}`)
	a.want(200, "POST", "/vm/"+vm+"/suspend", "")
	var got, node map[string]any
	decode(t, a.want(200, "GET", "/vm/"+vm, "").body, &got)
	var nodes []map[string]any
	decode(t, a.want(200, "GET", "/nodes", "").body, &nodes)
	closed := map[string]any{"allow": []any{}, "drop": []any{"0.0.0.0/0", "::/0"}}
	node = nodes[0]
	for name, value := range map[string]any{
		"storage": "ephemeral", "image": "", "commit_id": "", "parent_commit_id": "",
		"network": map[string]any{
			"mode": "isolated", "policy_source": "host_group", "host_group": closed, "override": nil, "effective": closed,
		},
		"suspend":    "memory is kept by freezing: it stays in the machine's RAM, and goes with the VM and with the daemon",
		"unenforced": []any{},
	} {
		node[name] = value
	}
	if diff := cmp.Diff(node, got); diff != "" {
		t.Errorf("GET /vm/%s (-want +got):\n%s", vm, diff)
	}
	if got["status"] != "Suspended" {
		t.Errorf("status = %v, want Suspended", got["status"])
	}
	a.want(404, "GET", "/vm/sbox-9", "")
	a.want(400, "GET", "/vm/"+vm+"?full=1", "")
}

func TestDescriptionOfTheHostsNetwork(t *testing.T) {
	g := &brokenGuest{done: make(chan struct{})}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g, Image: "host root", Network: daemon.NetworkHost})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer func() {
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	if status, text := serveOnce(t, d, "POST", "/hostgroup/sbox/nodes"); status != 201 {
		t.Fatalf("create = %d %s", status, text)
	}
	_, text := serveOnce(t, d, "GET", "/vm/sbox-1")
	var got struct {
		Image   string
		Network struct {
			Mode      string
			Effective struct{ Allow, Drop []string }
		}
	}
	decode(t, text, &got)
	if got.Image != "host root" || got.Network.Mode != "host" || len(got.Network.Effective.Allow) != 2 || len(got.Network.Effective.Drop) != 0 {
		t.Errorf("description = %s, want the host's network, open", text)
	}
}

// looseGuest is a guest, and its own hypervisor, that isn't held to its size.
type looseGuest struct{ *brokenGuest }

func (g looseGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }
func (g looseGuest) EndReason() string                                            { return "" }
func (g looseGuest) Unenforced() []string                                         { return []string{"cpus: no cgroup"} }

func TestUnenforcedSizesAreTold(t *testing.T) {
	var log lockedBuffer
	d, err := daemon.New(t.Context(), daemon.Config{
		Hypervisor: looseGuest{&brokenGuest{done: make(chan struct{})}}, Log: slog.New(slog.NewTextHandler(&log, nil)), Image: "jammy",
	})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer func() {
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	a := &api{t: t, handler: d}
	vm := a.create(`{"disk_image":"jammy","network":{"drop":["10.0.0.0/8"]}}`)
	var got struct {
		Unenforced []string
		Network    struct{ Override struct{ Drop []string } }
	}
	decode(t, a.want(200, "GET", "/vm/"+vm, "").body, &got)
	if !cmp.Equal(got.Unenforced, []string{"cpus: no cgroup"}) || !cmp.Equal(got.Network.Override.Drop, []string{"10.0.0.0/8"}) {
		t.Errorf("description = %+v, want what isn't enforced and the VM's own policy", got)
	}
	if text := log.String(); strings.Count(text, "no cgroup") != 1 || !strings.Contains(text, "WARN") {
		t.Errorf("log = %s, want a warning", text)
	}
}

func TestPoliciesOnTheHostsNetwork(t *testing.T) {
	g := &brokenGuest{done: make(chan struct{})}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g, Network: daemon.NetworkHost})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer func() {
		if err := d.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	a := &api{t: t, handler: d}
	if got := a.want(501, "POST", "/hostgroup/sbox/nodes", `{"network":{"drop":["10.0.0.0/8"]}}`).message(t); !strings.Contains(got, "nothing can be dropped") {
		t.Errorf("a policy that drops says %q, want why it can't", got)
	}
	a.create(`{"network":{"allow":["10.0.0.0/8","1.1.1.1"]}}`)
}
