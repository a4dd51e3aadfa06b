package slicer_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// exchange is one request with the answer to it.
type exchange struct {
	answer string
	want   string // method, request URI and body
}

// playback serves exchanges in order.
func playback(t *testing.T, exchanges ...exchange) *slicer.SlicerClient {
	t.Helper()
	i := 0
	t.Cleanup(func() {
		if i < len(exchanges) {
			t.Errorf("%d requests, want %d", i, len(exchanges))
		}
	})
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := strings.TrimSpace(r.Method + " " + r.RequestURI + " " + string(body))
		if i >= len(exchanges) {
			t.Errorf("unexpected request %q", got)
			return
		}
		if got != exchanges[i].want {
			t.Errorf("request %q, want %q", got, exchanges[i].want)
		}
		_, _ = io.WriteString(w, exchanges[i].answer)
		i++
	})
}

func TestListings(t *testing.T) {
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	nodes := []slicer.SlicerNode{{
		Hostname: "sbox-1", IP: "192.168.137.2/24", RamBytes: 1 << 30, CPUs: 2, CreatedAt: created,
		Arch: "x86_64", Tags: []string{"name=x"}, Status: "Running", HostGroup: "sbox", Persistent: true,
	}}
	nodesJSON := `[{"hostname":"sbox-1","hostgroup":"sbox","ip":"192.168.137.2/24","ram_bytes":1073741824,"cpus":2,
		"created_at":"2026-03-01T12:00:00Z","arch":"x86_64","tags":["name=x"],"status":"Running","persistent":true,"later":{}}]`
	client := playback(
		t,
		exchange{`{"version":"1","git_commit":"c","platform":"linux","arch":"amd64"}`, "GET /info"},
		exchange{`[{"name":"sbox","count":1,"ram_bytes":5,"cpus":2,"arch":"arm64","gpu_count":3}]`, "GET /hostgroup"},
		exchange{nodesJSON, "GET /hostgroup/sbox/nodes"},
		exchange{nodesJSON, "GET /nodes"},
		exchange{nodesJSON, "GET /nodes?tag=name%3Dx"},
		exchange{nodesJSON, "GET /nodes?tag_prefix=owner%3D"},
	)
	ctx := t.Context()

	info, err := client.GetInfo(ctx)
	check(t, "GetInfo", info, err, &slicer.SlicerInfo{Version: "1", GitCommit: "c", Platform: "linux", Arch: "amd64"})
	groups, err := client.GetHostGroups(ctx)
	check(t, "GetHostGroups", groups, err, []slicer.SlicerHostGroup{{Name: "sbox", Count: 1, RamBytes: 5, CPUs: 2, Arch: "arm64", GPUCount: 3}})
	got, err := client.GetHostGroupNodes(ctx, "sbox")
	check(t, "GetHostGroupNodes", got, err, nodes)
	got, err = client.ListVMs(ctx)
	check(t, "ListVMs", got, err, nodes)
	got, err = client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: "name=x"})
	check(t, "ListVMsWithOptions", got, err, nodes)
	got, err = client.ListVMsWithOptions(ctx, slicer.ListOptions{TagPrefix: "owner="})
	check(t, "ListVMsWithOptions", got, err, nodes)
	if _, err := client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: "a", TagPrefix: "b"}); err == nil {
		t.Error("ListVMsWithOptions with tag and prefix = nil, want an error")
	}
}

// check compares what a call returned with want and no error.
func check(t *testing.T, call string, got any, err error, want any) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", call, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", call, diff)
	}
}

func TestCreateVM(t *testing.T) {
	const created = `{"hostname":"sbox-1","hostgroup":"sbox","ip":"10.0.0.2/24","created_at":"2026-03-01T12:00:00Z","arch":"x86_64"}`
	request := slicer.SlicerCreateNodeRequest{RamBytes: slicer.GiB(1), CPUs: 1, Tags: []string{"a=b"}}
	const body = ` {"ram_bytes":1073741824,"cpus":1,"tags":["a=b"]}`
	client := playback(
		t,
		exchange{created, "POST /hostgroup/sbox/nodes" + body},
		exchange{created, "POST /hostgroup/sbox/nodes?timeout=1m30s&wait=agent" + body},
		exchange{`[{"name":"only"}]`, "GET /hostgroup"},
		exchange{created, "POST /hostgroup/only/nodes {}"},
		exchange{`[{"name":"one"},{"name":"two"}]`, "GET /hostgroup"},
		exchange{`[]`, "GET /hostgroup"},
	)
	ctx := t.Context()
	want := &slicer.SlicerCreateNodeResponse{
		Hostname: "sbox-1", IP: "10.0.0.2/24", CreatedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Arch: "x86_64", HostGroup: "sbox",
	}
	node, err := client.CreateVM(ctx, "sbox", request)
	check(t, "CreateVM", node, err, want)
	node, err = client.CreateVMWithOptions(ctx, "sbox", request, slicer.CreateVMOptions{Wait: "agent", Timeout: 90 * time.Second})
	check(t, "CreateVMWithOptions", node, err, want)
	node, err = client.CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{})
	check(t, "CreateVM of the only group", node, err, want)
	if _, err := client.CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{}); err == nil || !strings.Contains(err.Error(), "one, two") {
		t.Errorf("CreateVM with two groups = %v, want an error that names them", err)
	}
	if _, err := client.CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{}); err == nil {
		t.Error("CreateVM without a group = nil, want an error")
	}
	for _, opts := range []slicer.CreateVMOptions{{Timeout: time.Second}, {Wait: "agent", Timeout: -1}} {
		if _, err := client.CreateVMWithOptions(ctx, "sbox", request, opts); err == nil {
			t.Errorf("CreateVMWithOptions(%+v) = nil, want an error", opts)
		}
	}
}

