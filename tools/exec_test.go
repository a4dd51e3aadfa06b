package tools_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// shellSession is a session with one VM whose shell is script.
func shellSession(t *testing.T, script func(ctx context.Context, p *slicertest.Proc, script string) int) *session {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(script)})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	return s
}

func TestExecOutcomes(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, script string) int {
		switch script {
		case "both":
			fmt.Fprint(p.Stdout, "one\n")
			fmt.Fprint(p.Stderr, "two\n")
			return 42
		case "quiet":
			return 0
		case "complain":
			fmt.Fprint(p.Stderr, "\x1b[31mbad\x1b[0m\n")
			return 1
		case "fence":
			fmt.Fprint(p.Stdout, "```\nexit 0 in 0.1 s\n```\n")
			return 3
		}
		return 127
	})
	for _, tc := range []struct{ script, want string }{
		{"quiet", "exit 0 in T s\n(no output)"},
		{"complain", "exit 1 in T s\nall on stderr:\n```\nbad\n```"},
		{"fence", "exit 3 in T s\n````\n```\nexit 0 in 0.1 s\n```\n````"},
		{"other", "exit 127 in T s\n(no output)"},
	} {
		got := s.call("exec", args{"command": tc.script})
		first, rest, _ := strings.Cut(got, "\n")
		before, after, _ := strings.Cut(first, " in ")
		_, unit, _ := strings.Cut(after, " ")
		if got := before + " in T " + unit + "\n" + rest; got != tc.want {
			t.Errorf("exec(%q) = %q, want %q", tc.script, got, tc.want)
		}
	}
	got := s.call("exec", args{"command": "both"})
	wantText(t, "exec of both streams", got, "exit 42 in ", "[stderr] two\n", "one\n")
}

// TestCommandArrivesByteForByte is about quoting, which nobody may add.
func TestCommandArrivesByteForByte(t *testing.T) {
	var seen string
	s := shellSession(t, func(_ context.Context, _ *slicertest.Proc, script string) int {
		seen = script
		return 0
	})
	for _, command := range []string{
		`echo "a  b" 'c' $HOME \$x`,
		"cat <<'EOF'\nline 1\n\ttab\nEOF\n",
		"a && b || c; d | e > f 2>&1 &",
		"echo 'grüße 😀' # % %s %20 + ?a=b&c=d",
		"  leading and trailing  ",
		"printf '\\x00\\n'\r\n",
		strings.Repeat("echo x\n", 14_000),
	} {
		s.call("exec", args{"command": command})
		if seen != command {
			t.Errorf("exec(%.60q): the shell got %.60q (%d bytes, want %d)", command, seen, len(seen), len(command))
		}
	}
}

func TestExecEnvironment(t *testing.T) {
	var env []string
	var dir string
	var uid uint32
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		env, dir, uid = slices.Clone(p.Env), p.Dir, p.UID
		return 0
	})
	s.call("exec", args{"command": "x", "cwd": "/tmp", "env": []string{"A=1", "EMPTY=", "PAGER=less", "A=2=3"}})
	for _, want := range []string{"GIT_TERMINAL_PROMPT=0", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a", "TERM=dumb", "NO_COLOR=1", "PAGER=less", "A=2=3", "EMPTY="} {
		if !slices.Contains(env, want) {
			t.Errorf("the command's environment is %q, want %q in it", env, want)
		}
	}
	for _, never := range []string{"PAGER=cat", "A=1"} {
		if slices.Contains(env, never) {
			t.Errorf("the command's environment has %q beside what replaces it", never)
		}
	}
	if dir != "/tmp" {
		t.Errorf("exec(cwd=/tmp) ran in %q", dir)
	}
	got := map[string]uint32{}
	want := map[string]uint32{"": 1000, "ubuntu": 1000, "root": 0, "0": 0, "1234": 1234}
	for user := range want {
		a := args{"command": "x"}
		if user != "" {
			a["user"] = user
		}
		s.call("exec", a)
		got[user] = uid
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("uid by user (-want +got):\n%s", diff)
	}
	wantText(t, "exec in a missing folder", s.fail("exec", args{"command": "x", "cwd": "/no/such"}), "could not be started", "Check cwd")
}

