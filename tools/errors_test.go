package tools_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// daemonWith is a server that answers every request by handle.
func daemonWith(t *testing.T, handle http.HandlerFunc) *slicer.SlicerClient {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	return slicer.NewSlicerClient(srv.URL, "s3cret-token", "", nil)
}

// answer is a handler that says one thing.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // a client that has gone away is no matter
	}
}

func TestDaemonErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		handle http.HandlerFunc
		want   []string
	}{
		{"a wrong token", answer(401, `{"error":"unauthorized"}`), []string{"refused this server's token", "SLICER_TOKEN", "SLICER_TOKEN_FILE", "Tell the user", "unauthorized"}},
		{"a token without the right", answer(403, `{"error":"forbidden"}`), []string{"refused this server's token", "SLICER_TOKEN"}},
		{"an error of the daemon's", answer(500, `{"error":"disk on fire"}`), []string{"error of its own (status 500)", "disk on fire", "Retry once"}},
		{"a daemon that shuts down", answer(503, ``), []string{"busy or shutting down", "Retry"}},
		{"something that isn't there", answer(501, `{"error":"no"}`), []string{"can't do that"}},
		{"any other refusal", answer(418, `teapot`), []string{"refused this (status 418)", "teapot"}},
		{"a page from a proxy", answer(502, `<html><body>Bad gateway</body></html>`), []string{"error of its own (status 502)", "HTML page"}},
		{"an answer that isn't JSON", answer(200, `hello`), []string{"answer could not be used", "Call list_vms"}},
		{"a hostile message", answer(500, "{\"error\":\"a\\n\\u202eIgnore\\u001b[31m s3cret-token\"}"), []string{"status 500"}},
		{"a connection that breaks", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, []string{"Call list_vms", "retry"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := connect(t, tools.Config{Client: daemonWith(t, tc.handle)})
			for _, call := range []struct {
				tool string
				args args
			}{
				{"list_vms", args{}},
				{"list_secrets", args{}},
				{"exec", args{"command": "ls", "env": []string{"K=env-value"}}},
				{"create_vm", args{}},
				{"read_file", args{"file_path": "/etc/hosts"}},
			} {
				got := s.fail(call.tool, call.args)
				wantText(t, call.tool, got, tc.want...)
				for _, bad := range []string{"s3cret-token", "env-value", "http://", "\u202e", "\x1b", "\n", "%!"} {
					if strings.Contains(got, bad) {
						t.Errorf("%s = %q, which contains %q", call.tool, got, bad)
					}
				}
			}
		})
	}
}

func TestUnreachableDaemon(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	address := closed.Listener.Addr().String()
	closed.Close()
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, tc := range []struct {
		name, url string
		want      []string
	}{
		{"nobody listens", "http://" + address, []string{"daemon at " + address + " can't be reached", "connection refused", "SLICER_URL", "Tell the user"}},
		{"a URL with a password", "http://user:hunter2@" + address, []string{"daemon at " + address + " can't be reached"}},
		{"no such socket", socket, []string{"daemon at " + socket + " can't be reached", "no such file", "SLICER_URL"}},
		{"no such host", "http://no-such-host.invalid", []string{"daemon at no-such-host.invalid can't be reached"}},
		{"no URL at all", "", []string{"no URL of a Slicer daemon"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := connect(t, tools.Config{Client: slicer.NewSlicerClient(tc.url, "tok-123", "", nil)})
			for range 2 { // the server goes on serving
				got := s.fail("exec", args{"command": "true", "env": []string{"K=env-value"}})
				wantText(t, "exec", got, tc.want...)
				for _, bad := range []string{"hunter2", "tok-123", "env-value"} {
					if strings.Contains(got, bad) {
						t.Errorf("exec = %q, which contains %q", got, bad)
					}
				}
			}
		})
	}
}

// TestStalledDaemon is about a daemon that takes requests and never answers.
func TestStalledDaemon(t *testing.T) {
	released := make(chan struct{})
	client := daemonWith(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(released) })
	s := connect(t, tools.Config{Client: client, CallLimit: 200 * time.Millisecond})
	for _, call := range []struct {
		tool string
		args args
	}{
		{"list_vms", args{}},
		{"create_vm", args{}},
		{"exec", args{"command": "true"}},
		{"read_file", args{"file_path": "/x"}},
		{"pause", args{"vm": "x"}},
		{"list_secrets", args{}},
	} {
		began := time.Now()
		got := s.fail(call.tool, call.args)
		wantText(t, call.tool, got, "no answer in time", "Call list_vms")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s answered after %s, want about 200 ms", call.tool, took)
		}
	}
}

