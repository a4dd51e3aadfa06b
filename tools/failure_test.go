package tools_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// wantVMs reports when a daemon has another number of VMs.
func wantVMs(t *testing.T, client *slicer.SlicerClient, want int) {
	t.Helper()
	if nodes, err := client.ListVMs(t.Context()); err != nil || len(nodes) != want {
		t.Errorf("ListVMs = %v, %v; want %d", nodes, err, want)
	}
}

// TestHalfMadeVMsAreRemoved is about create_vm calls that go wrong midway.
func TestHalfMadeVMsAreRemoved(t *testing.T) {
	t.Run("a VM that does not come up in time", func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{Boot: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 3 * time.Second})
		wantText(t, "create_vm", s.fail("create_vm", args{}), "was not ready after", "No VM is left of it", "Retry once")
		wantVMs(t, srv.Client(), 0)
	})
	t.Run("an answer that is cut off", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Cut: true, Times: 1})
		s := connect(t, tools.Config{Client: srv.Client()})
		wantText(t, "create_vm", s.fail("create_vm", args{}), "No VM is left of it", "retry")
		wantVMs(t, srv.Client(), 0)
	})
	t.Run("an answer that never comes", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Stall: make(chan struct{}), Times: 1})
		s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 500 * time.Millisecond})
		wantText(t, "create_vm", s.fail("create_vm", args{}), "was not ready after", "No VM is left of it")
		wantVMs(t, srv.Client(), 0)
	})
	t.Run("another VM of the same owner stays", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		s := connect(t, tools.Config{Client: srv.Client()})
		s.call("create_vm", args{"name": "kept"})
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Cut: true, Times: 1})
		s.fail("create_vm", args{"name": "lost"})
		wantText(t, "list_vms", s.call("list_vms", args{}), "1 VM owned", "(kept)")
	})
	t.Run("one that can't be removed is named", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Cut: true, Times: 1})
		srv.Fault("DELETE /hostgroup/{group}/nodes/{vm}", slicertest.Fault{Status: 500, Times: 1})
		s := connect(t, tools.Config{Client: srv.Client()})
		got := s.fail("create_vm", args{})
		wantText(t, "create_vm", got, "is left and could not be removed", "delete_vm(vm=")
		s.call("delete_vm", args{"vm": "sbox-1"})
	})
}

func TestWrongToken(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Token: "right"})
	wrong := connect(t, tools.Config{Client: slicer.NewSlicerClient(srv.URL, "wrong", "", nil)})
	for _, tool := range []string{"create_vm", "list_vms", "list_secrets", "pause"} {
		got := wrong.fail(tool, args{})
		wantText(t, tool, got, "refused this server's token", "SLICER_TOKEN", "SLICER_TOKEN_FILE")
	}
	connect(t, tools.Config{Client: srv.Client()}).call("create_vm", args{})
}

func TestProtectedVM(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	srv.Fault("DELETE /hostgroup/{group}/nodes/{vm}", slicertest.Fault{Status: 403, Body: `{"error":"protected"}`})
	wantText(t, "delete_vm", s.fail("delete_vm", args{"vm": "web"}), `protects VM "web"`, "tell the user")
}

// TestVMThatVanishes is about a VM that ends while a command runs in it.
func TestVMThatVanishes(t *testing.T) {
	wrote := make(chan string)
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "last words\n")
		wrote <- p.Hostname
		<-ctx.Done()
		return 0
	})})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	var wg sync.WaitGroup
	wg.Go(func() { srv.End(<-wrote) })
	got := textOf(t, s.raw(t.Context(), "exec", args{"command": "x"}))
	wg.Wait()
	wantText(t, "exec in a VM that ends", got, `VM "web" is gone`)
	if strings.HasPrefix(got, "exit 0") {
		t.Errorf("exec in a VM that ends = %q, which passes for success", got)
	}
	wantText(t, "exec afterwards", s.fail("exec", args{"vm": "web", "command": "x"}), `no VM named "web"`)
}

// TestGoneBetween is about a VM that ends after it was looked up.
func TestGoneBetween(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	for _, pattern := range []string{"POST /vm/{vm}/exec", "POST /vm/{vm}/pause"} {
		srv.Fault(pattern, slicertest.Fault{Status: 404, Body: `{"error":"no such VM"}`})
	}
	for tool, a := range map[string]args{"exec": {"command": "x"}, "pause": {}} {
		wantText(t, tool, s.fail(tool, a), `VM "web" is gone`, "list_vms", "create_vm")
	}
}

func TestCutTransfers(t *testing.T) {
	srv := slicertest.NewServer(t)
	root := t.TempDir()
	put(t, root, map[string]string{"a": strings.Repeat("x", 1<<20)})
	s := connect(t, tools.Config{Client: srv.Client(), Roots: []string{root}, CallLimit: 2 * time.Second})
	s.call("create_vm", args{"name": "web"})
	write(t, srv.Client(), "sbox-1", "/tmp/f", []byte(strings.Repeat("line\n", 100_000)))

	srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Cut: true, CutAfter: 1000, Times: 1})
	got := s.fail("read_file", args{"file_path": "/tmp/f"})
	wantText(t, "read_file of a cut stream", got, "Call list_vms")
	srv.Fault("POST /vm/{vm}/cp", slicertest.Fault{Stall: make(chan struct{}), Times: 1})
	wantText(t, "cp_to_vm to a daemon that stalls", s.call("cp_to_vm", args{"host_path": root, "vm_path": "/tmp/d"}), "still copying", "read_process", "signal_process")
	wantText(t, "read_file afterwards", s.call("read_file", args{"file_path": "/tmp/f", "limit": 1}), "1\tline")
}

// panicking is a transport with a fault of the server's own.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("canary of the inside") }

func TestPanicIsAToolError(t *testing.T) {
	var log bytes.Buffer
	client := slicer.NewSlicerClient("http://127.0.0.1:1", "", "", &http.Client{Transport: panicking{}})
	s := connect(t, tools.Config{Client: client, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		got := s.fail("list_vms", args{})
		wantText(t, "list_vms", got, "a fault of this MCP server", "Retry once")
		if strings.Contains(got, "canary") {
			t.Errorf("list_vms = %q, which tells of the inside", got)
		}
	}
	wantText(t, "the log", log.String(), "tool panicked", "canary of the inside", "RoundTrip")
}

// TestParallelCalls is for the race detector and for answers that get mixed
// up.
func TestParallelCalls(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, script string) int {
		fmt.Fprint(p.Stdout, "this is "+script)
		return 0
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			command := fmt.Sprintf("call %d.", i)
			res := s.raw(t.Context(), "exec", args{"command": command})
			wantText(t, command, textOf(t, res), "\nthis is "+command+"\n")
		})
	}
	wg.Wait()
}

// TestLogTellsNoArguments is about what must not be kept of a call.
func TestLogTellsNoArguments(t *testing.T) {
	var log bytes.Buffer
	s := connect(t, tools.Config{Client: fakeDaemon(t), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.call("create_vm", args{})
	s.call("exec", args{"command": "echo canary-1", "env": []string{"TOKEN=canary-2"}})
	s.fail("exec", args{"command": "x", "canary-3": "canary-4"})
	wantText(t, "the log", log.String(), "msg=\"tool call\" tool=exec error=false", "tool=exec error=true")
	if strings.Contains(log.String(), "canary") {
		t.Errorf("the log holds an argument or output: %s", log.String())
	}
}
