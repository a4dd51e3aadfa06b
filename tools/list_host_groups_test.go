package tools_test

import (
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestListHostGroups(t *testing.T) {
	group := func(name string, count int) slicer.SlicerHostGroup {
		return slicer.SlicerHostGroup{Name: name, CPUs: 2, RamBytes: slicer.GiB(3), Count: count, Arch: "arm64"}
	}
	for _, tc := range []struct {
		name   string
		groups []slicer.SlicerHostGroup
		first  string // the default
		wants  []string
	}{
		{"the only one is the default", []slicer.SlicerHostGroup{group("vm", 0)}, "vm", []string{"1 host group.", "vm: up to 2 CPUs and 3 GiB a VM", "the default", `create_vm takes "vm"`}},
		{"a Mac's sbox, never slicer", []slicer.SlicerHostGroup{group("slicer", 1), group("sbox", 0)}, "sbox", []string{"2 host groups.", "1 VM kept by the daemon", `create_vm takes "sbox"`}},
		{"none of several", []slicer.SlicerHostGroup{group("a", 0), group("b", 0)}, "", []string{"a: up to", "b: up to", "there is no default among several"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := connect(t, tools.Config{Client: slicertest.NewServer(t, slicertest.Options{Groups: tc.groups}).Client()})
			var list struct {
				Groups []struct {
					Group, Arch string
					Default     bool
					CPUs, Kept  int
					RAMGiB      float64 `json:"ram_gib"`
				}
				Next string
			}
			text := s.record("list_host_groups", args{}, &list)
			wantText(t, "list_host_groups", text, append(tc.wants, list.Next)...)
			for i, g := range list.Groups {
				want := tc.groups[i]
				if g.Group != want.Name || g.CPUs != 2 || g.RAMGiB != 3 || g.Kept != want.Count || g.Default != (want.Name == tc.first) {
					t.Errorf("list_host_groups = %+v, want %+v, the default being %q", g, want, tc.first)
				}
				wantText(t, "list_host_groups", text, g.Arch)
			}
			if strings.Contains(text, "the default\n") != (tc.first != "") {
				t.Errorf("list_host_groups = %q, want the default %q", text, tc.first)
			}
			if tc.first == "" {
				wantText(t, "create_vm", s.fail("create_vm", args{}), "several host groups", "a (up to 2 CPUs, 3 GiB)")
				return
			}
			wantText(t, "create_vm", s.call("create_vm", args{}), "VM "+tc.first+"-")
		})
	}
}

func TestNoHostGroup(t *testing.T) {
	s := connect(t, tools.Config{Client: daemonWith(t, answer(200, "[]"))})
	wantText(t, "list_host_groups", s.call("list_host_groups", args{}), "0 host groups.", "Tell the user")
}
