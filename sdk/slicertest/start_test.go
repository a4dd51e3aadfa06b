package slicertest_test

import (
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestStart(t *testing.T) {
	srv, err := slicertest.Start(slicertest.Options{Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if _, err := srv.Client().CreateVM(t.Context(), "", slicer.SlicerCreateNodeRequest{}); err != nil {
		t.Errorf("CreateVM: %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts slicertest.Options
	}{
		{"a Unix socket", slicertest.Options{Network: slicertest.Unix}},
		{"a network that isn't", slicertest.Options{Network: 17}},
		{"a group without a name", slicertest.Options{Groups: []slicer.SlicerHostGroup{{CPUs: 1}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, err := slicertest.Start(tt.opts)
			if err == nil {
				srv.Close()
				t.Errorf("Start(%+v) = nil, want an error", tt.opts)
			}
		})
	}
}
