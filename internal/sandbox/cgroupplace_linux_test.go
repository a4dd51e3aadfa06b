package sandbox

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// TestAServerThatStaysInItsGroupKeepsTheLock is about a group that the server has
// moved to and can't leave: a sweep must not take it for a dead server's.
func TestAServerThatStaysInItsGroupKeepsTheLock(t *testing.T) {
	own := t.TempDir()
	leaf, err := makeParent(own, runPrefix+"test-server")
	if err != nil {
		t.Fatal(err)
	}
	stayIn(leaf)
	if err := leaf.lock.Close(); err != nil { // as the garbage collector does
		t.Fatal(err)
	}
	sweepCgroups(own, slog.New(slog.DiscardHandler))
	if _, err := os.Stat(filepath.Join(own, runPrefix+"test-server")); err != nil {
		t.Errorf("Stat of the server's group after the sweeps = %v", err)
	}
}

// placeEnv makes TestPlaceHelper a server in a group of cgroup v2 that the
// variable names, with a controller after a blank.
const placeEnv = "SANDBOX_TEST_PLACE"

func TestPlaceHelper(t *testing.T) {
	group, controller, ok := strings.Cut(os.Getenv(placeEnv), " ")
	if !ok {
		t.Skip("a part of TestWhereTheServersGroupGoes")
	}
	self := strconv.Itoa(os.Getpid())
	join := func(dir, pid string) {
		t.Helper()
		if err := writeKnob(dir, "cgroup.procs", pid); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("alone, below its own", func(t *testing.T) {
		join(group, self)
		c := placed(t, group, controller, group)
		if diff := cmp.Diff([]string{self}, words(filepath.Join(group, runPrefix+"test-server"), "cgroup.procs")); diff != "" {
			t.Errorf("the server's leaf (-want +got):\n%s", diff)
		}
		if err := c.close(); err != nil {
			t.Errorf("close() = %v", err)
		}
		if !slices.Contains(words(group, "cgroup.procs"), self) {
			t.Error("the server isn't back in its group")
		}
	})
	t.Run("in company, below the group above", func(t *testing.T) {
		own := filepath.Join(group, "own")
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		join(own, self)
		enable(group, []string{controller})
		company := asleep(t)
		join(own, strconv.Itoa(company.Process.Pid))
		c := placed(t, own, controller, group)
		if got := words(own, "cgroup.procs"); len(got) != 2 {
			t.Errorf("the server's group has %q, want both processes", got)
		}
		if err := c.close(); err != nil {
			t.Errorf("close() = %v", err)
		}
	})
	if dirs, err := filepath.Glob(filepath.Join(group, runPrefix+"*")); err != nil || len(dirs) > 0 {
		t.Errorf("groups %q are left", dirs)
	}
}

// placed makes the groups of a server in own, whose place should be want, and
// has a guest's process join and end in them.
func placed(t *testing.T, own, controller, want string) *cgroups {
	t.Helper()
	c := &cgroups{missing: map[string]string{}}
	c.addV2(hierarchy{mount: filepath.Dir(want), own: own}, runPrefix+"test", []string{controller}, slog.New(slog.DiscardHandler))
	if p := c.parentOf(controller); p == nil || filepath.Dir(p.dir) != want {
		t.Fatalf("the server's groups are %+v, missing %v, want one in %s", c.parents, c.missing, want)
	}
	g, err := c.add("guest-1", daemon.GuestSpec{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	guest := asleep(t)
	g.join(guest.Process.Pid, false)
	if diff := cmp.Diff([]string{strconv.Itoa(guest.Process.Pid)}, words(g.parts[0].dir, "cgroup.procs")); diff != "" {
		t.Errorf("the guest's group (-want +got):\n%s", diff)
	}
	g.kill()
	if err := guest.Wait(); err == nil {
		t.Error("Wait() = nil, want the kill")
	}
	if err := g.remove(); err != nil {
		t.Errorf("remove() = %v", err)
	}
	return c
}

func asleep(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed by the test or by its context
	return cmd
}

func TestWhereTheServersGroupGoes(t *testing.T) {
	mountinfo, err1 := os.ReadFile("/proc/self/mountinfo")
	membership, err2 := os.ReadFile("/proc/self/cgroup")
	if err := errors.Join(err1, err2); err != nil {
		t.Skip(err)
	}
	for _, h := range findHierarchies(string(mountinfo), string(membership)) {
		offered := words(h.mount, "cgroup.subtree_control")
		if !h.isV2() || len(offered) == 0 {
			continue
		}
		group, err := os.MkdirTemp(h.mount, "slicervm-mcp-test-")
		if err != nil {
			t.Skipf("no group of cgroup v2 for this user: %v", err)
		}
		defer func() {
			if err := removeCgroup(group); err != nil {
				t.Errorf("removeCgroup(%s) = %v", group, err)
			}
		}()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlaceHelper$", "-test.v")
		cmd.Env = append(os.Environ(), placeEnv+"="+group+" "+offered[0])
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("the helper: %v\n%s", err, out)
		}
		return
	}
	t.Skip("no cgroup v2 with controllers")
}
