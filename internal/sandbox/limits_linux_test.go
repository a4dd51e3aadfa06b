package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// needGroup skips where this user has no control group with the controller.
// Root must have one where SLICERVM_REQUIRE_SANDBOX=1.
func needGroup(t *testing.T, g daemon.Guest, controller string) string {
	t.Helper()
	dir := sandbox.GroupOf(g, controller)
	if dir == "" && os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" && os.Geteuid() == 0 {
		t.Fatalf("no %s control group: %q, want one for root: SLICERVM_REQUIRE_SANDBOX is set", controller, g.Unenforced())
	}
	if dir == "" {
		t.Skipf("no %s control group: %q", controller, g.Unenforced())
	}
	return dir
}

// groupFigure reads one line of a control group's file of names and numbers.
func groupFigure(t *testing.T, dir, file, name string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s/%s has no line %q", dir, file, name)
	return 0
}

func waitDone(t *testing.T, g daemon.Guest, limit time.Duration) {
	t.Helper()
	select {
	case <-g.Done():
	case <-time.After(limit):
		t.Fatalf("the guest hasn't ended after %s", limit)
	}
}

func TestUnenforcedNamesTheSizesWithoutAGroup(t *testing.T) {
	h := newHypervisor(t)
	sized := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", CPUs: 1, RAMBytes: 1 << 30})
	lines := strings.Join(sized.Unenforced(), "\n")
	for controller, size := range map[string]string{"cpu": "cpus: ", "memory": "ram_bytes: "} {
		said := strings.HasPrefix(lines, size) || strings.Contains(lines, "\n"+size)
		if held := sandbox.GroupOf(sized, controller) != ""; held == said {
			t.Errorf("Unenforced() = %q with a %s group: %v, want %s named otherwise only", lines, controller, held, size)
		}
	}
	if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" && os.Geteuid() == 0 && lines != "" {
		t.Errorf("Unenforced() = %q, want none for root", lines)
	}
	for _, line := range sized.Unenforced() {
		if !strings.Contains(line, "; ") {
			t.Errorf("Unenforced() has %q, want what to do about it", line)
		}
	}
	free := boot(t, h, daemon.GuestSpec{Hostname: "sbox-2"})
	if got := strings.Join(free.Unenforced(), "\n"); strings.Contains(got, "cpus: ") || strings.Contains(got, "ram_bytes: ") {
		t.Errorf("Unenforced() = %q for a guest without sizes, want no size", got)
	}
}

func TestBusyLoopsGetNoMoreThanTheGuestsCPUs(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", CPUs: 1})
	dir := needGroup(t, g, "cpu")
	if runtime.NumCPU() < 2 {
		t.Skip("with one CPU nobody can use two")
	}
	if got := knobText(t, dir, "cpu.max", "cpu.cfs_quota_us"); got != "100000 100000" && got != "100000" {
		t.Errorf("the group's quota is %q, want one CPU's time", got)
	}
	used := busyTime(t, g, 2*time.Second)
	if used > 2600*time.Millisecond {
		t.Errorf("three busy loops used %s in 2 s, want about one CPU", used)
	}
	// On a machine that has no second CPU to spare just now there is nothing to
	// hold back.
	for range 5 {
		if groupFigure(t, dir, "cpu.stat", "nr_throttled") > 0 {
			return
		}
		busyTime(t, g, time.Second)
	}
	if groupFigure(t, dir, "cpu.stat", "nr_throttled") == 0 && used > 1800*time.Millisecond {
		t.Error("the guest used a whole CPU and the kernel never held it back")
	}
}

// busyTime is the CPU time that three busy loops get in wall.
func busyTime(t *testing.T, g daemon.Guest, wall time.Duration) (used time.Duration) {
	t.Helper()
	got := run(t, g, false, fmt.Sprintf(`for i in 1 2 3; do timeout %v sh -c 'while :; do :; done' & done; wait; times | tail -n 1`, wall.Seconds())).stdout
	for _, f := range strings.Fields(got) {
		d, err := time.ParseDuration(f)
		if err != nil {
			t.Fatalf("times printed %q: %v", got, err)
		}
		used += d
	}
	return used
}

