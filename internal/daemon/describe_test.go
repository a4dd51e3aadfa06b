package daemon_test

import (
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
		"suspend": "memory is kept by freezing: it stays in the machine's RAM, and goes with the VM and with the daemon",
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
	d, err := daemon.New(daemon.Config{Hypervisor: g, Image: "host root", Network: daemon.NetworkHost})
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
