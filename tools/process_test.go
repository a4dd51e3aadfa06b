package tools_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// waiter is a shell whose command prints begun, waits to be released and prints
// done.
func waiter(release <-chan struct{}) script {
	return func(ctx context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprintln(p.Stdout, "begun")
		select {
		case <-release:
		case <-ctx.Done():
			return 1
		}
		fmt.Fprintln(p.Stdout, "done")
		return 7
	}
}

// processOf is the handle that an answer names.
func processOf(t testing.TB, answer string) string {
	t.Helper()
	handle := regexp.MustCompile(`\b[ep]x_[A-Za-z0-9]+`).FindString(answer)
	if handle == "" {
		t.Fatalf("the answer %q names no process", answer)
	}
	return handle
}

// nextCall is the arguments of the read_process call that an answer ends with.
func nextCall(t testing.TB, answer string) args {
	t.Helper()
	m := regexp.MustCompile(`(?m)^Next: read_process\(process="([^"]+)"(?:, vm="[^"]+")?, cursor="([^"]+)"\)`).FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("the answer %q names no next call of read_process", answer)
	}
	return args{"process": m[1], "cursor": m[2]}
}

// variants are the ways in which a command can run: all keep the same contract.
func variants(t *testing.T, release <-chan struct{}, run func(t *testing.T, s *session, input args)) {
	t.Helper()
	for _, tc := range []struct {
		name   string
		legacy bool
		input  args
	}{
		{"in the background of the daemon", false, args{}},
		{"with input", false, args{"stdin": "x"}},
		{"on a daemon without background", true, args{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := slicertest.NewServer(t, slicertest.Options{LegacyFrames: tc.legacy, Shell: launched(waiter(release))})
			s := connect(t, tools.Config{Client: srv.Client()})
			s.call("create_vm", args{"name": "web"})
			run(t, s, tc.input)
		})
	}
}

func TestCommandThatOutlastsItsCallGoesOn(t *testing.T) {
	release := make(chan struct{}, 1)
	variants(t, release, func(t *testing.T, s *session, input args) {
		input["command"], input["yield_seconds"] = "x", 1
		got := s.call("exec", input)
		wantText(t, "exec", got, "still running (process ", "\n```\nbegun\n```\n", "waits for more", "signal_process(process=")
		next := nextCall(t, got)
		listed := s.call("list_processes", args{})
		wantText(t, "list_processes", listed, processOf(t, got)+": running", "6 bytes written: x")
		release <- struct{}{}
		got = s.call("read_process", next)
		wantText(t, "read_process", got, "exit 7 in ", "(process ", "\n```\ndone\n```")
		if strings.Contains(got, "begun") || strings.Contains(got, "Next:") {
			t.Errorf("read_process = %q, want only what is new, and nothing to do", got)
		}
		wantText(t, "read_process from the beginning", s.call("read_process", args{"process": next["process"]}), "exit 7", "begun\ndone\n")
		wantText(t, "read_process after the end", s.call("read_process", next), "exit 7")
		wantText(t, "list_processes", s.call("list_processes", args{}), "exit 7")
	})
}

func TestProcessesAreEnded(t *testing.T) {
	variants(t, nil, func(t *testing.T, s *session, input args) {
		input["command"], input["background"] = "x", true
		got := s.call("exec", input)
		wantText(t, "exec", got, "started (process ", "at most 600 s", "timeout_seconds", "read_process(process=", "signal_process(process=")
		handle := processOf(t, got)
		wantText(t, "read_process until it has begun", s.call("read_process", args{"process": handle, "until": "^beg.n$"}), "still running", "; a line matches until", "begun")
		wantText(t, "signal_process", s.call("signal_process", args{"process": handle, "signal": "KILL"}), "SIGKILL sent to its group; killed by SIGKILL after ")
		wantText(t, "signal_process again", s.call("signal_process", args{"process": handle}), "no signal was sent", "had ended before")
		wantText(t, "read_process", s.call("read_process", args{"process": handle}), "killed by SIGKILL", "begun")
	})
}

