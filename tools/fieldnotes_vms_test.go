package tools_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// tended is a toolset that is tended to until stop, in a bubble of synctest.
func tended(t *testing.T, cfg tools.Config) (s *session, stop func()) {
	t.Helper()
	set, err := tools.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tending sync.WaitGroup
	tending.Go(func() { set.Tend(ctx) })
	synctest.Wait()
	return connectTo(t, set), func() {
		cancel()
		tending.Wait()
		if err := set.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// pipeDaemon is a fake daemon that works in a bubble of synctest.
func pipeDaemon(t *testing.T) (*slicertest.Server, *slicer.SlicerClient) {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe})
	client := srv.Client()
	t.Cleanup(client.CloseIdleConnections)
	return srv, client
}

// hostnames lists a daemon's VMs.
func hostnames(t *testing.T, client *slicer.SlicerClient) string {
	t.Helper()
	vms, err := client.ListVMs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Hostname)
	}
	return strings.Join(names, " ")
}

// TestField12VMsHaveAnEnd is about VMs that nobody deletes.
func TestField12VMsHaveAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := pipeDaemon(t)
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		s, stop := tended(t, tools.Config{Client: client, Owner: testOwner, Log: logger})
		text := s.call("create_vm", args{"name": "brief", "ttl": "2h"})
		wantText(t, "create_vm", text, "expires ", "(in 2h0m)")
		s.call("create_vm", args{"name": "lasting"})
		time.Sleep(119 * time.Minute)
		synctest.Wait()
		if got := hostnames(t, client); got != "sbox-1 sbox-2" {
			t.Errorf("before the end VMs are %q, want both", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := hostnames(t, client); got != "sbox-2" {
			t.Errorf("after the end VMs are %q, want only sbox-2", got)
		}
		wantText(t, "a call on it", s.fail("exec", args{"vm": "brief", "command": "x"}), `no VM named "brief" any more`, "its ttl was over and this server removed it at ")

		// One that ends while no server is there goes when the next one starts.
		s.call("create_vm", args{"name": "orphan", "ttl": "10m"})
		stop()
		wantText(t, "the log", log.String(), `msg="removed an expired vm" vm=sbox-1 name=brief expired=`)
		time.Sleep(time.Hour)
		if got := hostnames(t, client); got != "sbox-2 sbox-3" {
			t.Errorf("without a server VMs are %q, want sbox-2 and sbox-3", got)
		}
		_, stop = tended(t, tools.Config{Client: client, Owner: testOwner})
		if got := hostnames(t, client); got != "sbox-2" {
			t.Errorf("after a start VMs are %q, want only sbox-2", got)
		}
		stop()

		// What a failed call made goes at once.
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Cut: true, Times: 1})
		c := connect(t, tools.Config{Client: client})
		wantText(t, "create_vm", c.fail("create_vm", args{}), "No VM is left of it")
		if got := hostnames(t, client); got != "sbox-2" {
			t.Errorf("after a failed create_vm VMs are %q, want only sbox-2", got)
		}
	})
}

