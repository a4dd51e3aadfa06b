package tools_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// stuck is a shell whose command prints begun and never ends by itself.
func stuck(ctx context.Context, p *slicertest.Proc, _ string) int {
	fmt.Fprintln(p.Stdout, "begun")
	<-ctx.Done()
	return 1
}

func TestField1AnswersComeInTime(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(stuck)})
	s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 6 * time.Second})
	s.call("create_vm", args{})
	began := time.Now()
	got := s.call("exec", args{"command": "x", "yield_seconds": 50, "timeout_seconds": 86400})
	handle := processOf(t, got)
	s.call("read_process", args{"process": handle, "wait_seconds": 50, "until": "never"})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("two calls of 6 s at most took %s", took)
	}
}

func TestField2ATimedOutCommandIsFoundAgain(t *testing.T) {
	s := shellSession(t, stuck)
	got := s.call("exec", args{"command": "make all", "yield_seconds": 1})
	wantText(t, "exec", got, "still running (process ex_", "begun", "Next: read_process(process=\"ex_")
	wantText(t, "list_processes", s.call("list_processes", args{}), processOf(t, got), "running", "make all")
}

func TestField3WaitingAndLivingAreTwoThings(t *testing.T) {
	s := shellSession(t, stuck)
	wantText(t, "a wait that is too long", s.fail("exec", args{"command": "x", "yield_seconds": 60}), "yield_seconds must be between 1 and 50")
	wantText(t, "a life that is too long", s.fail("exec", args{"command": "x", "timeout_seconds": 100_000}), "timeout_seconds must be between 1 and 86400")
	got := s.call("exec", args{"command": "x", "yield_seconds": 1, "timeout_seconds": 3})
	wantText(t, "exec", got, "still running")
	wantText(t, "read_process", s.call("read_process", nextCall(t, got)), "killed by SIGTERM (timeout 3 s)")

	// A daemon that takes connections and never answers.
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s = connect(t, tools.Config{Client: slicer.NewSlicerClient("http://"+l.Addr().String(), "", "test", nil)})
	began := time.Now()
	s.fail("exec", args{"command": "x", "yield_seconds": 1})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("exec with a wait of 1 s on a silent daemon took %s", took)
	}
}

func TestField4SignalsAreToldAndReachTheGroup(t *testing.T) {
	s := shellSession(t, stuck)
	handle := processOf(t, s.call("exec", args{"command": "x", "background": true}))
	wantText(t, "signal_process", s.call("signal_process", args{"process": handle}), "SIGTERM sent to its group", "killed by SIGTERM after ")
	wantText(t, "read_process", s.call("read_process", args{"process": handle}), "killed by SIGTERM after ")
}

func TestField5OutputAfterTheEndIsKept(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprintln(p.Stderr, "error: the cause")
		return 2
	})})
	for _, route := range []string{"GET /vm/{vm}/exec/{exec}/logs", "POST /vm/{vm}/exec"} {
		srv.Fault(route, slicertest.Fault{Frames: slicertest.FrameFault{ExitEarly: true}})
	}
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	wantText(t, "exec", s.call("exec", args{"command": "x"}), "exit 2 in ", "error: the cause")
	wantText(t, "exec with input", s.call("exec", args{"command": "x", "stdin": "y"}), "exit 2 in ", "error: the cause")
}

func TestField6TheEndOfALongOutputIsShown(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "first\n"+strings.Repeat("middle\n", 100_000)+"BUILD FAILED\n")
		return 0
	})
	got := s.call("exec", args{"command": "make"})
	wantText(t, "exec", got, "first\n", "BUILD FAILED\n", " lines (", "omitted; read_process(process=", "cursor=")
	if n := utf8.RuneCountInString(got); n > 30_500 {
		t.Errorf("exec answered %d characters, want 30,500 at most", n)
	}
}

func TestField7BulkTextHasNoRecord(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprintln(p.Stdout, "hi")
		return 0
	})
	handle := processOf(t, s.call("exec", args{"command": "x", "background": true})+s.call("list_processes", args{}))
	for tool, a := range map[string]args{
		"exec":         {"command": "x"},
		"read_process": {"process": handle},
		"read_file":    {"file_path": "/etc/hostname"},
		"vm_logs":      {},
	} {
		if res := s.raw(t.Context(), tool, a); res.IsError || res.StructuredContent != nil {
			t.Errorf("%s = %q with structuredContent %v, want text alone", tool, textOf(t, res), res.StructuredContent)
		}
	}
}

