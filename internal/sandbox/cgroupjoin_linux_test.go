package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestAGroupThatTheGuestCantJoinFreezesNothing(t *testing.T) {
	dir := t.TempDir() // a folder without cgroup.procs
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &cgroup{
		parts:      []*cgroupPart{{dir: dir, v2: true, controllers: []string{cpuController}}},
		spec:       daemon.GuestSpec{CPUs: 1},
		unenforced: map[string]string{},
	}
	if !g.canFreeze() {
		t.Fatal("canFreeze() = false before join, want true")
	}
	g.join(os.Getpid(), false)
	if g.canFreeze() || g.v2() != nil || len(g.sizes()) != 1 {
		t.Errorf("after a failed join canFreeze() = %v, v2() = %v, sizes() = %q, want no group and the size said to be unenforced", g.canFreeze(), g.v2(), g.sizes())
	}
}
