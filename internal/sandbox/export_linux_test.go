package sandbox

import (
	"context"
	"path/filepath"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// LimitProcesses lowers the limit of processes for guests booted from now on,
// and returns what a guest gets with the agent's share.
func (h *Hypervisor) LimitProcesses(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = n
	return n + agentThreads
}

// GroupOf is the folder of the control group that limits a guest with the cpu,
// memory or pids controller; "" is none.
func GroupOf(g daemon.Guest, controller string) string {
	if p := g.(*guest).group.part(controller); p != nil {
		return p.dir
	}
	return ""
}

// GroupsOf are the folders of all of a guest's control groups.
func GroupsOf(g daemon.Guest) []string {
	var dirs []string
	for _, p := range g.(*guest).group.parts {
		dirs = append(dirs, p.dir)
	}
	return dirs
}

// FreezesInGroup says whether a control group freezes a guest.
func FreezesInGroup(g daemon.Guest) bool { return g.(*guest).group.canFreeze() }

// FreezeBySignal freezes a guest as where no control group does.
func FreezeBySignal(ctx context.Context, g daemon.Guest) error {
	_, err := g.(*guest).call(ctx, &request{Op: "freeze"})
	return err
}

// ThawBySignal undoes FreezeBySignal.
func ThawBySignal(ctx context.Context, g daemon.Guest) error {
	_, err := g.(*guest).call(ctx, &request{Op: "thaw"})
	return err
}

// Frozen says whether a guest's group is frozen, and how many of its processes
// are outside of that.
func Frozen(g daemon.Guest) (frozen bool, outside int) {
	dir := g.(*guest).group.v2().dir
	below := &cgroupPart{dir: filepath.Join(dir, frozenGroup)}
	return below.count("cgroup.events", "frozen") == 1, len(words(dir, "cgroup.procs"))
}

// LimitsUsers says whether a guest's users are limited one by one.
func LimitsUsers(g daemon.Guest) bool {
	o := g.(*guest)
	return userLimit(o.hyp.idmap.Kind, o.group) > 0
}

// RemoveDisksWith makes remove what removes the files of disks.
func (h *Hypervisor) RemoveDisksWith(remove func(dir string, removeAll func(dir string) error) error) {
	h.disks.remove = func(dir string) error { return remove(dir, h.removeAll) }
}

// HasRange says whether a guest's ids are a range of its own.
func HasRange(g daemon.Guest) bool { return g.(*guest).hyp.idmap.Kind == idmapRange }

// HasOneID says whether a guest has one id alone.
func HasOneID(g daemon.Guest) bool { return g.(*guest).hyp.idmap.Kind == idmapSingle }

// CheckRangeID checks a file's owner as for guests with a range of ids.
func CheckRangeID(uid uint32) error {
	return idmap{Kind: idmapRange}.checkIDs(&request{Attr: &attr{UID: &uid}})
}
