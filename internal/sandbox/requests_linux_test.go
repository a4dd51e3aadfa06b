package sandbox_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHostileRequestsAreRefused(t *testing.T) {
	s := newService(t)
	vm := s.create()
	tests := []struct {
		name         string
		method, path string
		body         string
		status       int
	}{
		{"NUL in a command", "POST", "/vm/" + vm + "/exec?cmd=true&args=a%00b", "", 400},
		{"NUL in the environment", "POST", "/vm/" + vm + "/exec?cmd=true&env=A%3Da%00b", "", 400},
		{"an environment entry without a name", "POST", "/vm/" + vm + "/exec" + params("cmd", "true", "env", "=x"), "", 400},
		{"NUL in a folder", "POST", "/vm/" + vm + "/exec?cmd=true&cwd=/tmp%00", "", 400},
		{"a relative folder", "POST", "/vm/" + vm + "/exec" + params("cmd", "true", "cwd", "../../etc"), "", 400},
		{"a secret with a slash", "POST", "/secrets", `{"name":"../../etc/x","data":"eA=="}`, 400},
		{"a secret of dots", "POST", "/secrets", `{"name":"..","data":"eA=="}`, 400},
		{"a secret with NUL", "POST", "/secrets", `{"name":"a\u0000b","data":"eA=="}`, 400},
		{"a secret with a line's end", "POST", "/secrets", `{"name":"a\nb","data":"eA=="}`, 400},
		{"a group with dots", "POST", "/hostgroup/%2e%2e/nodes", "{}", 404},
		{"a hostname of one's own", "POST", "/hostgroup/sbox/nodes", `{"hostname":"../../x"}`, 501},
		{"a signal that is none", "POST", "/vm/" + vm + "/exec/..%2f..%2fhealth/kill", "{}", 404},
		{"a watch of a missing folder", "GET", "/vm/" + vm + "/fs/watch" + params("paths", "/proc/99999999"), "", 404},
		{"a watch with NUL", "GET", "/vm/" + vm + "/fs/watch?paths=/tmp%00", "", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.call(tt.method, tt.path, strings.NewReader(tt.body)); got.status != tt.status {
				t.Errorf("%s %s = %d %.200q, want %d", tt.method, tt.path, got.status, got.body, tt.status)
			}
		})
	}
	t.Run("dots in a folder stay inside", func(t *testing.T) {
		if r := s.exec(vm, "0", []string{"cwd", "/tmp/../../../.."}, "ls", "-1"); r.ExitCode != 0 || !strings.Contains(r.Stdout, "usr\n") || s.sh(vm, "ls -1 /") != r.Stdout {
			t.Errorf("ls there = %+v, want the guest's root", r)
		}
	})
	t.Run("a watch of all of /proc ends", func(t *testing.T) {
		// It may be refused or run to its time-out: it must not hold the VM up.
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if got, err := s.try(ctx, "GET", "/vm/"+vm+"/fs/watch"+params("paths", "/proc", "recursive", "true", "timeout", "100ms"), nil); err != nil {
			t.Errorf("watch of /proc = %+v, %v, want an answer", got, err)
		}
		if got := s.sh(vm, "echo on"); got != "on\n" {
			t.Errorf("echo printed %q, want on", got)
		}
	})
}

func TestHostileUserdataHarmsNobody(t *testing.T) {
	s := newService(t)
	tests := []struct {
		name, script string
		code         int // -1 is any: shells differ
	}{
		{"a missing interpreter", "#!/no/such", 127},
		{"no interpreter", "#!", -1},
		{"itself as its interpreter", "#!/run/slicer/userdata", 126},
		{"a folder as its interpreter", "#!/tmp", 126},
		{"an endless line", "#!/bin/sh " + strings.Repeat("x", 100_000), -1},
		{"the agent as its interpreter", "#!/proc/1/exe", 126},
		{"zeros", "\x00\x00\x00", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := json.Marshal(map[string]string{"userdata": tt.script})
			if err != nil {
				t.Fatal(err)
			}
			vm := hostname(t, s.want(http.StatusCreated, "POST", "/hostgroup/sbox/nodes?wait=userdata&timeout=20s", strings.NewReader(string(body))))
			var health struct {
				Code *int `json:"userdata_exit_code"`
			}
			text := s.want(http.StatusOK, "GET", "/vm/"+vm+"/health", nil)
			if err := json.Unmarshal([]byte(text), &health); err != nil || health.Code == nil || tt.code >= 0 && *health.Code != tt.code {
				t.Errorf("health = %s (%v), want exit code %d", text, err, tt.code)
			}
			if got := s.sh(vm, "echo on"); got != "on\n" {
				t.Errorf("echo printed %q, want on", got)
			}
			s.want(http.StatusOK, "DELETE", "/hostgroup/sbox/nodes/"+vm, nil)
		})
	}
}

// TestFilesOfTheKernelAreReadByTheGuest has the API read what /proc shows to
// its reader: the daemon may be the machine's root, the guest isn't.
func TestFilesOfTheKernelAreReadByTheGuest(t *testing.T) {
	s := newService(t)
	vm := s.create()
	for _, name := range []string{"/proc/self/net/unix", "/proc/uptime", "/proc/1/status"} {
		got := s.call("GET", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary"), nil)
		if got.status != http.StatusOK || got.cut {
			t.Errorf("GET cp of %s = %d %.100q (cut %v), want 200", name, got.status, got.body, got.cut)
		}
	}
	// The status is that of the process that reads.
	text := s.want(http.StatusOK, "GET", "/vm/"+vm+"/cp"+params("path", "/proc/self/status", "mode", "binary"), nil)
	if !strings.Contains(text, "Pid:\t1\n") || !strings.Contains(text, "NoNewPrivs:\t1\n") {
		t.Errorf("/proc/self/status = %.300q, want the agent's", text)
	}
	// Its size is known before it is sent, as only a copy's is.
	packed := s.want(http.StatusOK, "GET", "/vm/"+vm+"/cp"+params("path", "/proc/self/status", "mode", "tar"), nil)
	if !strings.Contains(packed, "Pid:\t1\n") {
		t.Errorf("an archive of /proc/self/status has %.600q, want its text", packed)
	}
}
