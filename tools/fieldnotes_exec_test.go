package tools_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// stalling passes a number of requests on, and gives the others no answer.
type stalling struct {
	base http.RoundTripper
	left atomic.Int32
}

func (s *stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.left.Add(-1) >= 0 {
		return s.base.RoundTrip(r)
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestField1AnswersComeInTime is about clients that give up at 60 s: whatever the
// command does, and whatever the daemon doesn't, every tool answers before.
func TestField1AnswersComeInTime(t *testing.T) {
	const mostTime = 53 * time.Second
	t.Run("a command without an end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe, Shell: launched(stuck)})
			t.Cleanup(srv.Client().CloseIdleConnections)
			s, stop := tended(t, tools.Config{Client: srv.Client(), Owner: testOwner})
			defer stop()
			s.call("create_vm", args{})
			began := time.Now()
			got := s.call("exec", args{"command": "x", "yield_seconds": 50, "timeout_seconds": 86400})
			if took := time.Since(began); took > mostTime {
				t.Errorf("exec took %s, want %s at most", took, mostTime)
			}
			began = time.Now()
			s.call("read_process", args{"process": processOf(t, got), "wait_seconds": 50, "until": "never"})
			if took := time.Since(began); took > mostTime {
				t.Errorf("read_process took %s, want %s at most", took, mostTime)
			}
		})
	})
	root := t.TempDir()
	put(t, root, map[string]string{"in/data.bin": "x"})
	rows := map[string]factsRow{}
	for _, row := range succeeding() {
		if _, there := rows[row.tool]; !there {
			rows[row.tool] = row
		}
	}
	for answered := range int32(4) {
		t.Run(fmt.Sprintf("a daemon that is silent after %d answers", answered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, client := pipeDaemon(t)
				s, stop := tended(t, tools.Config{Client: client, Owner: testOwner})
				s.call("create_vm", args{"name": "web"})
				stop()
				transport := &stalling{base: srv.HTTPClient().Transport}
				silent := slicer.NewSlicerClient(srv.URL, "", "test", &http.Client{Transport: transport})
				s = connect(t, tools.Config{
					Client: silent, Roots: []string{root}, SecretEnv: []string{"CANARY"}, Getenv: func(string) string { return "value-of-the-secret" },
				})
				for tool, row := range rows {
					a := maps.Clone(row.args)
					if a["process"] != nil {
						a["process"] = "ex_1"
					}
					transport.left.Store(answered)
					began := time.Now()
					s.raw(t.Context(), tool, a)
					if took := time.Since(began); took > mostTime {
						t.Errorf("%s took %s, want %s at most", tool, took, mostTime)
					}
				}
			})
		})
	}
}

func TestField2ATimedOutCommandIsFoundAgain(t *testing.T) {
	release := make(chan struct{}, 1)
	s := shellSession(t, waiter(release))
	got := s.call("exec", args{"command": "make all", "yield_seconds": 1})
	wantText(t, "exec", got, "still running (process ex_", "begun", "Next: read_process(process=\"ex_")
	wantText(t, "list_processes", s.call("list_processes", args{}), processOf(t, got), "running", "make all")
	release <- struct{}{}
	wantText(t, "the literal next call", s.call("read_process", nextCall(t, got)), "exit 7", "done")
	wantText(t, "all of it once more", s.call("read_process", args{"process": processOf(t, got)}), "exit 7", "begun\ndone")
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

	// One that can't even be dialled.
	dialling := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	s = connect(t, tools.Config{Client: slicer.NewSlicerClient("http://"+l.Addr().String(), "", "test", &http.Client{Transport: dialling})})
	began = time.Now()
	s.fail("exec", args{"command": "x", "yield_seconds": 1})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("exec with a wait of 1 s while a daemon is dialled took %s", took)
	}
}

// TestField4SignalsAreToldAndReachTheGroup is about what the fake can tell of
// signals. That they reach a whole group, and a KILL those that ignore a TERM, is
// tested in the sandbox and in the daemon.
func TestField4SignalsAreToldAndReachTheGroup(t *testing.T) {
	var mu sync.Mutex
	var causes []error
	s := shellSession(t, func(ctx context.Context, p *slicertest.Proc, script string) int {
		if code, ok := strings.CutPrefix(script, "exit "); ok {
			n, _ := strconv.Atoi(code)
			return n
		}
		code := stuck(ctx, p, script)
		mu.Lock()
		defer mu.Unlock()
		causes = append(causes, context.Cause(ctx))
		return code
	})
	for _, name := range []string{"TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"} {
		handle := processOf(t, s.call("exec", args{"command": "x", "background": true}))
		wantText(t, "signal_process", s.call("signal_process", args{"process": handle, "signal": name}), "SIG"+name+" sent to its group", "killed by SIG"+name+" after ")
		got := s.call("read_process", args{"process": handle})
		wantText(t, "read_process", got, "killed by SIG"+name+" after ")
		if strings.Contains(got, "exit 0") {
			t.Errorf("read_process of what SIG%s ended = %q", name, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(causes) != 7 || !errors.Is(causes[1], slicertest.Signal("KILL")) {
		t.Errorf("the commands got %v, want seven signals, the second a KILL", causes)
	}
	// What the shell itself tells of a signal, and a lifetime that is over.
	for code, want := range map[string]string{"137": "exit 137 (SIGKILL) in ", "139": "exit 139 (SIGSEGV) in ", "0": "exit 0 in "} {
		wantText(t, "exec", s.call("exec", args{"command": "exit " + code}), want)
	}
}

func TestField5OutputAfterTheEndIsKept(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, p *slicertest.Proc, script string) int {
		if script != "x" {
			return runWords(ctx, p, script)
		}
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
	wantText(t, "exec of echo", s.call("exec", args{"command": "echo hello"}), "exit 0 in ", "```\nhello\n```")
	wantText(t, "exec of echo with input", s.call("exec", args{"command": "echo hello", "stdin": "y"}), "exit 0 in ", "```\nhello\n```")
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
	// What is said to be missing is what is missing, and the call that is named
	// begins where the head ends.
	m := regexp.MustCompile("(?m)^… ([0-9,]+) lines \\(.*\\) omitted; read_process\\(process=\"([^\"]+)\", cursor=\"([^\"]+)\"\\) reads on$").FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("exec = %q, want it to name the call that reads on", got)
	}
	shown := strings.Count(got, "middle\n")
	if omitted, _ := strconv.Atoi(strings.ReplaceAll(m[1], ",", "")); omitted+shown != 100_000 {
		t.Errorf("%d lines are shown, and %d are said to be omitted, want 100,000 in all", shown, omitted)
	}
	before, _, _ := strings.Cut(got, "\n… ")
	head := strings.Count(before, "middle\n")
	rest := 0
	for next := (args{"process": m[2], "cursor": m[3]}); next != nil; {
		page := s.call("read_process", next)
		rest += strings.Count(page, "middle\n")
		if next = nil; strings.Contains(page, "\nNext: ") {
			next = nextCall(t, page)
		}
	}
	if lap := head + rest - 100_000; lap < 0 || lap > 1000 {
		t.Errorf("the head has %d lines and what reads on from there %d, want 100,000 and few twice", head, rest)
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
		if n, err := io.Copy(io.Discard, p.Stdin); n != 0 || err != nil { // a prompt finds the end of its input
			return 1
		}
		return 0
	})
	wantText(t, "exec of what reads its input", s.call("exec", args{"command": "x"}), "exit 0")
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