// TestField13OnlyItsOwnAreRemoved is about a reaper that deletes somebody
// else's.
func TestField13OnlyItsOwnAreRemoved(t *testing.T) {
	const made = "created-by=slicervm-mcp"
	at := func(d time.Duration) string { return "expires-at=" + time.Now().Add(d).UTC().Format(time.RFC3339) }
	synctest.Test(t, func(t *testing.T) {
		_, client := pipeDaemon(t)
		past, future := at(-time.Hour), at(time.Hour)
		all := map[string][]string{ // by who may remove it
			"alice": {made, "owner=alice", past},
			"bob":   {made, "owner=bob", past},
		}
		nobody := map[string][]string{
			"of no owner":               {made, past},
			"not made by these tools":   {"owner=alice", past},
			"by another program":        {"created-by=other", "owner=alice", past},
			"without an end":            {made, "owner=alice"},
			"not over yet":              {made, "owner=alice", future},
			"put off":                   {made, "owner=alice", past, future},
			"over at no time":           {made, "owner=alice", "expires-at=yesterday"},
			"over at one time and none": {made, "owner=alice", past, "expires-at="},
			"of an owner like her":      {made, "owner=alice2", past},
		}
		hosts := map[string]string{}
		for owner, tags := range all {
			hosts[owner] = createOther(t, client, tags...)
		}
		for what, tags := range nobody {
			hosts[what] = createOther(t, client, tags...)
		}
		for _, owner := range []string{"alice", "bob"} {
			_, stop := tended(t, tools.Config{Client: client, Owner: owner})
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			stop()
			delete(hosts, owner)
			left := strings.Fields(hostnames(t, client))
			if len(left) != len(hosts) {
				t.Errorf("after %s's server %d VMs are left, want %d", owner, len(left), len(hosts))
			}
			for what, host := range hosts {
				if !strings.Contains(" "+strings.Join(left, " ")+" ", " "+host+" ") {
					t.Errorf("%s's server removed the VM %q", owner, what)
				}
			}
		}
	})

	t.Run("a daemon that lists everybody's", func(t *testing.T) {
		past := at(-time.Hour)
		removed, looked := make(chan string, 10), make(chan string, 10)
		client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/nodes":
				answer(200, fmt.Sprintf(`[{"hostname":"x-1","tags":[%q,"owner=bob",%q]},{"hostname":"x-2","tags":[%q,"owner=alice",%q]},{"hostname":"x-3","tags":["owner=alice"]}]`, made, past, made, past))(w, r)
			case r.Method == http.MethodDelete:
				removed <- r.URL.Path
				answer(200, `{}`)(w, r)
			default:
				looked <- r.URL.Path
				answer(200, `[]`)(w, r)
			}
		})
		set, err := tools.New(tools.Config{Client: client, Owner: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var tending sync.WaitGroup
		tending.Go(func() { set.Tend(ctx) })
		if got, want := <-looked, "/vm/x-3/exec"; got != want { // comes after what is removed
			t.Errorf("processes are looked for at %s, want %s", got, want)
		}
		cancel()
		tending.Wait()
		if got, want := <-removed, "/hostgroup/x/nodes/x-2"; got != want || len(removed) > 0 {
			t.Errorf("removed %s and %d more, want only %s", got, len(removed), want)
		}
	})

	client := fakeDaemon(t)
	a := connect(t, tools.Config{Client: client, Owner: "alice"})
	b := connect(t, tools.Config{Client: client, Owner: "bob"})
	a.call("create_vm", args{"name": "of-alice"})
	b.call("create_vm", args{"name": "of-bob"})
	for _, tool := range []string{"delete_vm", "shutdown"} {
		wantText(t, tool+" by alice", a.fail(tool, args{"vm": "of-bob"}), "left alone", "belongs to owner=bob")
		wantText(t, tool+" by bob", b.fail(tool, args{"vm": "of-alice"}), "left alone", "belongs to owner=alice")
	}
	wantVMs(t, client, 2)
	a.call("shutdown", args{"vm": "of-alice"})
	b.call("delete_vm", args{"vm": "of-bob"})
	wantVMs(t, client, 0)
}

// TestField14ThereIsALimit is about VMs without number.
func TestField14ThereIsALimit(t *testing.T) {
	client := fakeDaemon(t)
	createOther(t, client, "owner=somebody")
	s := connect(t, tools.Config{Client: client, MaxVMs: 2})
	s.call("create_vm", args{"name": "one"})
	s.call("create_vm", args{"name": "two"})
	wantText(t, "create_vm", s.fail("create_vm", args{}), "the limit of this server is 2 VMs", "sbox-2 (one), sbox-3 (two)", `delete_vm(vm="one")`, "the user can raise the limit")
	wantVMs(t, client, 3)
	s.call("delete_vm", args{"vm": "one"})

	// Of calls at one time no more get through than there is room for.
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		wg.Go(func() {
			if res := s.raw(t.Context(), "create_vm", args{}); !res.IsError {
				mu.Lock()
				defer mu.Unlock()
				made++
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("of 8 calls at a time %d made a VM, want 1", made)
	}
	wantVMs(t, client, 3)

	t.Run("one that is being made counts once", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		s := connect(t, tools.Config{Client: srv.Client(), MaxVMs: 2})
		stall := make(chan struct{})
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Stall: stall, StallAfter: 1, Times: 1})
		var first sync.WaitGroup
		first.Go(func() { s.raw(t.Context(), "create_vm", args{}) })
		awaitVMs(t, srv.Client(), 1)
		s.call("create_vm", args{})
		wantText(t, "create_vm", s.fail("create_vm", args{}), "the limit of this server is 2 VMs", "and is making 1 more")
		close(stall)
		first.Wait()
	})

	// One that failed takes no room.
	t.Run("after a failure", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		s := connect(t, tools.Config{Client: srv.Client(), MaxVMs: 1})
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Status: 500, Times: 1})
		s.fail("create_vm", args{})
		s.call("create_vm", args{})
	})

	t.Run("of twenty by default", func(t *testing.T) {
		s := connect(t, tools.Config{Client: fakeDaemon(t)})
		for i := range 20 {
			s.call("create_vm", args{"name": fmt.Sprintf("vm%d", i)})
		}
		wantText(t, "create_vm", s.fail("create_vm", args{}), "the limit of this server is 20 VMs", "(vm0)", "(vm19)")
	})
}

