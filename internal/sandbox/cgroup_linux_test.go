package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestFindHierarchies(t *testing.T) {
	const v2Mount = `30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate` + "\n"
	tests := []struct {
		name       string
		mountinfo  string
		membership string
		want       []string // own folder and controllers
	}{
		{"v2 alone", v2Mount, "0::/user.slice/user-1000.slice/session-3.scope\n", []string{"/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope []"}},
		{"v2 at its root", v2Mount, "0::/\n", []string{"/sys/fs/cgroup []"}},
		{
			"v1 with controllers together and a v2 without",
			"32 31 0:29 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 / /c/memory rw - cgroup cgroup rw,memory\n" +
				"34 31 0:31 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n35 31 0:32 / /c/unified rw - cgroup2 cgroup2 rw\n",
			"4:memory:/deep/er\n3:name=systemd:/x\n2:cpu,cpuacct:/\n0::/y\n",
			[]string{"/c/cpu,cpuacct [cpu]", "/c/memory/deep/er [memory]", "/c/unified/y []"},
		},
		{
			"a container without a namespace shows its part of the tree",
			"33 31 0:30 /docker/abc /c/memory rw - cgroup cgroup rw,memory\n", "4:memory:/docker/abc\n",
			[]string{"/c/memory [memory]"},
		},
		{"a mount that shows another part is no use", "33 31 0:30 /docker/abc /c/memory rw - cgroup cgroup rw,memory\n", "4:memory:/docker/abcd\n", nil},
		{"a group outside of the namespace is no use", v2Mount, "0::/../other\n", nil},
		{"the first of two mounts counts", v2Mount + "31 23 0:26 / /mnt/again rw - cgroup2 cgroup2 rw\n", "0::/a\n", []string{"/sys/fs/cgroup/a []"}},
		{"a blank in a mount's name", `30 23 0:26 / /mnt/my\040groups rw - cgroup2 cgroup2 rw` + "\n", "0::/a\n", []string{"/mnt/my groups/a []"}},
		{"a hierarchy that isn't mounted", "", "4:memory:/\n", nil},
		{"lines that make no sense", "x\n- cgroup2\n1 2 - cgroup2\n", "0\n::\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, h := range findHierarchies(tt.mountinfo, tt.membership) {
				got = append(got, fmt.Sprint(h.own, " ", h.controllers))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findHierarchies (-want +got):\n%s", diff)
			}
		})
	}
}

// fakeGroup is a folder with files of the given texts. It stands for a control
// group as far as reading and writing goes; nothing is limited.
func fakeGroup(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLimitWritesTheSizes(t *testing.T) {
	spec := daemon.GuestSpec{CPUs: 2, RAMBytes: 1 << 30}
	memory := strconv.Itoa(1<<30 + agentMemory)
	tests := []struct {
		name string
		v2   bool
		spec daemon.GuestSpec
		has  []string // the files, all empty before
		want map[string]string
	}{
		{"v2", true, spec, []string{"cpu.max", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max"}, map[string]string{
			"cpu.max": "200000 100000", "memory.max": memory, "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "1000",
		}},
		{"v2 without swap", true, spec, []string{"cpu.max", "memory.max", "pids.max"}, map[string]string{
			"cpu.max": "200000 100000", "memory.max": memory, "pids.max": "1000",
		}},
		{"v1", false, spec, []string{"cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max"}, map[string]string{
			"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "200000", "memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory, "pids.max": "1000",
		}},
		{"no sizes", true, daemon.GuestSpec{}, []string{"cpu.max", "memory.max", "pids.max"}, map[string]string{"cpu.max": "", "memory.max": "", "pids.max": "1000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			for _, name := range tt.has {
				files[name] = ""
			}
			dir := fakeGroup(t, files)
			g := &cgroup{spec: tt.spec, threads: 1000}
			for _, controller := range sizeControllers {
				if err := g.limit(&cgroupPart{dir: dir, v2: tt.v2}, controller); err != nil {
					t.Errorf("limit(%s) = %v", controller, err)
				}
			}
			got := map[string]string{}
			for _, name := range tt.has {
				b, _ := os.ReadFile(filepath.Join(dir, name))
				got[name] = string(b)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the group's files (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a file that must be there isn't", func(t *testing.T) {
		g := &cgroup{spec: spec}
		if err := g.limit(&cgroupPart{dir: t.TempDir(), v2: true}, memoryController); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("limit = %v, want %v", err, fs.ErrNotExist)
		}
	})
}

func TestSizesThatCantBeHeldAreNamed(t *testing.T) {
	spec := daemon.GuestSpec{CPUs: 2, RAMBytes: 1 << 30}
	c := &cgroups{missing: map[string]string{cpuController: "none; ask for one"}}
	// Folders without a single control file: no limit can be set, none joined.
	c.parents = []*cgroupParent{{dir: t.TempDir(), controllers: []string{memoryController, pidsController}}}
	g, err := c.add("guest-1", spec, 100)
	if err != nil {
		t.Fatal(err)
	}
	dir := g.parts[0].dir
	g.join(os.Getpid(), false)
	got := g.sizes()
	if len(got) != 2 || got[0] != "cpus: none; ask for one" || !strings.HasPrefix(got[1], "ram_bytes: the guest can't join its memory cgroup") {
		t.Errorf("sizes() = %q, want cpus and ram_bytes with their reasons", got)
	}
	if g.part(pidsController) != nil {
		t.Error("a group that can't be joined counts as one that limits")
	}
	if err := g.remove(); err != nil {
		t.Errorf("remove() = %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the group is left: %v", err)
	}
}

func TestMeasureLeavesOutFileCache(t *testing.T) {
	tests := []struct {
		name  string
		v2    bool
		files map[string]string
		want  uint64
	}{
		{"v2", true, map[string]string{"memory.current": "1000\n", "memory.stat": "anon 1\ninactive_file 300\n"}, 700},
		{"v1", false, map[string]string{"memory.usage_in_bytes": "1000\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 400\n"}, 600},
		{"more cache than use", true, map[string]string{"memory.current": "100\n", "memory.stat": "inactive_file 300\n"}, 0},
		{"more than the guest has", true, map[string]string{"memory.current": "9999\n", "memory.stat": ""}, 5000},
		{"no figure keeps the guest's", true, map[string]string{"memory.current": "x\n"}, 42},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := &cgroup{parts: []*cgroupPart{{dir: fakeGroup(t, tt.files), v2: tt.v2, controllers: []string{memoryController}}}}
			s := &daemon.GuestStats{MemoryTotal: 5000, MemoryUsed: 42}
			g.measure(s)
			if s.MemoryUsed != tt.want {
				t.Errorf("MemoryUsed = %d, want %d", s.MemoryUsed, tt.want)
			}
		})
	}
}

