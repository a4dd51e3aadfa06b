package tools_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// vmState is the answer of the tools that change a VM's state.
type vmState struct{ VM, Name, Status, Note, Next string }

// state calls such a tool and holds its text to its record.
func (s *session) state(tool string, a args) vmState {
	s.t.Helper()
	var state vmState
	text := s.record(tool, a, &state)
	wantText(s.t, tool, text, state.VM, state.Name, state.Status, state.Note, state.Next)
	return state
}

// TestNoCallWakesAVM holds what says how a VM stands to the tool that brings it
// back.
func TestNoCallWakesAVM(t *testing.T) {
	dir := t.TempDir()
	calls := map[string]args{
		"exec": {"command": "true"}, "read_file": {"file_path": "/etc/hosts"}, "cp_to_vm": {"host_path": dir, "vm_path": "/tmp/x"},
	}
	t.Run("paused and suspended", func(t *testing.T) {
		s := connect(t, tools.Config{Client: fakeDaemon(t), Roots: []string{dir}})
		s.call("create_vm", args{"name": "stopped-x"}) // a name that says another status
		for _, tc := range []struct{ by, status, back string }{{"pause", "paused", "resume"}, {"suspend", "suspended", "restore"}} {
			for range 2 { // twice is no fault
				state := s.state(tc.by, args{})
				if state.Status != tc.status {
					t.Errorf("%s = %+v, want it %s", tc.by, state, tc.status)
				}
				wantText(t, tc.by, state.Next, tc.back+`(vm="stopped-x")`)
			}
			want := fmt.Sprintf(`VM "stopped-x" is %s. Call %s(vm="stopped-x") first, then retry.`, tc.status, tc.back)
			for tool, a := range calls {
				if got := s.fail(tool, a); got != want {
					t.Errorf("%s on a VM that is %s = %q, want %q", tool, tc.status, got, want)
				}
			}
			wantText(t, "relaunch", s.fail("relaunch", args{}), want)
			wantText(t, "shutdown", s.fail("shutdown", args{"vm": "stopped-x"}), want)
			for range 2 {
				state := s.state(tc.back, args{})
				if state.Status != "running" {
					t.Errorf("%s = %+v, want it running", tc.back, state)
				}
			}
			wantText(t, "exec", s.call("exec", args{"command": "echo hi"}), "hi")
		}
		s.call("suspend", args{})
		wantText(t, "resume of a suspended VM", s.fail("resume", args{}), "is suspended", "restore(")
		wantText(t, "delete_vm of a suspended VM", s.call("delete_vm", args{"vm": "stopped-x"}), "is deleted")
	})
	t.Run("stopped", func(t *testing.T) {
		client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/nodes" {
				answer(200, `[{"hostname":"x-1","status":"Stopped","persistent":true,"tags":["name=paused","owner=`+testOwner+`"]}]`)(w, r)
				return
			}
			answer(409, `{"error":"VM \"paused\" is stopped; relaunch it first"}`)(w, r)
		})
		s := connect(t, tools.Config{Client: client, Roots: []string{dir}})
		want := `VM "paused" is stopped. Call relaunch(vm="paused") first, then retry.`
		for tool, a := range calls {
			if got := s.fail(tool, a); got != want {
				t.Errorf("%s on a stopped VM = %q, want %q", tool, got, want)
			}
		}
		for _, tool := range []string{"pause", "resume", "suspend", "restore"} {
			if got := s.fail(tool, args{}); got != want {
				t.Errorf("%s of a stopped VM = %q, want %q", tool, got, want)
			}
		}
	})
	t.Run("in the middle of a command", func(t *testing.T) {
		for status, want := range map[string]string{
			"Paused":    `VM "web" is paused. Call resume(vm="web") first`,
			"Suspended": `VM "web" is suspended. Call restore(vm="web") first`,
		} {
			s := connect(t, tools.Config{Client: turningDaemon(t, status, cutOff)})
			wantText(t, "exec", s.fail("exec", args{"command": "x"}), want)
		}
	})
}

// TestSuspendedCommandStandsStill is about a command that runs when its VM is
// suspended.
func TestSuspendedCommandStandsStill(t *testing.T) {
	s := connect(t, tools.Config{Client: fakeDaemon(t)})
	s.call("create_vm", args{"name": "web"})
	handle := processOf(t, s.call("exec", args{"command": "sleep 600", "background": true}))
	s.call("suspend", args{})
	wantText(t, "read_process", s.fail("read_process", args{"process": handle}), "is suspended", "restore(")
	s.call("restore", args{})
	wantText(t, "read_process", s.call("read_process", args{"process": handle, "wait_seconds": 1}), "still running")
}

func TestSuspendThatCantBe(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	srv.Fault("POST /vm/{vm}/suspend", slicertest.Fault{Status: 501, Body: `{"error":"no snapshots here"}`})
	wantText(t, "suspend", s.fail("suspend", args{}), "can't suspend VMs", "no snapshots here", `pause(vm="web")`)
}

