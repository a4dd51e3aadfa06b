package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
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