func TestStarvedSaysWhatTheKernelKilledFor(t *testing.T) {
	tests := []struct {
		name string
		v2   bool
		file string
		text string
		want bool
	}{
		{"v2 after a kill", true, "memory.events", "low 0\nmax 7\noom 1\noom_kill 2\n", true},
		{"v2 at the limit without a kill", true, "memory.events", "low 0\nmax 7\noom 1\noom_kill 0\n", false},
		{"v1 after a kill", false, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", true},
		{"v1 without", false, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", false},
		{"no file", true, "other", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := fakeGroup(t, map[string]string{tt.file: tt.text})
			g := &cgroup{parts: []*cgroupPart{{dir: dir, v2: tt.v2, controllers: []string{memoryController}}}}
			if got := g.starved() != ""; got != tt.want {
				t.Errorf("starved() says so: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestForkWatchEndsWhatKeepsRunningIntoItsLimit(t *testing.T) {
	tests := []struct {
		name  string
		looks []int // forks refused in all at each look
		want  bool  // at the last look
	}{
		{"three rises in a row", []int{1, 2, 3}, true},
		{"three after a pause", []int{5, 5, 6, 7, 8}, true},
		{"one burst", []int{900, 900, 900, 900}, false},
		{"two and a pause", []int{1, 2, 2, 3, 4}, false},
		{"none", []int{0, 0, 0, 0}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			g := &cgroup{parts: []*cgroupPart{{dir: dir, controllers: []string{pidsController}}}}
			var w forkWatch
			got := ""
			for i, n := range tt.looks {
				if err := os.WriteFile(filepath.Join(dir, "pids.events"), fmt.Appendf(nil, "max %d\n", n), 0o644); err != nil {
					t.Fatal(err)
				}
				if got != "" {
					t.Fatalf("look %d says %q already", i, got)
				}
				got = w.look(g)
			}
			if (got != "") != tt.want {
				t.Errorf("look() = %q, want a reason: %v", got, tt.want)
			}
		})
	}
}

func TestASweepSparesTheLivingAndTheForeign(t *testing.T) {
	dir := t.TempDir()
	live, err := makeParent(dir, runPrefix+"live")
	if err != nil {
		t.Fatal(err)
	}
	defer live.lock.Close()
	for _, name := range []string{runPrefix + "dead/guest-1/frozen", "other/guest-1"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sweepCgroups(dir, slog.New(slog.DiscardHandler))
	if diff := cmp.Diff([]string{"other", runPrefix + "live"}, folders(t, dir)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	run := fakeGroup(t, map[string]string{groupsFile: dir + "/" + runPrefix + "far\n" + dir + "/other\n" + live.dir + "\n/nowhere\n"})
	if err := os.MkdirAll(filepath.Join(dir, runPrefix+"far", "guest-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	sweepListed(run, slog.New(slog.DiscardHandler))
	if diff := cmp.Diff([]string{"other", runPrefix + "live"}, folders(t, dir)); diff != "" {
		t.Errorf("what is left of those listed (-want +got):\n%s", diff)
	}
	second, err := makeParent(dir, runPrefix+"live")
	if err != nil || second.dir != live.dir+"-1" {
		t.Fatalf("makeParent of a name that is taken = %v, %v, want %s-1", second, err, live.dir)
	}
	second.lock.Close()
}

func folders(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