// knobText reads the first of a control group's files that is there.
func knobText(t *testing.T, dir string, files ...string) string {
	t.Helper()
	for _, file := range files {
		if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("%s has none of %q", dir, files)
	return ""
}

func TestAMemoryHogEndsItsOwnVM(t *testing.T) {
	h := newHypervisor(t)
	hog := boot(t, h, daemon.GuestSpec{Hostname: "hog", RAMBytes: 64 << 20})
	needGroup(t, hog, "memory")
	other := boot(t, h, daemon.GuestSpec{Hostname: "other", RAMBytes: 64 << 20})
	if _, err := hog.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "head -c 300000000 /dev/zero | tail"}}); err != nil {
		t.Fatal(err)
	}
	waitDone(t, hog, 30*time.Second)
	if got := run(t, other, false, "echo on").stdout; got != "on\n" {
		t.Errorf("the other VM prints %q, want on", got)
	}
	if err := hog.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	if got := hog.EndReason(); got != "it used up its memory of 64 MiB" {
		t.Errorf("EndReason() = %q, want that it used up its memory", got)
	}
	if err := other.Stop(t.Context()); err != nil || other.EndReason() != "" {
		t.Errorf("EndReason() of a guest that was stopped = %q, Stop() = %v, want none", other.EndReason(), err)
	}
}

// bomb forks up to 1,500 processes, and goes on trying when it can't, for a
// time that is bounded as well.
const bomb = `perl -e 'for (1..1500) { my $p = fork; if (!defined $p) { print "refused\n"; select(undef, undef, undef, 0.02) } elsif (!$p) { sleep 1000; exit } }'`

func TestAForkBombStaysInItsVM(t *testing.T) {
	h := newHypervisor(t)
	limit := h.LimitProcesses(32)
	g := boot(t, h, daemon.GuestSpec{Hostname: "bomb"})
	other := boot(t, h, daemon.GuestSpec{Hostname: "other"})
	dir := sandbox.GroupOf(g, "pids")
	if dir == "" && !sandbox.LimitsUsers(g) {
		t.Skip("nothing limits processes for this user")
	}
	out := &waitFor{want: "refused", seen: make(chan struct{})}
	if _, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", bomb}, Stdout: out}); err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		<-out.seen
		s, err := g.Stats(t.Context())
		switch {
		case errors.Is(err, daemon.ErrEnded): // with one id for all, the agent had no room left
		case err != nil || s.Processes > int64(limit)+1:
			t.Errorf("Stats() = %d processes, %v, want %d of one user and the agent at most", s.Processes, err, limit)
		}
	} else {
		waitDone(t, g, 30*time.Second)
		if err := g.Stop(t.Context()); err != nil {
			t.Errorf("Stop() = %v", err)
		}
		if got := g.EndReason(); !strings.Contains(got, fmt.Sprintf("limit of %d processes", limit)) {
			t.Errorf("EndReason() = %q, want the limit of processes", got)
		}
	}
	if got := run(t, other, false, "for i in 1 2 3; do sleep 0 & done; wait; echo on").stdout; got != "on\n" {
		t.Errorf("the other VM prints %q, want on", got)
	}
}

func TestTheMachinesMemoryKillerTakesGuestsFirst(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	for _, asRoot := range []bool{false, true} {
		if got := run(t, g, asRoot, "cat /proc/self/oom_score_adj").stdout; got != "1000\n" {
			t.Errorf("oom_score_adj (root %v) = %q, want 1000", asRoot, got)
		}
	}
}

