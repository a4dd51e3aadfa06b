package tools_test

import (
	"bufio"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// TestWhatTheRingHoldsCanBeRead pages through what is kept of an output that is
// larger than that: the pages are the end of it, byte for byte, and what isn't
// kept is counted.
func TestWhatTheRingHoldsCanBeRead(t *testing.T) {
	var whole strings.Builder
	for i := range 120_000 {
		fmt.Fprintf(&whole, "line %d%s\n", i, strings.Repeat(" of many words", i%7))
	}
	whole.WriteString(strings.Repeat("a line without an end ", 4000)) // over several pages
	for _, tc := range []struct {
		name  string
		kept  int
		input args
	}{
		{"in the background of the daemon", 4 << 20, args{"command": "x"}},
		{"over the server's own stream", 1 << 20, args{"command": "x", "stdin": "y"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
				w := bufio.NewWriterSize(p.Stdout, 777) // ends its writes inside of lines
				defer w.Flush()
				fmt.Fprint(w, whole.String())
				return 0
			})
			handle := processOf(t, s.call("exec", tc.input))
			var list struct {
				Processes []struct {
					Written int `json:"written_bytes"`
					Dropped int `json:"dropped_bytes"`
				}
			}
			s.record("list_processes", args{}, &list)
			all := s.allPages(handle)
			if !strings.HasSuffix(whole.String(), all) {
				t.Errorf("the pages are not the end of the output: %.100q … %q", all, all[max(0, len(all)-100):])
			}
			p := list.Processes[0]
			if p.Written != whole.Len() || p.Dropped+len(all) != p.Written {
				t.Errorf("%d bytes were written, %d are said to be, %d to be dropped, the pages have %d", whole.Len(), p.Written, p.Dropped, len(all))
			}
			if len(all) < tc.kept-64<<10 { // what is evicted goes in pieces
				t.Errorf("the pages have %d bytes, want the newest %d", len(all), tc.kept)
			}
		})
	}
}

// allPages reads all that is kept of a process's output, page by page.
func (s *session) allPages(handle string) string {
	s.t.Helper()
	var all strings.Builder
	gap := regexp.MustCompile(`(?m)^\[gap\] .*\n`)
	for next := (args{"process": handle}); next != nil; {
		got := s.call("read_process", next)
		if len(got) > 30_500 {
			s.t.Errorf("a page has %d bytes, want at most 30,500", len(got))
		}
		_, body, _ := strings.Cut(got, "```\n")
		body, rest, _ := strings.Cut(body, "```")
		if next["cursor"] == nil {
			body = gap.ReplaceAllString(body, "")
		}
		if next = nil; strings.Contains(rest, "Next:") {
			next = nextCall(s.t, got)
		}
		if next == nil || strings.Contains(rest, "in the middle of the line") {
			body = strings.TrimSuffix(body, "\n") // the fence's
		}
		all.WriteString(body)
	}
	return all.String()
}

// sleeper is a shell that knows sleep N; echo WORD.
func sleeper(ctx context.Context, p *slicertest.Proc, script string) int {
	var n int
	var word string
	if _, err := fmt.Sscanf(script, "sleep %d; echo %s", &n, &word); err != nil {
		return 2
	}
	if code := p.Run(ctx, "sleep", fmt.Sprint(n)); code != 0 || ctx.Err() != nil {
		return code
	}
	fmt.Fprintln(p.Stdout, word)
	return 0
}