// TestField15AVMThatIsGone is about VMs that vanish.
func TestField15AVMThatIsGone(t *testing.T) {
	const stamp = " ago, "
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)})
	client := srv.Client()
	s := connect(t, tools.Config{Client: client})
	s.call("create_vm", args{"name": "ended"})
	s.call("create_vm", args{"name": "deleted"})
	s.call("create_vm", args{"name": "shut"})
	s.call("create_vm", args{"name": "stolen"})
	srv.End("sbox-1")
	s.call("delete_vm", args{"vm": "deleted"})
	s.call("shutdown", args{"vm": "shut"})
	if _, err := client.DeleteVM(t.Context(), "sbox", "sbox-4"); err != nil {
		t.Fatal(err)
	}
	awaitVMs(t, client, 0)
	for _, tc := range []struct {
		vm   string
		want string
	}{
		{"ended", "it was there at "},
		{"sbox-1", "it was there at "},
		{"deleted", "delete_vm removed it at "},
		{"sbox-2", "delete_vm removed it at "},
		{"shut", "shutdown ended it at "},
		{"stolen", " ago, and was deleted or ended since"},
	} {
		for tool, a := range map[string]args{
			"exec": {"command": "x"}, "get_vm": {}, "vm_logs": {}, "pause": {}, "suspend": {}, "relaunch": {}, "delete_vm": {}, "shutdown": {},
			"read_file": {"file_path": "/x"},
		} {
			a["vm"] = tc.vm
			wantText(t, tool, s.fail(tool, a), fmt.Sprintf("no VM named %q any more: it is gone", tc.vm), tc.want, stamp, "Call create_vm", "list_vms")
		}
	}
	if got := s.fail("exec", args{"vm": "never", "command": "x"}); strings.Contains(got, "gone") {
		t.Errorf("exec in a VM that never was = %q", got)
	}
	// Its name is free again.
	s.call("create_vm", args{"name": "ended"})
	wantText(t, "exec", s.call("exec", args{"vm": "ended", "command": "echo hi"}), "hi")
}

// awaitVMs waits until a daemon has noticed which VMs have ended.
func awaitVMs(t *testing.T, client *slicer.SlicerClient, want int) {
	t.Helper()
	for {
		vms, err := client.ListVMs(t.Context())
		if err != nil {
			t.Fatalf("wait for %d VMs: %v", want, err)
		}
		if len(vms) == want {
			return
		}
		runtime.Gosched()
	}
}

// TestField16TheVMNeedNotBeNamed is about ids that are forgotten or invented.
func TestField16TheVMNeedNotBeNamed(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	all := map[string]args{
		"exec": {"command": "true"}, "get_vm": {}, "vm_logs": {}, "list_processes": {}, "read_file": {"file_path": "/x"},
		"pause": {}, "resume": {}, "suspend": {}, "restore": {}, "relaunch": {},
	}
	with := func(a args, vm string) args {
		b := args{}
		for k, v := range a {
			b[k] = v
		}
		if vm != "" {
			b["vm"] = vm
		}
		return b
	}
	for tool, a := range all {
		wantText(t, tool, s.fail(tool, a), "there is no VM yet", "create_vm")
	}
	createOther(t, client, "name=api")
	s.call("create_vm", args{"name": "web"})
	s.call("exec", args{"command": "true"})
	for _, vm := range []string{"", "web", "sbox-2"} {
		for _, tool := range []string{"get_vm", "vm_logs", "list_processes", "pause", "resume", "suspend", "restore", "relaunch"} {
			wantText(t, tool, s.call(tool, with(all[tool], vm)), "web")
		}
	}
	s.call("create_vm", args{"name": "worker"})
	for tool, a := range all {
		wantText(t, tool, s.fail(tool, a), "owns 2 VMs", "(web)", "(worker)", `vm="web"`)
		wantText(t, tool, s.fail(tool, with(a, "wrker")), `no VM named "wrker"`, `Did you mean "worker"?`, "list_vms(all=true)")
		wantText(t, tool, s.fail(tool, with(a, "sbox-9")), `no VM named "sbox-9"`, "Did you mean")
	}
	for _, tool := range []string{"delete_vm", "shutdown"} { // these want to be told
		wantText(t, tool, s.fail(tool, args{}), "vm is required")
		wantText(t, tool, s.fail(tool, args{"vm": "wrker"}), `Did you mean "worker"?`)
	}
}