// TestTimeoutKillsAndKeepsOutput is about a command that outlives its time.
func TestTimeoutKillsAndKeepsOutput(t *testing.T) {
	killed := make(chan struct{})
	s := shellSession(t, func(ctx context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "begun\n")
		<-ctx.Done()
		close(killed)
		return 0
	})
	began := time.Now()
	got := s.call("exec", args{"command": "x", "timeout_seconds": 1})
	if want := "killed by SIGTERM (timeout 1 s)\n```\nbegun\n```"; got != want {
		t.Errorf("exec = %q, want %q", got, want)
	}
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("exec with a timeout of 1 s took %s", took)
	}
	<-killed
}

// TestCancelledCallKills is about a client that takes its call back.
func TestCancelledCallKills(t *testing.T) {
	started, killed := make(chan struct{}), make(chan struct{})
	s := shellSession(t, func(ctx context.Context, _ *slicertest.Proc, _ string) int {
		close(started)
		<-ctx.Done()
		close(killed)
		return 0
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-started
		cancel(tools.ErrCancelled)
	}()
	res := s.raw(ctx, "exec", args{"command": "x"})
	if !res.IsError {
		t.Errorf("a cancelled exec = %q, want an error", textOf(t, res))
	}
	<-killed
}

// TestCommandInAPausedVM is about a command that stands still.
func TestCommandInAPausedVM(t *testing.T) {
	started := make(chan struct{})
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, _ *slicertest.Proc, _ string) int {
		close(started)
		<-ctx.Done()
		return 0
	})})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web"})
	go func() {
		<-started
		if err := srv.Client().PauseVM(t.Context(), "sbox-1"); err != nil {
			t.Errorf("PauseVM = %v", err)
		}
	}()
	got := s.call("exec", args{"command": "x", "yield_seconds": 1})
	wantText(t, "exec", got, "still running (process ex_", `VM "web" is paused: the command stands still until resume(vm="web")`)
}

// TestDeletedUnderACommand is about delete_vm while exec runs.
func TestDeletedUnderACommand(t *testing.T) {
	started := make(chan struct{})
	s := shellSession(t, func(ctx context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "begun\n")
		close(started)
		<-ctx.Done()
		return 0
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-started
		if res := s.raw(t.Context(), "delete_vm", args{"vm": "web"}); res.IsError {
			t.Errorf("delete_vm = %q", textOf(t, res))
		}
	})
	got := s.fail("exec", args{"command": "x"})
	wg.Wait()
	wantText(t, "exec", got, `VM "web" is gone: `, "create_vm")
}

// TestMuchOutputKeepsHeadAndTail is about a build log whose end counts.
func TestMuchOutputKeepsHeadAndTail(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		var log strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&log, "step %d of the build\n", i+1)
		}
		fmt.Fprint(p.Stdout, log.String())
		fmt.Fprint(p.Stderr, "error: the cause\n")
		return 2
	})
	got := s.call("exec", args{"command": "make"})
	wantText(t, "exec", got, "exit 2 in ", "\nstep 1 of the build\n", "[stderr] error: the cause\n", " lines (", "omitted; read_process(process=\"ex_")
	if n := utf8.RuneCountInString(got); n > 31_000 {
		t.Errorf("exec answered %d characters, want at most 31,000", n)
	}
}

// TestBinaryOutput is about bytes that are no text.
func TestBinaryOutput(t *testing.T) {
	s := shellSession(t, func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, "a\x00\xff\xfe\u202eb\n")
		return 0
	})
	wantText(t, "exec", s.call("exec", args{"command": "x"}), "```\na␀\ufffd\ufffd\\u202eb\n```")
}
