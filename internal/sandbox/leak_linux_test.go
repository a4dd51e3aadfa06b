package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slicervm-mcp/slicervm-mcp/internal/processtest"
)

// held is what a server may leave behind, by kind and name.
type held map[string]bool

// heldNow looks at this process, and at the cgroups of the servers that have a
// folder in state.
func heldNow(t testing.TB, state string) held {
	t.Helper()
	h := held{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		h["mount "+strings.TrimSpace(line)] = true
	}
	for pid := range processtest.Below(os.Getpid()) {
		h["process "+strconv.Itoa(pid)] = true
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			h["descriptor "+fd.Name()+" "+to] = true
		}
	}
	for _, cgroup := range cgroups(runs(t, state)...) {
		h["cgroup "+cgroup] = true
	}
	return h
}

// runs names the folders of servers in a state folder.
func runs(t testing.TB, state string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(state, "slicervm-mcp-run-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

// cgroups lists the machine's cgroups that are named after servers' folders, and
// those below them.
func cgroups(runs ...string) (found []string) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return slices.Contains(runs, part) }) {
			found = append(found, name)
		}
		return nil // one that went away is none
	})
	return found
}

// since lists what h has and before hasn't.
func (h held) since(before held) []string {
	more := maps.Clone(h)
	for name := range before {
		delete(more, name)
	}
	return slices.Sorted(maps.Keys(more))
}

// guestsOf lists the machine's processes that belong to guests in a state
// folder: their mounts or their console name it.
func guestsOf(state string) (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		mounts, _ := os.ReadFile(dir + "/mountinfo") // what has just ended has none
		console, _ := os.Readlink(dir + "/fd/1")
		if bytes.Contains(mounts, []byte(state+"/")) || strings.HasPrefix(console, state+"/") {
			found = append(found, dir)
		}
	}
	return found
}

func threads(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// eventually waits until what lists nothing, and fails with what it lists after
// ten seconds: descriptors of closed connections and ended goroutines go in
// their own time, which nobody tells.
func eventually(t testing.TB, what string, list func() []string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := list()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d %s are left: %.2000q", len(left), what, left)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// live is a VM's life in the test of leaks: a command, one in the background,
// and an end that depends on its number.
func (s *service) live(ctx context.Context, n int) error {
	call := func(status int, method, path, body string) (string, error) {
		got, err := s.try(ctx, method, path, strings.NewReader(body))
		if err == nil && got.status != status {
			err = fmt.Errorf("%s %s = %d %.300s, want %d", method, path, got.status, got.body, status)
		}
		return got.body, err
	}
	if n%8 == 7 {
		// The client walks away in the middle of the boot, sooner or later.
		ctx, cancel := context.WithTimeout(ctx, time.Duration(n)*time.Millisecond)
		defer cancel()
		_, _ = s.try(ctx, "POST", "/hostgroup/sbox/nodes?wait=agent", strings.NewReader("{}")) // it is removed, or done by then
		return nil
	}
	body, err := call(http.StatusCreated, "POST", "/hostgroup/sbox/nodes?wait=agent", "{}")
	if err != nil {
		return err
	}
	vm := hostname(s.t, body)
	if body, err = call(http.StatusOK, "POST", "/vm/"+vm+"/exec"+params("cmd", "hostname"), ""); err != nil {
		return err
	}
	if !strings.Contains(body, vm) {
		return fmt.Errorf("hostname of %s printed %s", vm, body)
	}
	_, err = call(http.StatusCreated, "POST", "/vm/"+vm+"/exec"+params("background", "true", "cmd", "/bin/sh", "args", "-c", "args", "setsid sleep 1000 & echo x; sleep 1000"), "")
	if err != nil {
		return err
	}
	switch n % 8 {
	case 1, 2:
		_, err = call(http.StatusOK, "POST", "/vm/"+vm+"/pause", "")
	case 3:
		// The VM ends by itself: its first process dies.
		_, err = s.try(ctx, "POST", "/vm/"+vm+"/exec"+params("uid", "0", "cmd", "/bin/sh", "args", "-c", "args", "kill -SEGV 1; sleep 1000"), nil)
		return err
	case 4:
		_, err = call(http.StatusOK, "POST", "/vm/"+vm+"/cp"+params("path", "/tmp/f", "mode", "binary"), strings.Repeat("x", 1<<20))
	case 5:
		_, err = call(http.StatusOK, "POST", "/vm/"+vm+"/shutdown", "")
		return err
	case 6:
		_, err = call(http.StatusOK, "POST", "/vm/"+vm+"/exec"+params("cmd", "/bin/sh", "args", "-c", "args", nested("/tmp", 3000)), "")
	}
	if err != nil {
		return err
	}
	_, err = call(http.StatusOK, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
	return err
}

func TestTwoHundredVMsLeaveNothing(t *testing.T) {
	// The collector closes forgotten files. With a limit it still bounds the memory.
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(1<<30)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	s := newService(t)
	s.want(http.StatusOK, "DELETE", "/hostgroup/sbox/nodes/"+s.create(), nil) // what is made once is there from now on
	s.http.CloseIdleConnections()
	state, before, goroutines, threadsBefore := dirs(t, s.state), heldNow(t, s.state), runtime.NumGoroutine(), threads(t)

	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for n := range 200 {
		group.Go(func() error { return s.live(ctx, n) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	s.http.CloseIdleConnections()

	eventually(t, "VMs", func() []string {
		var left []struct {
			Hostname string `json:"hostname"`
		}
		body := s.want(http.StatusOK, "GET", "/nodes", nil)
		if err := json.Unmarshal([]byte(body), &left); err != nil {
			t.Fatalf("GET /nodes = %q: %v", body, err)
		}
		var found []string
		for _, vm := range left {
			// Nobody was there any more to take its create call's answer.
			got := s.call("DELETE", "/hostgroup/sbox/nodes/"+vm.Hostname, nil)
			found = append(found, fmt.Sprintf("%s, whose deletion answers %d %s", vm.Hostname, got.status, got.body))
		}
		s.http.CloseIdleConnections()
		return found
	})
	eventually(t, "processes with mounts in the state folder", func() []string { return guestsOf(s.state) })
	eventually(t, "entries of the state folder", func() []string { return dirs(t, s.state).since(state) })
	eventually(t, "processes, mounts, descriptors or cgroups", func() []string { return heldNow(t, s.state).since(before) })
	eventually(t, "goroutines", func() []string {
		if now := runtime.NumGoroutine(); now > goroutines {
			var stacks bytes.Buffer
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // it is written to memory
			return []string{fmt.Sprintf("%d more: %s", now-goroutines, stacks.String())}
		}
		return nil
	})
	run := runs(t, s.state)
	s.stop()
	if left := cgroups(run...); len(left) > 0 {
		t.Errorf("cgroups %q are left after Close", left)
	}
	if now := threads(t); now > threadsBefore+64 {
		t.Errorf("%d threads after 200 VMs, %d before, want 64 more at most", now, threadsBefore)
	}
}

// dirs lists all below a folder.
func dirs(t testing.TB, dir string) held {
	t.Helper()
	h := held{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is being removed
		}
		h[name] = true
		if entry.Name() == "etc" {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}