func TestField8ErrorsSayWhatToDo(t *testing.T) {
	s := shellSession(t, runWords)
	s.call("write_file", args{"file_path": "/etc/passwd", "content": "root:x:0:0::/root:/bin/sh\n", "user": "root"})
	for _, tc := range []struct {
		tool string
		args args
		next string
	}{
		{"exec", args{"command": "x", "vm": "none"}, "list_vms"},
		{"read_process", args{"process": "ex_none"}, "list_processes"},
		{"signal_process", args{"process": "none"}, "list_processes"},
		{"read_file", args{"file_path": "/none"}, "list_files"},
		{"delete_vm", args{"vm": "none"}, "list_vms"},
		{"exec", args{"command": "x", "user": "nobody-here"}, "useradd"},
	} {
		res := s.raw(t.Context(), tc.tool, tc.args)
		if got := textOf(t, res); !res.IsError || !strings.Contains(got, tc.next) || res.StructuredContent != nil {
			t.Errorf("%s(%v) = %q, want a tool error of text alone that names %s", tc.tool, tc.args, got, tc.next)
		}
	}
}

func TestField9SchemasAreSmall(t *testing.T) {
	_, whole := listTools(t)
	if len(whole) > budget {
		t.Errorf("tools/list is %d bytes, want at most %d", len(whole), budget)
	}
}

func TestField18CommandsAreNeverQuotedAgain(t *testing.T) {
	var seen string
	s := shellSession(t, func(_ context.Context, _ *slicertest.Proc, script string) int {
		seen = script
		return 0
	})
	for _, command := range []string{"a && b", "a", "cat <<'X'\n$y\nX\n", `printf '%s' "it's"`} {
		if s.call("exec", args{"command": command}); seen != command {
			t.Errorf("exec(%q): bash got %q", command, seen)
		}
	}
}

func TestField19NothingPromptsOrPages(t *testing.T) {
	var env []string
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		env = slices.Clone(p.Env)
		return 0
	})
	s.call("exec", args{"command": "x"})
	for _, want := range []string{"GIT_TERMINAL_PROMPT=0", "PAGER=cat", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a", "TERM=dumb", "NO_COLOR=1"} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment %q lacks %s", env, want)
		}
	}
}

func TestField20BackgroundProcessesAreListedAndReadable(t *testing.T) {
	s := shellSession(t, func(ctx context.Context, p *slicertest.Proc, script string) int {
		fmt.Fprint(p.Stdout, script+"\n"+strings.Repeat(strings.Repeat("x", 99)+"\n", 60_000))
		return 3
	})
	handle := processOf(t, s.call("exec", args{"command": "noisy", "background": true})+s.call("list_processes", args{}))
	// It wrote more than is kept.
	for !strings.Contains(s.call("list_processes", args{}), "exit 3") {
		time.Sleep(10 * time.Millisecond) // there is nothing to wait on but the list itself
	}
	got := s.call("read_process", args{"process": handle, "max_lines": 10})
	wantText(t, "read_process of what was evicted", got, "[gap] ", "no longer kept")
	wantText(t, "list_processes", s.call("list_processes", args{}), handle+": exit 3", "no longer kept", "noisy")
}

func TestField22NothingHangsOnASession(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(stuck)})
	first := connect(t, tools.Config{Client: srv.Client()})
	first.call("create_vm", args{"name": "web"})
	handle := processOf(t, first.call("exec", args{"command": "x", "background": true}))
	second := connect(t, tools.Config{Client: srv.Client()})
	wantText(t, "list_vms of another session", second.call("list_vms", args{}), "web", "owned by this server")
	wantText(t, "read_process of another session", second.call("read_process", args{"process": handle, "until": "begun"}), "begun")
	wantText(t, "signal_process of another session", second.call("signal_process", args{"process": handle, "signal": "KILL"}), "killed by SIGKILL")
}

func TestField24TextIsCleaned(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "grüße 😀\n10%\r50%\r100%\n\x1b[31mred\x1b[0m\x1b]0;title\x07\n")
		return 0
	})})
	srv.Fault("GET /vm/{vm}/exec/{exec}/logs", slicertest.Fault{Frames: slicertest.FrameFault{HalfCharacter: true}})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	wantText(t, "exec", s.call("exec", args{"command": "x"}), "```\ngrüße 😀\n100%\nred\n```")
}
