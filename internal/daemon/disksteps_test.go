package daemon_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// there is what can be seen of a daemon's VMs and commits.
type there struct {
	VMs     []string // hostname, status and tags
	Commits []string // source and tags
}

func (a *api) there() there {
	a.t.Helper()
	var vms, commits []struct {
		Hostname, Status string
		Tags             []string
	}
	decode(a.t, a.want(200, "GET", "/nodes", "").body, &vms)
	decode(a.t, a.want(200, "GET", "/vm/commits", "").body, &commits)
	var all there
	for _, v := range vms {
		all.VMs = append(all.VMs, fmt.Sprint(v.Hostname, " ", v.Status, " ", v.Tags))
	}
	for _, c := range commits {
		all.Commits = append(all.Commits, fmt.Sprint(c.Hostname, " ", c.Tags))
	}
	return all
}

// firstCommit is the id of the oldest commit.
func (a *api) firstCommit() string {
	a.t.Helper()
	var commits []struct {
		ID string `json:"commit_id"`
	}
	decode(a.t, a.want(200, "GET", "/vm/commits", "").body, &commits)
	if len(commits) == 0 {
		return "none"
	}
	return commits[0].ID
}

// diskStory is all that can become of a disk, a call after the other.
func diskStory(a *api) []func() reply {
	post := func(path, body string) func() reply {
		return func() reply { return a.call("POST", path, body) }
	}
	return []func() reply{
		post("/hostgroup/sbox/nodes", `{"persistent":true,"tags":["name=a"]}`),
		post("/hostgroup/sbox/nodes", `{"persistent":true}`),
		func() reply { return a.call("PATCH", "/vm/sbox-1/tags", `{"add":["x"]}`) },
		post("/vm/sbox-1/shutdown", ""),
		post("/vm/sbox-1/relaunch", ""),
		post("/vm/sbox-1/shutdown", ""),
		post("/vm/sbox-1/commit", `{"tags":["c"]}`),
		func() reply { return a.call("POST", "/vm/commits/"+a.firstCommit()+"/fork", `{"persistent":true}`) },
		func() reply { return a.call("DELETE", "/hostgroup/sbox/nodes/sbox-2", "") },
		func() reply { return a.call("DELETE", "/hostgroup/sbox/nodes/sbox-1", "") },
		func() reply { return a.call("DELETE", "/vm/commits/"+a.firstCommit(), "") },
	}
}

// TestKilledDaemon is about a daemon that is killed between any two steps: the
// next one finds what there was before the call, or what there was to be after.
func TestKilledDaemon(t *testing.T) {
	type moment struct {
		call  int
		step  string
		disks map[string]string
	}
	var moments []moment
	s := &shelf{disks: map[string]string{}}
	call := 0
	s.after = func() {
		moments = append(moments, moment{call, s.made[len(s.made)-1], maps.Clone(s.disks)})
	}
	a, _, _ := serveShelf(t, s)
	states := []there{a.there()}
	for i, do := range diskStory(a) {
		s.mu.Lock()
		call = i
		s.mu.Unlock()
		if got := do(); got.status >= 300 {
			t.Fatalf("call %d = %d %s", i, got.status, got.body)
		}
		states = append(states, a.there())
	}
	s.mu.Lock()
	s.after = nil
	s.mu.Unlock()
	if len(moments) < 15 {
		t.Errorf("the story has %d steps, want more", len(moments))
	}
	for i, m := range moments {
		t.Run(fmt.Sprintf("call %d, step %d, %s", m.call, i, m.step), func(t *testing.T) {
			a, log, _ := serveShelf(t, &shelf{disks: m.disks})
			got := a.there()
			before, after := cmp.Diff(states[m.call], got), cmp.Diff(states[m.call+1], got)
			if before != "" && after != "" {
				t.Errorf("daemon after a kill differs from before the call (-want +got):\n%sand from after it:\n%s", before, after)
			}
			if text := log.String(); strings.Contains(text, "left alone") || strings.Contains(text, "ERROR") {
				t.Errorf("log = %s, want nothing that went wrong", text)
			}
		})
	}
}

