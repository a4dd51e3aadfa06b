package daemon_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// described is what a VM's description says, as far as these tests ask.
type described struct {
	Hostname, Status, Storage, IP string
	Persistent                    bool
	CPUs                          int      `json:"cpus"`
	RAMBytes                      int64    `json:"ram_bytes"`
	Tags                          []string `json:"tags"`
	CreatedAt                     string   `json:"created_at"`
	CommitID                      string   `json:"commit_id"`
	ParentCommitID                string   `json:"parent_commit_id"`
	Network                       struct {
		Override *struct{ Allow, Drop []string }
	}
}

func (a *api) described(vm string) described {
	a.t.Helper()
	var d described
	decode(a.t, a.want(200, "GET", "/vm/"+vm, "").body, &d)
	return d
}

func (a *api) console(vm string) string {
	a.t.Helper()
	var logs struct{ Content string }
	decode(a.t, a.want(200, "GET", "/vm/"+vm+"/logs?lines=0", "").body, &logs)
	return logs.Content
}

// write writes the file /var/data in a VM.
func (a *api) write(vm, text string) {
	a.t.Helper()
	a.want(200, "POST", "/vm/"+vm+"/cp?uid=0&path=/var/data", text)
}

func (a *api) read(vm, path string) string {
	a.t.Helper()
	return a.want(200, "GET", "/vm/"+vm+"/cp?path="+path, "").body
}

func TestPersistentVMIsStoppedByShutdown(t *testing.T) {
	for _, action := range []string{"shutdown", "reboot"} {
		t.Run(action, func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			a.want(201, "POST", "/secrets", secretBody("key", "x", ""))
			vm := a.create(`{"persistent":true,"tags":["name=db","a"],"cpus":2}`)
			a.write(vm, "kept")
			before := a.described(vm)
			if before.Storage != "persistent" || !before.Persistent || before.Status != "Running" {
				t.Errorf("description = %+v, want a persistent VM that runs", before)
			}
			if got := a.want(200, "POST", "/vm/"+vm+"/shutdown?action="+action, "").body; !strings.Contains(got, "stopped") {
				t.Errorf("%s says %q, want that the VM is stopped", action, got)
			}
			after := before
			after.Status = "Stopped"
			if diff := cmp.Diff(after, a.described(vm)); diff != "" {
				t.Errorf("description after %s (-want +got):\n%s", action, diff)
			}
			if got := a.hostnames("/nodes?tag=name=db"); !cmp.Equal(got, []string{vm}) {
				t.Errorf("nodes = %v, want the stopped VM", got)
			}
			if a.srv.Files(vm) != nil {
				t.Error("the guest is still there")
			}

			var made, created struct {
				Hostname, IP string
				CreatedAt    string `json:"created_at"`
			}
			decode(t, a.want(200, "POST", "/vm/"+vm+"/relaunch", "").body, &made)
			if created = made; made.Hostname != vm || made.IP != before.IP || made.CreatedAt != before.CreatedAt {
				t.Errorf("relaunch = %+v, want what create said, %+v", created, before)
			}
			if diff := cmp.Diff(before, a.described(vm)); diff != "" {
				t.Errorf("description after the relaunch (-want +got):\n%s", diff)
			}
			if got := a.read(vm, "/var/data"); got != "kept" {
				t.Errorf("file after the relaunch = %q, want it kept", got)
			}
			if got := a.file(vm, "/run/slicer/secrets/key"); got != `"x" 600 0:0` {
				t.Errorf("secret after the relaunch = %s, want it", got)
			}
			a.want(200, "POST", execPath(vm, "cmd", "true"), "")
		})
	}
}