func TestIPAddress(t *testing.T) {
	for ip, want := range map[string]string{
		"192.168.137.2/24": "192.168.137.2", "10.0.0.1": "10.0.0.1", "fd00::1/64": "fd00::1",
		"": "<nil>", "nonsense": "<nil>", "/24": "<nil>",
	} {
		node := slicer.SlicerCreateNodeResponse{IP: ip}
		if got := node.IPAddress().String(); got != want {
			t.Errorf("IPAddress of %q = %v, want %v", ip, got, want)
		}
	}
}

func TestDeleteAndStates(t *testing.T) {
	client := playback(
		t,
		exchange{`{"message":"deleted","disk_removed":"true","error":""}`, "DELETE /hostgroup/g/nodes/vm-1"},
		exchange{"", "DELETE /hostgroup/g/nodes/vm-1"},
		exchange{"paused", "POST /vm/vm-1/pause"},
		exchange{"resumed", "POST /vm/vm-1/resume"},
	)
	deleted, err := client.DeleteVM(t.Context(), "g", "vm-1")
	check(t, "DeleteVM", deleted, err, &slicer.SlicerDeleteResponse{Message: "deleted", DiskRemoved: "true"})
	if err := client.DeleteNode("g", "vm-1"); err != nil {
		t.Errorf("DeleteNode = %v", err)
	}
	if err := client.PauseVM(t.Context(), "vm-1"); err != nil {
		t.Errorf("PauseVM = %v", err)
	}
	if err := client.ResumeVM(t.Context(), "vm-1"); err != nil {
		t.Errorf("ResumeVM = %v", err)
	}
}

func TestHealthUptimesAreSeconds(t *testing.T) {
	for _, tt := range []struct {
		body string
		want slicer.SlicerAgentHealthResponse
	}{
		{
			`{"hostname":"vm-1","agent_uptime":90,"agent_version":"2","system_uptime":120,"userdata_ran":true}`,
			slicer.SlicerAgentHealthResponse{
				Hostname: "vm-1", AgentUptime: 90 * time.Second, AgentVersion: "2",
				SystemUptime: 2 * time.Minute, UserdataRan: true,
			},
		},
		{`{"agent_uptime":1.5,"system_uptime":1e2}`, slicer.SlicerAgentHealthResponse{AgentUptime: 1500 * time.Millisecond, SystemUptime: 100 * time.Second}},
		{`{}`, slicer.SlicerAgentHealthResponse{}},
	} {
		client := playback(t, exchange{tt.body, "GET /vm/vm-1/health"})
		got, err := client.GetAgentHealth(t.Context(), "vm-1", true)
		check(t, "GetAgentHealth", got, err, &tt.want)
	}
	for _, body := range []string{`{"agent_uptime":"soon"}`, `[]`} {
		client := playback(t, exchange{body, "GET /vm/vm-1/health"})
		if got, err := client.GetAgentHealth(t.Context(), "vm-1", true); err == nil {
			t.Errorf("GetAgentHealth of %s = %v, want an error", body, got)
		}
	}
}

func TestHealthRoundTrips(t *testing.T) {
	for _, uptime := range []time.Duration{0, time.Second, 1500 * time.Millisecond, 1, 1<<63 - 1, -1, -1500 * time.Millisecond} {
		want := slicer.SlicerAgentHealthResponse{Hostname: "h", AgentUptime: uptime, SystemUptime: uptime, UserdataRan: true}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got slicer.SlicerAgentHealthResponse
		if err := json.Unmarshal(data, &got); err != nil || got != want {
			t.Errorf("%s = %+v, %v, want %+v", data, got, err, want)
		}
	}
}