func TestTheLifetimeEndsACommand(t *testing.T) {
	variants(t, nil, func(t *testing.T, s *session, input args) {
		input["command"], input["timeout_seconds"] = "x", 1
		got := s.call("exec", input)
		if !regexp.MustCompile(`^killed by SIG(TERM|KILL) \(timeout 1 s\)\n`).MatchString(got) {
			t.Errorf("exec = %q, want it to say that the timeout killed it", got)
		}
		wantText(t, "exec", got, "begun")
	})
}

// TestOnlyACancelledCallEndsItsCommand is about a client that goes away.
func TestOnlyACancelledCallEndsItsCommand(t *testing.T) {
	for _, tc := range []struct {
		name       string
		cause      error
		background bool
		want       string
	}{
		{"a client that has gone", io.EOF, false, "still running"},
		{"a call that was taken back", tools.ErrCancelled, false, "killed by SIGTERM"},
		{"a client that has gone, in the background", io.EOF, true, "still running"},
		{"a call that was taken back, in the background", tools.ErrCancelled, true, "killed by SIGTERM"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			started := make(chan struct{})
			srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, _ *slicertest.Proc, _ string) int {
				close(started)
				<-ctx.Done()
				return 1
			})})
			s := connect(t, tools.Config{Client: srv.Client()})
			s.call("create_vm", args{})
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-started
				cancel(tc.cause)
			}()
			if tc.background {
				srv.Fault("GET /vm/{vm}/exec/{exec}", slicertest.Fault{Stall: ctx.Done(), Times: 1})
			}
			if res := s.raw(ctx, "exec", args{"command": "x", "background": tc.background}); !res.IsError {
				t.Errorf("exec = %q, want an error", textOf(t, res))
			}
			handle := processOf(t, s.call("list_processes", args{}))
			wantText(t, "read_process", s.call("read_process", args{"process": handle, "wait_seconds": 1}), tc.want)
		})
	}
}

// TestProcessOutlivesItsServer is about a client that comes back with a new
// process of the server.
func TestProcessOutlivesItsServer(t *testing.T) {
	release := make(chan struct{}, 1)
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(waiter(release))})
	first, err := tools.New(tools.Config{Client: srv.Client(), Owner: testOwner})
	if err != nil {
		t.Fatal(err)
	}
	s := connectTo(t, first)
	s.call("create_vm", args{})
	next := nextCall(t, s.call("exec", args{"command": "x", "yield_seconds": 1}))
	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	release <- struct{}{}
	s = connect(t, tools.Config{Client: srv.Client()})
	wantText(t, "read_process of a new server", s.call("read_process", next), "exit 7 in ", "done")
}

// TestEveryKeptLineCanBeRead reads a long output page by page.
func TestEveryKeptLineCanBeRead(t *testing.T) {
	const lines = 30_000
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		w := bufio.NewWriter(p.Stdout)
		defer w.Flush()
		for i := range lines {
			fmt.Fprintf(w, "line %d%s\n", i, strings.Repeat("·", i%7))
		}
		return 0
	})
	got := s.call("exec", args{"command": "x"})
	wantText(t, "exec", got, "exit 0 in ", "line 0\n", fmt.Sprintf("line %d·", lines-1), "omitted; read_process(process=", " reads on")
	var all strings.Builder
	next := args{"process": processOf(t, got)}
	for page := 1; next != nil; page++ {
		got := s.call("read_process", next)
		if n := utf8.RuneCountInString(got); n > 30_500 {
			t.Errorf("page %d has %d characters, want at most 30,500", page, n)
		}
		_, body, _ := strings.Cut(got, "```\n")
		body, rest, _ := strings.Cut(body, "```")
		all.WriteString(body)
		next = nil
		if strings.Contains(rest, "Next:") {
			next = nextCall(t, got)
		}
		if page > 100 {
			t.Fatal("read_process didn't come to the end in 100 pages")
		}
	}
	i := 0
	for line := range strings.Lines(all.String()) {
		if want := fmt.Sprintf("line %d%s\n", i, strings.Repeat("·", i%7)); line != want {
			t.Fatalf("line %d = %q, want %q", i, line, want)
		}
		i++
	}
	if i != lines {
		t.Errorf("the pages have %d lines, want %d", i, lines)
	}
}