// TestStepThatFails is about each step of the story failing once: nobody is told
// that a call was done when it was not, no VM is lost, and nothing stays of one
// that was not created.
func TestStepThatFails(t *testing.T) {
	for n := 0; ; n++ {
		s := &shelf{disks: map[string]string{}}
		steps, failed := 0, ""
		s.fails = func(step string) error {
			if steps++; steps == n+1 {
				failed = step
				return errBroken
			}
			return nil
		}
		t.Run(fmt.Sprint("step ", n), func(t *testing.T) {
			a, _, closeIt := serveShelf(t, s)
			for i, do := range diskStory(a) {
				before := a.there()
				got := do()
				if failed != "" && got.status < 300 && !cmp.Equal(before, a.there()) {
					// It was done all the same, before the step or in spite of it.
					failed = ""
				}
				if got.status >= 500 {
					if again := do(); again.status >= 300 {
						t.Errorf("call %d, whose step %q failed, = %d %s, the second time %d %s", i, failed, got.status, got.body, again.status, again.body)
					}
					return // the numbers of the VMs are others now
				}
				if got.status >= 300 {
					t.Errorf("call %d = %d %s", i, got.status, got.body)
				}
			}
			seen := a.there()
			s.mu.Lock()
			s.fails = nil
			s.mu.Unlock()
			closeIt()
			for name, label := range s.kept() {
				if strings.Contains(label, `"creating"`) {
					t.Errorf("disk %s is left of a VM that was not created", name)
				}
			}
			next, _, _ := serveShelf(t, s)
			if diff := cmp.Diff(seen, next.there()); diff != "" {
				t.Errorf("after a restart (-want +got):\n%s", diff)
			}
		})
		if steps <= n {
			if n < 15 {
				t.Errorf("the story has %d steps, want more", n)
			}
			return
		}
	}
}

func TestVMThatIsNotNotedIsNotCreated(t *testing.T) {
	s := &shelf{disks: map[string]string{}}
	s.fails = func(step string) error {
		if strings.HasPrefix(step, "label") {
			return errBroken
		}
		return nil
	}
	a, _, _ := serveShelf(t, s)
	if got := a.call("POST", "/hostgroup/sbox/nodes", `{"persistent":true}`); got.status != 500 {
		t.Errorf("create whose label can't be written = %d %s, want 500", got.status, got.body)
	}
	if got, kept := a.there(), s.kept(); len(got.VMs) > 0 || len(kept) > 0 {
		t.Errorf("there is %v, on disk %v, want nothing", got, kept)
	}
}

func TestTagsThatAreNotNotedAreNotGiven(t *testing.T) {
	s := &shelf{disks: map[string]string{}}
	a, _, _ := serveShelf(t, s)
	a.create(`{"persistent":true,"tags":["a"]}`)
	s.mu.Lock()
	s.fails = func(string) error { return errBroken }
	s.mu.Unlock()
	if got := a.call("PATCH", "/vm/sbox-1/tags", `{"add":["name=b"]}`); got.status != 500 {
		t.Errorf("tags whose label can't be written = %d %s, want 500", got.status, got.body)
	}
	s.mu.Lock()
	s.fails = nil
	s.mu.Unlock()
	if got, want := a.there().VMs, []string{"sbox-1 Running [a]"}; !cmp.Equal(got, want) {
		t.Errorf("VMs = %v, want %v", got, want)
	}
	a.create(`{"tags":["name=b"]}`) // the name is nobody's
}

func TestDisksBusy(t *testing.T) {
	s := &shelf{disks: map[string]string{"vm-sbox-1": "x"}, busy: fmt.Errorf("lock the disks: %w", daemon.ErrDisksBusy)}
	a, log, _ := serveShelf(t, s)
	if !strings.Contains(log.String(), daemon.ErrDisksBusy.Error()) {
		t.Errorf("log = %s, want why there are no persistent VMs", log)
	}
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/hostgroup/sbox/nodes", `{"persistent":true}`},
		{"GET", "/vm/commits", ""},
		{"DELETE", "/vm/commits/a", ""},
		{"POST", "/vm/commits/a/fork", "{}"},
	} {
		got := a.call(call.method, call.path, call.body)
		if text := got.message(t); got.status != http.StatusConflict || !strings.Contains(text, "another server") || !strings.Contains(text, "--state-dir") {
			t.Errorf("%s %s = %d %s, want a 409 that says what to do", call.method, call.path, got.status, text)
		}
	}
	s.mu.Lock()
	s.busy = nil // the disks have never been read
	s.mu.Unlock()
	a.want(409, "POST", "/hostgroup/sbox/nodes", `{"persistent":true}`)
	a.create(`{}`)
}

func TestDaemonWithoutDisks(t *testing.T) {
	_, call := serveBroken(t)
	if status, text, _ := call("GET", "/vm/commits", ""); status != 200 || strings.TrimSpace(text) != "[]" {
		t.Errorf("commits = %d %s, want none", status, text)
	}
	s := &shelf{busy: fmt.Errorf("disks: %w", errors.ErrUnsupported)}
	a, _, _ := serveShelf(t, s)
	if got := a.call("POST", "/hostgroup/sbox/nodes", `{"persistent":true}`); got.status != 501 {
		t.Errorf("persistent VM where disks can't be kept = %d %s, want 501", got.status, got.body)
	}
}