// TestOldAgents is about exec streams whose frames have no type.
func TestOldAgents(t *testing.T) {
	for _, tc := range []struct {
		name, stream string
		fails        bool
		want         []string
	}{
		{"success", `{"stdout":"hi\n","exit_code":0}` + "\n" + `{"exit_code":0}` + "\n", false, []string{"exit 0 in ", "```\nhi\n```"}},
		{"failure", `{"stderr":"bad\n"}` + "\n" + `{"exit_code":3,"error":"exit status 3"}` + "\n", false, []string{"exit 3 in ", "all on stderr:\n```\nbad\n```"}},
		{"a killed child", `{"exit_code":137,"error":"exit status 137"}` + "\n", false, []string{"exit 137 (SIGKILL) in "}},
		{"a signal", `{"type":"started","pid":1}` + "\n" + `{"type":"exit","exit_code":137,"signal":"KILL","error":"signal: KILL"}` + "\n", false, []string{"killed by SIGKILL after "}},
		{"a command that did not start", `{"type":"exit","exit_code":127,"error":"chdir /nope: no such file or directory"}` + "\n", true, []string{"could not be started: chdir /nope", "Check cwd"}},
		{"a stream that breaks", `{"type":"started","pid":1}` + "\n" + `{"type":"stdout","stdout":"half"}` + "\n", true, []string{"connection to the VM broke", "how the command ended is not known", "```\nhalf\n```"}},
		{"a stream that isn't one", "hello", true, []string{"connection to the VM broke", "(no output)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nodes, err := json.Marshal([]slicer.SlicerNode{{Hostname: "sbox-1", Tags: []string{"owner=" + testOwner}}})
			if err != nil {
				t.Fatal(err)
			}
			client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/nodes" {
					answer(200, string(nodes))(w, r)
					return
				}
				answer(200, tc.stream)(w, r)
			})
			res := connect(t, tools.Config{Client: client}).raw(t.Context(), "exec", args{"command": "x"})
			got := textOf(t, res)
			if res.IsError != tc.fails {
				t.Errorf("exec = %q, an error %v, want %v", got, res.IsError, tc.fails)
			}
			wantText(t, "exec", got, tc.want...)
		})
	}
}

// TestEndedVMIsTold is about a VM that is no longer there when its command has
// been killed.
func TestEndedVMIsTold(t *testing.T) {
	const (
		killed = `{"type":"started","pid":1}` + "\n" + `{"type":"stdout","stdout":"half"}` + "\n" + `{"type":"exit","exit_code":137,"signal":"KILL","error":"signal: KILL"}` + "\n"
		cut    = `{"type":"stdout","stdout":"half"}` + "\n"
	)
	for _, tc := range []struct {
		name, stream string
		status       string // of the VM afterwards
		fails        bool
		want         string
	}{
		{"killed with its VM", killed, "", true, `VM "web" is gone: it was deleted or has ended`},
		{"killed while its VM is deleted", killed, "Stopped", true, `VM "web" is gone: it was deleted or has ended`},
		{"killed with its VM, as an old agent says it", `{"stdout":"half"}` + "\n" + `{"exit_code":137,"error":"exit status 137"}` + "\n", "", true, `VM "web" is gone`},
		{"killed by itself", killed, "Running", false, "killed by SIGKILL after "},
		{"cut off with its VM", cut, "", true, `VM "web" is gone: it was deleted or has ended`},
		{"cut off while its VM is deleted", cut, "Stopped", true, `VM "web" is gone`},
		{"cut off from a VM that was paused", cut, "Paused", true, `VM "web" is paused. Call resume(vm="web") first`},
		{"cut off from a VM that runs", cut, "Running", true, "how the command ended is not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := turningDaemon(t, tc.status, answer(200, tc.stream))
			res := connect(t, tools.Config{Client: client}).raw(t.Context(), "exec", args{"command": "x"})
			got := textOf(t, res)
			head, output, _ := strings.Cut(got, "```")
			wantText(t, "the beginning of exec", head, tc.want)
			wantText(t, "the rest of exec", output, "half")
			if res.IsError != tc.fails {
				t.Errorf("exec = %q, an error %v, want %v", got, res.IsError, tc.fails)
			}
			if strings.Contains(got, "gone") != strings.Contains(tc.want, "gone") {
				t.Errorf("exec = %q, want it to say that the VM is gone only where it is", got)
			}
		})
	}
}

// TestNotBegunInAVMThatEnds is about an exec that breaks off before its first
// frame.
func TestNotBegunInAVMThatEnds(t *testing.T) {
	for status, want := range map[string]string{"": `VM "web" is gone: it was deleted or has ended`, "Paused": `VM "web" is paused`} {
		s := connect(t, tools.Config{Client: turningDaemon(t, status, cutOff)})
		wantText(t, "exec", s.fail("exec", args{"command": "x"}), want)
	}
}
