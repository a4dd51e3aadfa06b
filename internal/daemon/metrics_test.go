package daemon_test

import (
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestMetrics(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for range 3 {
		a.create(`{"cpus":2,"ram_bytes":16777216}`)
	}
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
	a.want(200, "POST", "/vm/sbox-2/pause", "")
	a.want(201, "POST", "/secrets", secretBody("key", "x", ""))
	got := a.want(200, "GET", "/metrics", "")
	if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("metrics are %s, want Prometheus text", kind)
	}
	for _, line := range []string{
		"# TYPE slicer_vms gauge",
		`slicer_vms{hostgroup="sbox",status="Running"} 1`,
		`slicer_vms{hostgroup="sbox",status="Paused"} 1`,
		`slicer_vms{hostgroup="sbox",status="Suspended"} 0`,
		"# TYPE slicer_vms_booted_total counter",
		`slicer_vms_booted_total{hostgroup="sbox"} 3`,
		`slicer_vm_cpus{hostgroup="sbox"} 4`,
		`slicer_secrets 1`,
	} {
		if !strings.Contains(got.body, line+"\n") {
			t.Errorf("metrics have no line %q:\n%s", line, got.body)
		}
	}
	if strings.Contains(got.body, "sbox-") {
		t.Error("metrics name single VMs, of which there can be any number over time")
	}
}
