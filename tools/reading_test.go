package tools_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestReadProcessPages(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "one\ntwo\n")
		fmt.Fprint(p.Stderr, "three\n")
		fmt.Fprint(p.Stdout, strings.Repeat("x", 100_000)+"\nlast\n")
		return 0
	})
	handle := processOf(t, s.call("exec", args{"command": "x"}))
	got := s.call("read_process", args{"process": handle, "max_lines": 2})
	wantText(t, "read_process of two lines", got, "exit 0 in ", "```\none\ntwo\n```", "Next: ")
	next := nextCall(t, got)
	next["max_lines"] = 1
	wantText(t, "read_process of the next line", s.call("read_process", next), "three")
	got = s.call("read_process", args{"process": handle, "until": "tw"})
	wantText(t, "read_process until a match", got, "exit 0 in ", "; a line matches until\n```\none\ntwo\n```")
	got = s.call("read_process", args{"process": handle, "wait_seconds": 0})
	x := strings.Count(got, "x")
	for strings.Contains(got, "Next: ") {
		got = s.call("read_process", nextCall(t, got))
		x += strings.Count(strings.Split(got, "```")[1], "x")
	}
	if x < 100_000 || !strings.Contains(got, "last") {
		t.Errorf("a line of 100,000 characters came in pieces of %d in all, the end with last: %v", x, strings.Contains(got, "last"))
	}
}

func TestReadProcessTellsHowItStands(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(_ context.Context, p *slicertest.Proc, script string) int {
		fmt.Fprint(p.Stdout, strings.Repeat("0123456789\n", 10_000))
		return len(script)
	})})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	for _, tc := range []struct {
		name  string
		start args
	}{
		{"in the background of the daemon", args{"command": "xyz"}},
		{"held by this server", args{"command": "xyz", "stdin": "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			handle := processOf(t, s.call("exec", tc.start))
			ended := "exit 3 in "
			for _, step := range []struct {
				name  string
				input args
				want  []string
			}{
				{"a page that is full", args{}, []string{ended, "Next: read_process(process=", " reads on."}},
				{"lines enough", args{"max_lines": 2}, []string{ended, "Next: read_process(process=", " reads on."}},
				{"a line that matches", args{"until": "^0"}, []string{ended, "; a line matches until", "Next: read_process(process=", " reads on."}},
				{"a cursor beyond the output", args{"cursor": "99999"}, []string{ended, "(no output)"}},
				{"a cursor beyond the output, at once", args{"cursor": "99999", "wait_seconds": 0}, []string{ended, "(no output)"}},
			} {
				step.input["process"] = handle
				got := s.call("read_process", step.input)
				wantText(t, step.name, got, step.want...)
				if strings.Contains(got, "still running") {
					t.Errorf("%s: %.100q, want nothing of still running", step.name, got)
				}
			}
		})
	}
}

func TestReadProcessBeyondWhatRuns(t *testing.T) {
	release := make(chan struct{})
	variants(t, release, func(t *testing.T, s *session, input args) {
		input["command"], input["background"] = "x", true
		handle := processOf(t, s.call("exec", input))
		wantText(t, "a cursor beyond the output", s.fail("read_process", args{"process": handle, "cursor": "99999"}), `cursor "99999" is none`, "leave it out")
		wantText(t, "a line that doesn't come", s.call("read_process", args{"process": handle, "until": "never", "wait_seconds": 1}), "still running", "; no line here matches until", "waits for more")
		s.call("signal_process", args{"process": handle, "signal": "KILL"})
	})
}

// TestReadProcessTellsLastWords is about a command that ends when the wait for
// it is just over.
func TestReadProcessTellsLastWords(t *testing.T) {
	release := make(chan struct{})
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(waiter(release))})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	handle := processOf(t, s.call("exec", args{"command": "x", "background": true}))
	wantText(t, "read_process", s.call("read_process", args{"process": handle, "until": "begun"}), "still running")
	srv.Fault("GET /vm/{vm}/exec/{exec}/logs", slicertest.Fault{Stall: t.Context().Done(), Times: 1})
	close(release)
	got := s.call("read_process", args{"process": handle, "wait_seconds": 1})
	wantText(t, "read_process", got, "exit 7 in ", "begun\ndone\n")
}

// TestGapsAreCountedFromTheCursor is about output that this server holds: what
// was read before it went is not missing.
func TestGapsAreCountedFromTheCursor(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	release := make(chan struct{})
	s := shellSession(t, func(ctx context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, strings.Repeat(line, 4000))
		select {
		case <-release:
		case <-ctx.Done():
		}
		fmt.Fprint(p.Stdout, strings.Repeat(line, 12_000))
		return 0
	})
	handle := processOf(t, s.call("exec", args{"command": "x", "stdin": "x", "background": true}))
	next := args{"process": handle}
	for range 15 {
		next["max_lines"] = 250
		next = nextCall(t, s.call("read_process", next))
	}
	close(release)
	for !strings.Contains(s.call("list_processes", args{}), "exit 0") {
		time.Sleep(10 * time.Millisecond) // there is nothing to wait on but the list itself
	}
	var list struct {
		Processes []struct {
			Dropped int64 `json:"dropped_bytes"`
		}
	}
	text := s.record("list_processes", args{}, &list)
	if !strings.Contains(text, ": exit 0, ") {
		t.Errorf("list_processes = %q, want the outcome without its seconds twice", text)
	}
	const read = 15 * 250 * 100
	want := fmt.Sprintf("[gap] %.1f KB of output are missing here", float64(list.Processes[0].Dropped-read)/1000)
	wantText(t, "read_process of what is evicted", s.call("read_process", next), want)
}
