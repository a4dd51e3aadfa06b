package daemon_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{"tags":["name=x"]}`)
		time.Sleep(90 * time.Second)
		a.srv.SetStats(vm, slicertest.Stats{
			CPUs: 3, MemoryTotal: 1000, MemoryUsed: 250, Load1: 1.5, Load5: math.NaN(), Load15: math.Inf(1),
			DiskTotal: 400, DiskUsed: 500, DiskReadBytes: 1, DiskWriteBytes: 2, NetReadBytes: 3, NetWriteBytes: 4,
			OpenConnections: 5, OpenFiles: 6,
		})
		var got, node map[string]any
		decode(t, a.want(200, "GET", "/node/"+vm+"/stats", "").body, &got)
		decode(t, a.want(200, "GET", "/vm/"+vm, "").body, &node)
		want := map[string]any{
			"error": "",
			"snapshot": map[string]any{
				"hostname": vm, "arch": node["arch"], "timestamp": time.Now().UTC().Format(time.RFC3339Nano), "uptime": "1m30s",
				"totalCpus": 3.0, "totalMemory": 1000.0, "memoryUsed": 250.0, "memoryAvailable": 750.0, "memoryUsedPercent": 25.0,
				"loadAvg1": 1.5, "loadAvg5": 0.0, "loadAvg15": 0.0,
				"diskReadTotal": 1.0, "diskWriteTotal": 2.0, "networkReadTotal": 3.0, "networkWriteTotal": 4.0,
				"diskIOInflight": 0.0, "openConnections": 5.0, "openFiles": 6.0, "entropy": 0.0,
				"diskSpaceTotal": 400.0, "diskSpaceUsed": 500.0, "diskSpaceFree": 0.0, "diskSpaceUsedPercent": 125.0,
			},
		}
		for _, name := range []string{"hostname", "hostgroup", "ip", "ram_bytes", "cpus", "created_at", "arch", "tags", "status", "persistent"} {
			want[name] = node[name]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}

func TestStatsOfEachVM(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for range 5 {
		a.create(`{"cpus":2}`)
	}
	a.want(200, "POST", "/vm/sbox-2/pause", "")
	a.want(200, "POST", "/vm/sbox-3/suspend", "")
	a.srv.SetStats("sbox-4", slicertest.Stats{Err: errors.ErrUnsupported})
	a.srv.SetStats("sbox-5", slicertest.Stats{Err: errors.New("no cgroup")})
	a.srv.SetStats("sbox-9", slicertest.Stats{}) // nobody
	var got []struct {
		Hostname, Status, Error string
		Snapshot                *struct {
			TotalCPUs   int   `json:"totalCpus"`
			TotalMemory int64 `json:"totalMemory"`
		}
	}
	decode(t, a.want(200, "GET", "/nodes/stats", "").body, &got)
	says := []string{"", "is paused", "is suspended", "no meter", "no cgroup"}
	if len(got) != len(says) {
		t.Fatalf("stats of %d VMs, want %d", len(got), len(says))
	}
	for i, s := range got {
		if (s.Snapshot == nil) != (says[i] != "") || !strings.Contains(s.Error, says[i]) {
			t.Errorf("stats of %s = %+v, want the error %q", s.Hostname, s, says[i])
		}
	}
	if s := got[0].Snapshot; s != nil && (s.TotalCPUs != 2 || s.TotalMemory != 8<<30) {
		t.Errorf("snapshot = %+v, want the VM's own size", *s)
	}
	a.want(404, "GET", "/node/sbox-9/stats", "")
	a.want(400, "GET", "/nodes/stats?tag=x", "")
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
	a.want(404, "GET", "/node/sbox-1/stats", "")
}