func TestMissingProcesses(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)})
	s := connect(t, tools.Config{Client: srv.Client()})
	wantText(t, "without a VM", s.fail("read_process", args{"process": "ex_1"}), "there is no VM yet")
	s.call("create_vm", args{"name": "web"})
	wantText(t, "unknown", s.fail("read_process", args{"process": "ex_1"}), `no process "ex_1" in VM "web"`, "list_processes")
	wantText(t, "another server's", s.fail("read_process", args{"process": "px_1"}), `no process "px_1"`, "list_processes")
	handle := processOf(t, s.call("exec", args{"command": "true", "background": true, "vm": "web"})+" "+s.call("list_processes", args{}))
	if _, err := srv.Client().ExecWaitExit(t.Context(), "sbox-1", handle, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Client().ExecDelete(t.Context(), "sbox-1", handle); err != nil {
		t.Fatal(err)
	}
	wantText(t, "forgotten", s.fail("signal_process", args{"process": handle}), "no longer kept", "Run the command again")
	s.call("create_vm", args{"name": "worker"})
	wantText(t, "in two VMs", s.fail("read_process", args{"process": "ex_1"}), "any of the 2 VMs")
}

// TestScriptOfAMegabyte is about a command that no argument can hold.
func TestScriptOfAMegabyte(t *testing.T) {
	var seen string
	s := shellSession(t, func(_ context.Context, _ *slicertest.Proc, script string) int {
		seen = script
		return 0
	})
	command := strings.Repeat("echo 'grüße' \"$HOME\" \\\n", 1<<20/24)
	wantText(t, "exec", s.call("exec", args{"command": command}), "exit 0 in ")
	if seen != command {
		t.Errorf("a command of %d bytes arrived with %d bytes", len(command), len(seen))
	}
}

// TestRoomForMoreProcesses is about an agent whose rings are full of what has
// ended.
func TestRoomForMoreProcesses(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	for i := range 70 {
		wantText(t, fmt.Sprintf("exec %d", i+1), s.call("exec", args{"command": "true"}), "exit 0 in ")
	}
}

func TestInputArrives(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		_, err := io.Copy(p.Stdout, p.Stdin)
		if err != nil {
			return 1
		}
		return 0
	})
	wantText(t, "exec", s.call("exec", args{"command": "cat", "stdin": "a\nß\n"}), "exit 0 in ", "```\na\nß\n```")
}

// TestBackgroundCommandIsNamed is about a daemon that is out of order right
// after it has begun a command.
func TestBackgroundCommandIsNamed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault slicertest.Fault
	}{
		{"it breaks off", slicertest.Fault{Cut: true}},
		{"it fails", slicertest.Fault{Status: 500}},
		{"it answers late", slicertest.Fault{Delay: 1500 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(waiter(nil))})
			s := connect(t, tools.Config{Client: srv.Client()})
			s.call("create_vm", args{})
			srv.Fault("GET /vm/{vm}/exec/{exec}", tc.fault)
			got := s.call("exec", args{"command": "x", "background": true, "yield_seconds": 1})
			wantText(t, "exec", got, "started (process ex_", "Next: read_process(process=")
		})
	}
}

// TestProcessesEndWithTheirVM is about a VM that was stopped: no relaunch brings
// them back.
func TestProcessesEndWithTheirVM(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(waiter(nil))})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web", "persistent": true})
	handle := processOf(t, s.call("exec", args{"command": "x", "background": true}))
	s.call("shutdown", args{"vm": "web"})
	wantText(t, "read_process", s.fail("read_process", args{"process": handle}), `VM "web" is stopped, and its processes ended with it`)
	s.call("create_vm", args{"name": "other"})
	wantText(t, "read_process with another VM", s.fail("read_process", args{"process": handle}), "no process", "list_processes")
}

func TestNothingIsBegunAfterClose(t *testing.T) {
	set, err := tools.New(tools.Config{Client: fakeDaemon(t), Owner: testOwner})
	if err != nil {
		t.Fatal(err)
	}
	s := connectTo(t, set)
	s.call("create_vm", args{})
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	wantText(t, "exec with input", s.fail("exec", args{"command": "echo x", "stdin": "x"}), "this server is ending, so exec has not begun", "Retry when it is back")
}