func TestStatsCountWhatTheGroupHolds(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", CPUs: 1, RAMBytes: 256 << 20})
	needGroup(t, g, "memory")
	before, err := g.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A tmpfs is memory that no process shows.
	run(t, g, true, "head -c 50000000 /dev/zero >/run/big")
	after, err := g.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(after.MemoryUsed) - int64(before.MemoryUsed); grown < 45_000_000 || grown > 80_000_000 {
		t.Errorf("MemoryUsed grew by %d for 50000000 bytes in a tmpfs", grown)
	}
	if after.MemoryTotal != 256<<20 || after.CPUs != 1 {
		t.Errorf("Stats() = %d bytes and %d CPUs in all, want the sizes", after.MemoryTotal, after.CPUs)
	}
}

func TestGroupsGoWithTheirGuestAndServer(t *testing.T) {
	h, _ := openHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	groups := sandbox.GroupsOf(g)
	if len(groups) == 0 {
		if err := errors.Join(g.Stop(t.Context()), h.Close()); err != nil {
			t.Errorf("Stop() and Close() = %v", err)
		}
		t.Skip("no control groups for this user")
	}
	second := newHypervisor(t) // whose sweep must leave this server's alone
	run(t, g, false, "setsid sleep 1000 >/dev/null 2>&1 &")
	for _, dir := range groups {
		if !strings.HasPrefix(filepath.Base(filepath.Dir(dir)), "slicervm-mcp-run-") {
			t.Errorf("a guest's group is %s, want it below the server's", dir)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(strings.Fields(string(b))) < 2 {
			t.Errorf("%s has the processes %q (%v), want the agent and the command", dir, b, err)
		}
	}
	if err := g.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantGone(t, groups)
	var parents []string
	for _, dir := range groups {
		parents = append(parents, filepath.Dir(dir))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	wantGone(t, parents)
	boot(t, second, daemon.GuestSpec{Hostname: "sbox-2"})
}

func wantGone(t *testing.T, dirs []string) {
	t.Helper()
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s) = %v, want that it doesn't exist", dir, err)
		}
	}
}

func TestADeadServersGroupsAreRemoved(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	var dead []string
	for _, dir := range sandbox.GroupsOf(g) {
		name := filepath.Join(filepath.Dir(filepath.Dir(dir)), "slicervm-mcp-run-dead"+strconv.Itoa(os.Getpid()))
		if err := os.MkdirAll(filepath.Join(name, "guest-1"), 0o755); err != nil {
			t.Fatal(err)
		}
		dead = append(dead, name)
	}
	if len(dead) == 0 {
		t.Skip("no control groups for this user")
	}
	newHypervisor(t)
	wantGone(t, dead)
}

func TestProgramsDontSeeTheFreeze(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if !sandbox.FreezesInGroup(g) {
		t.Skip("no control group that freezes")
	}
	// A parent that watches its child's stops, as a shell with job control does.
	script := `perl -e '
		use POSIX ":sys_wait_h";
		$| = 1;
		my $child = fork;
		if (!$child) { $SIG{CONT} = sub { print "continued\n" }; print "up\n"; while (1) { select(undef, undef, undef, 0.01); exit if -e "/tmp/go" } }
		waitpid($child, WUNTRACED);
		print WIFSTOPPED(${^CHILD_ERROR_NATIVE}) ? "stopped\n" : "exited\n";'`
	var text bytes.Buffer
	out := &waitFor{want: "up", seen: make(chan struct{})}
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", script}, Stdout: tees{out, &text}})
	if err != nil {
		t.Fatal(err)
	}
	<-out.seen
	for range 2 {
		if err := errors.Join(g.Freeze(t.Context()), g.Thaw(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	run(t, g, false, "touch /tmp/go")
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); got != "up\nexited\n" {
		t.Errorf("the programs printed %q, want up and exited alone", got)
	}
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Errorf("Stop() of a frozen guest = %v", err)
	}
}

// tees writes to all.
type tees []interface{ Write([]byte) (int, error) }

func (w tees) Write(b []byte) (int, error) {
	for _, one := range w {
		if n, err := one.Write(b); err != nil {
			return n, err
		}
	}
	return len(b), nil
}
