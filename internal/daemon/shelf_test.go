package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// shelf is a hypervisor whose disks are nothing but their labels.
type shelf struct {
	mu    sync.Mutex
	disks map[string]string
	made  []string                // the steps that have changed something
	fails func(step string) error // unless nil, makes steps fail
	after func()                  // unless nil, called after each step, under mu
	busy  error                   // what all calls on disks return
}

// step makes a change, or not.
func (s *shelf) step(what string, change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != nil {
		return s.busy
	}
	if s.fails != nil {
		if err := s.fails(what); err != nil {
			return err
		}
	}
	if err := change(); err != nil {
		return err
	}
	s.made = append(s.made, what)
	if s.after != nil {
		s.after()
	}
	return nil
}

func (s *shelf) Boot(_ context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	if spec.Disk == "" {
		return &shelfGuest{brokenGuest: &brokenGuest{done: make(chan struct{})}, shelf: s}, nil
	}
	err := s.step("boot on "+spec.Disk, func() error {
		_, there := s.disks[spec.Disk]
		if _, base := s.disks[spec.Base]; !there && spec.Base != "" && !base {
			return fs.ErrNotExist
		}
		if !there {
			s.disks[spec.Disk] = string(spec.DiskLabel)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	return &shelfGuest{brokenGuest: &brokenGuest{done: make(chan struct{})}, shelf: s, disk: spec.Disk}, nil
}

func (s *shelf) Disks(context.Context) ([]daemon.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []daemon.Disk
	for _, name := range slices.Sorted(maps.Keys(s.disks)) {
		list = append(list, daemon.Disk{Name: name, Label: []byte(s.disks[name])})
	}
	return list, s.busy
}

func (s *shelf) CopyDisk(_ context.Context, from, to string, label []byte) error {
	return s.step("copy to a commit", func() error {
		if _, ok := s.disks[from]; !ok {
			return fs.ErrNotExist
		}
		s.disks[to] = string(label)
		return nil
	})
}

func (s *shelf) LabelDisk(_ context.Context, name string, label []byte) error {
	return s.step("label "+name, func() error {
		if _, ok := s.disks[name]; !ok {
			return fs.ErrNotExist
		}
		s.disks[name] = string(label)
		return nil
	})
}

func (s *shelf) RemoveDisk(_ context.Context, name string) error {
	return s.step("remove "+strings.SplitAfter(name, "-")[0], func() error {
		delete(s.disks, name)
		return nil
	})
}

func (s *shelf) Close() error { return nil }

// kept is a copy of the disks.
func (s *shelf) kept() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.disks)
}

// shelfGuest is a guest that has a disk on a shelf.
type shelfGuest struct {
	*brokenGuest
	shelf *shelf
	disk  string
	once  sync.Once
}

func (g *shelfGuest) Stop(context.Context) error {
	return g.shelf.step("stop on "+g.disk, func() error {
		g.once.Do(func() { close(g.done) })
		return nil
	})
}

// serveShelf serves a daemon on s, whose log goes to the second result.
func serveShelf(t *testing.T, s *shelf, groups ...daemon.HostGroup) (*api, *lockedBuffer, func()) {
	t.Helper()
	var log lockedBuffer
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: s, Groups: groups, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	closeIt := sync.OnceFunc(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	t.Cleanup(closeIt)
	return &api{t: t, handler: d}, &log, closeIt
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

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

// vmLabel is the label of a persistent VM's disk; edit changes it.
func vmLabel(hostname string, edit ...string) string {
	label := `{"version":1,"state":"running","hostname":"` + hostname + `","hostgroup":"sbox","ip":"192.168.137.9/24","cpus":2,` +
		`"ram_bytes":1048576,"tags":[],"secrets":null,"created_at":"2026-01-02T03:04:05Z","userdata":null,"network":null,"parent_commit_id":""}`
	for i := 0; i+1 < len(edit); i += 2 {
		label = strings.Replace(label, edit[i], edit[i+1], 1)
	}
	return label
}

func TestForeignDisksAreLeftAlone(t *testing.T) {
	disks := map[string]string{
		"somebody":                     "else's",
		"vm-sbox-2":                    "",
		"vm-sbox-3":                    "not JSON",
		"vm-sbox-4":                    vmLabel("sbox-4", `"version":1`, `"version":2`),
		"vm-sbox-5":                    vmLabel("sbox-5", `"cpus"`, `"colour":"red","cpus"`),
		"vm-sbox-6":                    vmLabel("sbox-1"),
		"vm-sbox-7":                    vmLabel("sbox-7") + "{}",
		"vm-sbox-8":                    vmLabel("sbox-8", `"running"`, `"flying"`),
		"vm-sbox-9":                    vmLabel("sbox-9", `"cpus":2`, `"cpus":0`),
		"vm-sbox-a":                    vmLabel("sbox-a"),
		"vm-x-1":                       vmLabel("x-1", `"hostgroup":"sbox"`, `"hostgroup":"x"`),
		"vm-x-2":                       vmLabel("x-2"),
		"vm-sbox-11":                   vmLabel("sbox-11", `"created_at":"2026-01-02T03:04:05Z"`, `"created_at":"0001-01-01T00:00:00Z"`),
		"vm-sbox-12":                   vmLabel("sbox-12", `"tags":[]`, `"tags":["a","a"]`),
		"vm-sbox-13":                   vmLabel("sbox-13", `"parent_commit_id":""`, `"parent_commit_id":"../x"`),
		"vm-sbox-99999999999999999999": "huge",
		"commit-a":                     "",
		"commit-b":                     `{"version":1,"commit_id":"c"}`,
	}
	s := &shelf{disks: maps.Clone(disks)}
	a, log, closeIt := serveShelf(t, s, daemon.HostGroup{Name: "sbox"})
	if got := a.there(); len(got.VMs)+len(got.Commits) > 0 {
		t.Errorf("there is %v, want nothing", got)
	}
	for name := range disks {
		if !strings.Contains(log.String(), "disk="+name+" ") {
			t.Errorf("the log doesn't tell of disk %s", name)
		}
	}
	if got := a.create(`{"persistent":true}`); got != "sbox-14" {
		t.Errorf("new VM = %s, want a number above those of the disks", got)
	}
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-14", "")
	closeIt()
	if diff := cmp.Diff(disks, s.kept()); diff != "" {
		t.Errorf("disks (-before +after):\n%s", diff)
	}
}

func TestKeptVMs(t *testing.T) {
	s := &shelf{disks: map[string]string{
		"vm-sbox-1": vmLabel("sbox-1", `"cpus":2`, `"cpus":64`, `:1048576`, `:1099511627776`),
		"vm-sbox-2": vmLabel("sbox-2", `"created_at":"2026-01-02`, `"created_at":"2026-01-03`),
		"vm-sbox-3": vmLabel("sbox-3", `"running"`, `"stopped"`, `"created_at":"2026-01-02`, `"created_at":"2026-01-01`, "192.168.137.9/24", "nonsense"),
		"vm-sbox-4": vmLabel("sbox-4", `"running"`, `"creating"`),
	}}
	s.fails = func(step string) error {
		if step == "boot on vm-sbox-2" {
			return errBroken
		}
		return nil
	}
	a, log, closeIt := serveShelf(t, s, daemon.HostGroup{Name: "sbox", CPUs: 3, RAMBytes: 1 << 30})
	want := []string{"sbox-3 Stopped []", "sbox-1 Running []", "sbox-2 Stopped []"}
	if got := a.there().VMs; !cmp.Equal(got, want) {
		t.Errorf("VMs = %q, want %q", got, want)
	}
	if d := a.described("sbox-1"); d.CPUs != 3 || d.RAMBytes != 1<<30 {
		t.Errorf("VM larger than its group = %d CPUs, %d bytes, want it cut to the limit", d.CPUs, d.RAMBytes)
	}
	if got := log.String(); !strings.Contains(got, "vm=sbox-1 host_group=sbox cpus=3 cpus_before=64 ") {
		t.Errorf("log = %s, want that sbox-1 was cut", got)
	}
	if got := log.String(); !strings.Contains(got, "vm=sbox-2 ") || !strings.Contains(got, errBroken.Error()) {
		t.Errorf("log = %s, want why sbox-2 didn't boot", got)
	}
	if got := a.console("sbox-2"); !strings.Contains(got, errBroken.Error()) {
		t.Errorf("console of sbox-2 = %s, want why it didn't boot", got)
	}
	ips := map[string]bool{}
	for _, vm := range []string{"sbox-1", "sbox-2", "sbox-3"} {
		ips[a.described(vm).IP] = true
	}
	if len(ips) != 3 || !ips["192.168.137.9/24"] {
		t.Errorf("addresses = %v, want three, that of the labels among them", ips)
	}
	a.want(500, "POST", "/vm/sbox-2/relaunch", "")
	a.want(200, "POST", "/vm/sbox-2/shutdown", "") // it is not to be tried again
	closeIt()
	if kept := s.kept(); !strings.Contains(kept["vm-sbox-2"], `"stopped"`) || !strings.Contains(kept["vm-sbox-1"], `"cpus":64`) || kept["vm-sbox-4"] != "" {
		t.Errorf("disks = %v, want sbox-2 stopped, sbox-1 with its own size and no sbox-4", kept)
	}
}

func TestRelaunchWithoutItsDisk(t *testing.T) {
	s := &shelf{disks: map[string]string{}}
	a, _, _ := serveShelf(t, s)
	a.create(`{"persistent":true}`)
	a.want(200, "POST", "/vm/sbox-1/shutdown", "")
	s.mu.Lock()
	clear(s.disks)
	s.mu.Unlock()
	if got := a.want(500, "POST", "/vm/sbox-1/relaunch", "").message(t); !strings.Contains(got, "delete the VM") {
		t.Errorf("relaunch says %q, want what to do", got)
	}
	if kept := s.kept(); len(kept) > 0 {
		t.Errorf("disks = %v, want no empty one in the place of the lost one", kept)
	}
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
}