func TestStoppedVM(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"persistent":true}`)
	a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
	for _, tt := range []struct {
		method, path, body string
		header             []string
	}{
		{"GET", "/health", "", nil},
		{"POST", "/exec?cmd=true", "", nil},
		{"POST", "/exec?cmd=true&background=true", "", nil},
		{"GET", "/exec", "", nil},
		{"GET", "/cp?path=/x", "", nil},
		{"POST", "/cp?path=/x", "x", nil},
		{"GET", "/fs/stat?path=/x", "", nil},
		{"GET", "/forward", "", []string{"Connection", "upgrade", "Upgrade", "websocket"}},
		{"GET", "/shell", "", []string{"Connection", "upgrade", "Upgrade", "websocket"}},
		{"POST", "/pause", "", nil},
		{"POST", "/resume", "", nil},
		{"POST", "/suspend", "", nil},
		{"POST", "/restore", "", nil},
		{"POST", "/shutdown?action=reboot", "", nil},
	} {
		got := a.call(tt.method, "/vm/"+vm+tt.path, tt.body, tt.header...)
		if want := `VM "sbox-1" is stopped; relaunch it first`; got.status != 409 || got.message(t) != want {
			t.Errorf("%s %s of a stopped VM = %d %s, want 409 %q", tt.method, tt.path, got.status, got.body, want)
		}
	}
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/vm/sbox-1/shutdown", ""},
		{"GET", "/vm/sbox-1/logs", ""},
		{"GET", "/vm/sbox-1/tags", ""},
		{"GET", "/node/sbox-1/stats", ""},
		{"GET", "/nodes/stats", ""},
		{"GET", "/metrics", ""},
		{"PATCH", "/vm/sbox-1/tags", `{"add":["b"]}`},
	} {
		a.want(200, call.method, call.path, call.body)
	}
	a.want(201, "POST", "/secrets", secretBody("key", "x", "")) // it is not brought to anybody
	if got := a.console(vm); !strings.Contains(got, "sbox-1 stopped\n") {
		t.Errorf("console = %q, want the VM's end", got)
	}
	a.want(200, "POST", "/vm/"+vm+"/relaunch", "")
	if got := a.described(vm).Tags; !cmp.Equal(got, []string{"b"}) {
		t.Errorf("tags after the relaunch = %v, want those given while it was stopped", got)
	}
	if got := a.file(vm, "/run/slicer/secrets/key"); got != `"x" 600 0:0` {
		t.Errorf("secret after the relaunch = %s, want the new one", got)
	}
}

func TestRefusedRelaunches(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"persistent":true}`)
	for _, tt := range []struct{ before, says string }{
		{"resume", "Running"}, {"pause", "Paused"}, {"suspend", "Suspended"},
	} {
		a.want(200, "POST", "/vm/"+vm+"/"+tt.before, "")
		if got := a.want(409, "POST", "/vm/"+vm+"/relaunch", "").message(t); !strings.Contains(got, tt.says) {
			t.Errorf("relaunch after %s says %q, want %s", tt.before, got, tt.says)
		}
	}
	a.want(409, "POST", "/vm/"+vm+"/shutdown", "")
	a.want(200, "POST", "/vm/"+vm+"/restore", "")
	a.want(400, "POST", "/vm/"+vm+"/relaunch?wait=agent", "")
}

func TestDeleteRemovesTheDisk(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %t", stopped), func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			vm := a.create(`{"persistent":true,"tags":["name=x"]}`)
			if stopped {
				a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
			}
			var got map[string]string
			decode(t, a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").body, &got)
			if got["disk_removed"] != "true" {
				t.Errorf("delete = %v, want the disk removed", got)
			}
			a.want(404, "POST", "/vm/"+vm+"/relaunch", "")
			a.create(`{"tags":["name=x"]}`)
			a.srv.Restart()
			if got := a.hostnames("/nodes"); len(got) != 0 {
				t.Errorf("VMs after delete and restart = %v, want none", got)
			}
		})
	}
}

func TestPersistentVMThatEndsByItselfIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{"persistent":true}`)
		a.write(vm, "kept")
		a.srv.End(vm)
		synctest.Wait()
		if got := a.described(vm).Status; got != "Stopped" {
			t.Errorf("status = %s, want Stopped", got)
		}
		a.srv.Restart()
		if got := a.described(vm).Status; got != "Stopped" {
			t.Errorf("status after a restart = %s, want Stopped", got)
		}
		a.want(200, "POST", "/vm/"+vm+"/relaunch", "")
		if got := a.read(vm, "/var/data"); got != "kept" {
			t.Errorf("file = %q, want it kept", got)
		}
	})
}

func TestRestart(t *testing.T) {
	a := newAPI(t, slicertest.Options{Groups: []slicer.SlicerHostGroup{{Name: "sbox", CPUs: 4, RamBytes: 8 << 30}, {Name: "k3s", CPUs: 1, RamBytes: 1 << 30}}})
	gone := a.create(`{}`)
	runs := a.create(`{"persistent":true,"tags":["name=runs"],"cpus":3,"ram_bytes":1073741824,"ip":"192.168.137.77","network":{"drop":["10.0.0.0/8"]}}`)
	stopped := a.create(`{"persistent":true,"tags":["old"]}`)
	a.want(201, "POST", "/hostgroup/k3s/nodes", `{"persistent":true}`)
	a.write(runs, "one")
	a.write(stopped, "two")
	a.want(200, "PATCH", "/vm/"+stopped+"/tags", `{"replace":["new"]}`)
	a.want(200, "POST", "/vm/"+stopped+"/shutdown", "")
	a.want(200, "POST", "/vm/"+runs+"/pause", "")
	want := map[string]described{runs: a.described(runs), stopped: a.described(stopped)}
	w := want[runs]
	w.Status = "Running" // its memory is gone
	want[runs] = w

	a.srv.Restart()
	if got := a.hostnames("/nodes"); !cmp.Equal(got, []string{runs, stopped, "k3s-1"}) {
		t.Errorf("VMs after a restart = %v, want the persistent ones, oldest first", got)
	}
	for vm, want := range want {
		if diff := cmp.Diff(want, a.described(vm)); diff != "" {
			t.Errorf("description of %s after a restart (-want +got):\n%s", vm, diff)
		}
	}
	a.want(404, "GET", "/vm/"+gone, "")
	a.want(200, "POST", "/vm/"+stopped+"/relaunch", "")
	if one, two := a.read(runs, "/var/data"), a.read(stopped, "/var/data"); one != "one" || two != "two" {
		t.Errorf("files after a restart = %q and %q, want one and two", one, two)
	}
	if got := a.create(`{}`); got != "sbox-4" {
		t.Errorf("new VM = %s, want the number above the highest that is kept, sbox-4", got)
	}
	a.want(409, "POST", "/hostgroup/sbox/nodes", `{"tags":["name=runs"]}`)
	a.want(409, "POST", "/hostgroup/sbox/nodes", `{"ip":"192.168.137.77"}`)
}

func TestUserdataIsNotRunAgain(t *testing.T) {
	var mu sync.Mutex
	ran := 0
	a := newAPI(t, slicertest.Options{Shell: func(context.Context, *slicertest.Proc, string) int {
		mu.Lock()
		defer mu.Unlock()
		ran++
		return 7
	}})
	a.want(201, "POST", "/hostgroup/sbox/nodes?wait=userdata", `{"persistent":true,"userdata":"setup"}`)
	a.want(200, "POST", "/vm/sbox-1/shutdown", "")
	a.want(200, "POST", "/vm/sbox-1/relaunch", "")
	a.srv.Restart()
	var health struct {
		Ran  bool `json:"userdata_ran"`
		Code *int `json:"userdata_exit_code"`
	}
	decode(t, a.want(200, "GET", "/vm/sbox-1/health", "").body, &health)
	mu.Lock()
	defer mu.Unlock()
	if ran != 1 || !health.Ran || health.Code == nil || *health.Code != 7 {
		t.Errorf("userdata ran %d times, health %+v, want once and its exit code 7", ran, health)
	}
}

func TestUserdataThatIsInterruptedIsNotRunAgain(t *testing.T) {
	started := make(chan struct{}, 2)
	a := newAPI(t, slicertest.Options{Shell: func(ctx context.Context, _ *slicertest.Proc, _ string) int {
		started <- struct{}{}
		<-ctx.Done()
		return 0
	}})
	a.create(`{"persistent":true,"userdata":"setup"}`)
	<-started
	a.srv.Restart()
	var health map[string]any
	decode(t, a.want(200, "GET", "/vm/sbox-1/health", "").body, &health)
	if health["userdata_ran"] != true || health["userdata_exit_code"] != 137.0 || len(started) > 0 {
		t.Errorf("health after an interrupted userdata = %v, %d more runs, want exit code 137 and none", health, len(started))
	}
}

func TestGrantsOutliveTheDaemon(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	secrets := func() {
		a.want(201, "POST", "/secrets", secretBody("one", "1", ""))
		a.want(201, "POST", "/secrets", secretBody("two", "2", ""))
	}
	secrets()
	vm := a.create(`{"persistent":true,"secrets":["one"]}`)
	a.srv.Restart()
	secrets()
	if one, two := a.file(vm, "/run/slicer/secrets/one"), a.file(vm, "/run/slicer/secrets/two"); one == "absent" || two != "absent" {
		t.Errorf("secrets after a restart: one is %s, two is %s, want one alone", one, two)
	}
}

func TestOneOfManyEndsAVM(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	for range 10 {
		vm := a.create(`{"persistent":true}`)
		a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
		calls := []struct{ method, path, body string }{
			{"POST", "/vm/" + vm + "/relaunch", ""},
			{"POST", "/vm/" + vm + "/relaunch", ""},
			{"POST", "/vm/" + vm + "/shutdown", ""},
			{"POST", "/vm/" + vm + "/commit", "{}"},
			{"PATCH", "/vm/" + vm + "/tags", `{"add":["x"]}`},
			{"GET", "/vm/" + vm, ""},
			{"POST", execPath(vm, "cmd", "true"), ""},
			{"DELETE", "/hostgroup/sbox/nodes/" + vm, ""},
		}
		replies := make([]reply, len(calls))
		var all sync.WaitGroup
		for i, c := range calls {
			all.Go(func() { replies[i] = a.call(c.method, c.path, c.body) })
		}
		all.Wait()
		for i, got := range replies {
			if got.status != 200 && got.status != 404 && got.status != 409 {
				t.Errorf("%s %s = %d %s, want 200, 404 or 409", calls[i].method, calls[i].path, got.status, got.body)
			}
		}
		if got := replies[len(calls)-1]; got.status != 200 {
			t.Errorf("delete = %d %s, want 200: the VM was there all the time", got.status, got.body)
		}
		a.want(404, "GET", "/vm/"+vm, "")
	}
	a.srv.Restart()
	if got := a.hostnames("/nodes"); len(got) != 0 {
		t.Errorf("VMs after all were deleted = %v, want none", got)
	}
}

func TestTagsSurviveARelaunch(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"persistent":true}`)
	want := map[string]bool{}
	for i := range 20 {
		a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
		tag := fmt.Sprintf("t%d", i)
		want[tag] = true
		var both sync.WaitGroup
		both.Go(func() {
			if got := a.call("POST", "/vm/"+vm+"/relaunch", ""); got.status != http.StatusOK {
				t.Errorf("relaunch = %d %s", got.status, got.body)
			}
		})
		both.Go(func() {
			if got := a.call("PATCH", "/vm/"+vm+"/tags", fmt.Sprintf(`{"add":[%q]}`, tag)); got.status != http.StatusOK {
				t.Errorf("tags = %d %s", got.status, got.body)
			}
		})
		both.Wait()
	}
	a.srv.Restart()
	got := map[string]bool{}
	for _, tag := range a.described(vm).Tags {
		got[tag] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}
