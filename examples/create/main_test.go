package main

import (
	"bytes"
	"net/http"
	"regexp"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestRun(t *testing.T) {
	srv := slicertest.NewServer(t)
	var out bytes.Buffer
	if err := run(t.Context(), srv.Client(), options{cpus: 2, ramGiB: 4, tag: "project=demo"}, &out); err != nil {
		t.Fatalf("run = %v", err)
	}
	if !regexp.MustCompile(`^sbox-1 \d+\.\d+\.\d+\.\d+\n$`).MatchString(out.String()) {
		t.Errorf("run printed %q, want the VM's name and address", out.String())
	}
	vms, err := srv.Client().ListVMsWithOptions(t.Context(), slicer.ListOptions{Tag: "project=demo"})
	if err != nil || len(vms) != 1 || vms[0].CPUs != 2 || vms[0].RamBytes != slicer.GiB(4) {
		t.Errorf("ListVMs(project=demo) = %+v, %v, want one VM of 2 CPUs and 4 GiB", vms, err)
	}
}

func TestRunReportsARefusal(t *testing.T) {
	srv := slicertest.NewServer(t)
	var out bytes.Buffer
	err := run(t.Context(), srv.Client(), options{cpus: 1000}, &out)
	if !slicer.IsAPIStatus(err, http.StatusBadRequest) || out.Len() > 0 {
		t.Errorf("run with 1000 CPUs = %v and printed %q, want a refusal and nothing", err, out.String())
	}
}