// TestSleepThreeHundred runs sleep 300; echo done with all the defaults, in fake
// time: it comes back after 30 s with a handle, and read_process gets done, also
// for a client that comes back with a new process of the server.
func TestSleepThreeHundred(t *testing.T) {
	for _, tc := range []struct {
		name string
		away time.Duration // how long the client is away
		anew bool          // it comes back to a new server
	}{
		{"the same server", 0, false},
		{"a new server while it runs", time.Minute, true},
		{"a new server after its end", 5 * time.Minute, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe, Shell: launched(sleeper)})
				client := srv.Client()
				t.Cleanup(client.CloseIdleConnections)
				cfg := tools.Config{Client: client, Owner: testOwner}
				s, stop := tended(t, cfg)
				s.call("create_vm", args{})
				began := time.Now()
				got := s.call("exec", args{"command": "sleep 300; echo done"})
				if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
					t.Errorf("exec answered after %s, want 30 s", took)
				}
				wantText(t, "exec", got, "still running (process ex_", "Next: read_process(process=", "signal_process(process=")
				next := nextCall(t, got)
				if tc.anew {
					stop()
					time.Sleep(tc.away)
					s, stop = tended(t, cfg)
				}
				defer func() { stop() }()
				for calls := 0; ; calls++ {
					before := time.Now()
					got = s.call("read_process", next)
					if took := time.Since(before); took > 31*time.Second {
						t.Errorf("read_process answered after %s, want 30 s at most", took)
					}
					if !strings.HasPrefix(got, "still running") {
						break
					}
					if next = nextCall(t, got); calls > 10 {
						t.Fatalf("read_process = %q, and the command should have ended long ago", got)
					}
				}
				wantText(t, "read_process", got, "exit 0 in 300.0 s (process ex_", "\n```\ndone\n```")
				if took := time.Since(began); took > 300*time.Second+tc.away+31*time.Second {
					t.Errorf("done came after %s", took)
				}
			})
		})
	}
}

// TestWaitSecondsPageUntilDone waits for a command with waits of its own length.
func TestWaitSecondsPageUntilDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe, Shell: launched(sleeper)})
		client := srv.Client()
		t.Cleanup(client.CloseIdleConnections)
		s, stop := tended(t, tools.Config{Client: client, Owner: testOwner})
		defer stop()
		s.call("create_vm", args{})
		got := s.call("exec", args{"command": "sleep 300; echo done", "background": true})
		handle := processOf(t, got)
		began := time.Now()
		var waits []time.Duration
		for strings.HasPrefix(got, "still running") || strings.HasPrefix(got, "started") {
			before := time.Now()
			got = s.call("read_process", args{"process": handle, "wait_seconds": 50})
			waits = append(waits, time.Since(before).Round(time.Second))
		}
		wantText(t, "the last answer", got, "exit 0 in 300.0 s", "done")
		if took := time.Since(began).Round(time.Second); len(waits) > 7 || took != 300*time.Second {
			t.Errorf("waits of 50 s took %v, %s in all; want 300 s", waits, took)
		}
	})
}

// TestServerThatEndsTellsTheHandle is about calls that wait when their server is
// told to end: they answer at once, and a new server goes on from there.
func TestServerThatEndsTellsTheHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe, Shell: launched(sleeper)})
		client := srv.Client()
		t.Cleanup(client.CloseIdleConnections)
		cfg := tools.Config{Client: client, Owner: testOwner}
		set, err := tools.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s := connectTo(t, set)
		s.call("create_vm", args{})
		earlier := processOf(t, s.call("exec", args{"command": "sleep 300; echo earlier", "background": true}))
		lying := processOf(t, s.call("exec", args{"command": "sleep 1; echo lying", "background": true}))
		began := time.Now()
		time.AfterFunc(5*time.Second, set.StopWaiting)
		answers := make(chan string, 2)
		go func() { answers <- s.call("exec", args{"command": "sleep 300; echo done"}) }()
		go func() { answers <- s.call("read_process", args{"process": earlier}) }()
		first, second := <-answers, <-answers
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the calls answered after %s, want when waiting ends, after 5 s", took)
		}
		wantText(t, "a read that begins then", s.call("read_process", args{"process": lying}), "exit 0", "lying")
		wantText(t, "a read that begins then and could wait", s.call("read_process", args{"process": earlier}), "still running", "server is ending, and the command goes on")
		wantText(t, "a command that is to begin then", s.fail("exec", args{"command": "sleep 1; echo never"}), "server is ending, so exec has not begun")
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		next, stop := tended(t, cfg)
		defer stop()
		for _, got := range []string{first, second} {
			wantText(t, "the call that waited", got, "still running (process ex_", "server is ending, and the command goes on", "Next: read_process(process=")
			call := nextCall(t, got)
			time.Sleep(5 * time.Minute)
			wantText(t, "read_process of a new server", next.call("read_process", call), "exit 0 in 300.0 s")
		}
	})
}