func TestRestoreWaits(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client(), CallLimit: time.Second})
	s.call("create_vm", args{"name": "web"})
	s.call("suspend", args{})
	srv.Fault("GET /vm/{vm}/health", slicertest.Fault{Status: 502, Times: 3})
	if state := s.state("restore", args{}); state.Status != "running" {
		t.Errorf("restore = %+v, want it running", state)
	}
	srv.Fault("GET /vm/{vm}/health", slicertest.Fault{Status: 502})
	state := s.state("restore", args{})
	if state.Status != "starting" {
		t.Errorf("restore without an agent = %+v, want it starting", state)
	}
	wantText(t, "restore", state.Next, `get_vm(vm="web")`)
}

func TestShutdown(t *testing.T) {
	for _, action := range []string{"", "shutdown", "reboot"} { // the fake's VMs are ephemeral
		client := fakeDaemon(t)
		s := connect(t, tools.Config{Client: client})
		s.call("create_vm", args{"name": "web"})
		a := args{"vm": "web"}
		if action != "" {
			a["action"] = action
		}
		if state := s.state("shutdown", a); state.Status != "gone with its disk" || state.Name != "web" {
			t.Errorf("shutdown %s = %+v, want it gone", action, state)
		}
		wantVMs(t, client, 0)
	}
	for _, tc := range []struct {
		name, action, after string
		persistent          bool
		status              string
		wants               []string
	}{
		{"a persistent one", "shutdown", "Stopped", true, "stopped", []string{`relaunch(vm="web")`, `delete_vm(vm="web")`}},
		{"one whose end isn't noticed", "shutdown", "Running", true, "shutting down", []string{"listed as running still", `delete_vm(vm="web")`, `action="reboot"`}},
		{"one that reboots", "reboot", "Running", true, "rebooting", []string{`get_vm(vm="web")`}},
		{"one that a daemon removes", "shutdown", "", true, "gone with its disk", []string{"create_vm"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := func(status string) string {
				if status == "" {
					return "[]"
				}
				return fmt.Sprintf(`[{"hostname":"x-1","status":%q,"persistent":%v,"tags":["name=web","owner=%s"]}]`, status, tc.persistent, testOwner)
			}
			var mu sync.Mutex
			asked := ""
			client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.URL.Path != "/nodes":
					asked = r.URL.Query().Get("action")
					answer(200, "done\n")(w, r)
				case asked != "":
					answer(200, list(tc.after))(w, r)
				default:
					answer(200, list("Running"))(w, r)
				}
			})
			s := connect(t, tools.Config{Client: client, CallLimit: time.Second})
			state := s.state("shutdown", args{"vm": "web", "action": tc.action})
			if state.Status != tc.status || asked != tc.action {
				t.Errorf("shutdown = %+v, the daemon asked for %q; want %q and %q", state, asked, tc.status, tc.action)
			}
			wantText(t, "shutdown", state.Note+" "+state.Next, tc.wants...)
		})
	}
	wantText(t, "shutdown", connect(t, tools.Config{Client: fakeDaemon(t)}).fail("shutdown", args{"vm": "x", "action": "halt"}), "action must be one of shutdown, reboot")
}

// TestRelaunch is about a daemon with persistent VMs.
func TestRelaunch(t *testing.T) {
	for _, tc := range []struct {
		name, status string
		code         int
		body         string
		fails        bool
		want         []string
	}{
		{"a stopped VM", "Stopped", 200, `{"hostname":"x-1"}`, false, []string{"VM x-1 (web) is running.", `exec(vm="web"`}},
		{"one that runs", "Running", 409, `{"error":"VM \"x-1\" is not stopped, it is Running"}`, false, []string{"is running. It ran already"}},
		{"one that is paused", "Paused", 409, `{"error":"VM \"x-1\" is not stopped, it is Paused"}`, true, []string{"is paused", `resume(vm="web")`}},
		{"an ephemeral one", "Running", 404, `{"error":"VM \"x-1\" is gone"}`, true, []string{`VM "web" is gone`, "create_vm"}},
		{"a daemon that can't", "Stopped", 501, `{"error":"no"}`, true, []string{"can't do that"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/nodes":
					answer(200, fmt.Sprintf(`[{"hostname":"x-1","status":%q,"persistent":true,"tags":["name=web","owner=%s"]}]`, tc.status, testOwner))(w, r)
				case strings.HasSuffix(r.URL.Path, "/relaunch"):
					answer(tc.code, tc.body)(w, r)
				default:
					answer(200, `{"agent_version":"1"}`)(w, r)
				}
			})
			s := connect(t, tools.Config{Client: client})
			if tc.fails {
				wantText(t, "relaunch", s.fail("relaunch", args{}), tc.want...)
				return
			}
			state := s.state("relaunch", args{})
			if state.Status != "running" {
				t.Errorf("relaunch = %+v, want it running", state)
			}
			wantText(t, "relaunch", s.call("relaunch", args{}), tc.want...)
		})
	}
}

// TestProtectedShutdown is about a VM that the daemon keeps.
func TestProtectedShutdown(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	srv.Fault("POST /vm/{vm}/shutdown", slicertest.Fault{Status: 403, Body: `{"error":"VM \"sbox-1\" is protected"}`})
	wantText(t, "shutdown", s.fail("shutdown", args{"vm": "web"}), `the daemon protects VM "web"`, "can't be ended")
}
