package app_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestVersion(t *testing.T) {
	want := regexp.MustCompile(`^slicervm-mcp \S+ \(go1\S+, ` + runtime.GOOS + `/` + runtime.GOARCH + `\)\n$`)
	for _, arg := range []string{"version", "--version", "-v"} {
		got := newWorld(t).run("", arg)
		if got.code != 0 || !want.MatchString(got.stdout) || got.stderr != "" {
			t.Errorf("%s = %+v, want exit 0 and %v", arg, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"serve", "--help"}} {
		got := newWorld(t).run("", args...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%q = %+v, want exit 0 and nothing on standard error", args, got)
		}
		for _, want := range []string{"--url", "--embedded", "--root", "--owner", "--state-dir", "--log-level", "SLICER_URL", "--embedded-net", "--groups", "--group ", "--transport", "--listen", "SLICERVM_MCP_TOKEN", "--stateless"} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%q says nothing of %s:\n%s", args, want, got.stdout)
			}
		}
		if strings.Contains(got.stdout, "--token") {
			t.Errorf("%q has a flag for the token, which a process list would show:\n%s", args, got.stdout)
		}
		if lines := strings.Count(got.stdout, "\n"); lines > 60 {
			t.Errorf("%q prints %d lines, want 60 at most", args, lines)
		}
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"an unknown flag", []string{"--no-such"}, "unknown flag: --no-such"},
		{"an unknown flag of serve", []string{"serve", "--no-such"}, "unknown flag: --no-such"},
		{"an unknown argument", []string{"no-such"}, `unknown argument "no-such"`},
		{"an unknown argument of serve", []string{"serve", "no-such"}, `unknown argument "no-such"`},
		{"an unknown argument of version", []string{"version", "no-such"}, `unknown argument "no-such"`},
		{"line breaks in an argument stay out of the log", []string{"a\nb\x1b[31m"}, `unknown argument "a\nb\x1b[31m"`},
		{"a flag without its value", []string{"--url"}, "flag needs an argument: --url"},
		{"two daemons", []string{"--embedded", "--url", nowhere}, "use one of them"},
		{"an unknown log level", []string{"--url", nowhere, "--log-level", "loud"}, `--log-level is debug, info, warn or error, not "loud"`},
		{"an empty root", []string{"--url", nowhere, "--root", ""}, "--root wants a folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newWorld(t).run(hello, tt.args...)
			if got.code != 2 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%q = %+v, want exit 2, nothing on standard output, and one line with %q", tt.args, got, tt.want)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	got := newWorld(t).run(hello)
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("without a daemon: %+v, want exit 1, nothing on standard output, one line on standard error", got)
	}
	for _, way := range []string{"start Slicer", "SLICER_URL", "--embedded"} {
		if !strings.Contains(got.stderr, way) {
			t.Errorf("without a daemon the error is %q, want it to name %q", got.stderr, way)
		}
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	w := newWorld(t)
	empty := filepath.Join(w.home, "empty")
	write(t, empty, " \n")
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"a URL of another scheme", nil, []string{"--url", "ftp://user:hunter2@host"}, "--url is neither an address"},
		{"a URL without a scheme", map[string]string{"SLICER_URL": "localhost:8080"}, nil, "SLICER_URL is neither an address"},
		{"a token file that isn't there", map[string]string{"SLICER_TOKEN_FILE": "~/none"}, []string{"--url", nowhere}, "SLICER_TOKEN_FILE"},
		{"a token file that is empty", map[string]string{"SLICER_TOKEN_FILE": empty}, []string{"--url", nowhere}, "is empty"},
		{"a root that isn't there", nil, []string{"--url", nowhere, "--root", filepath.Join(w.home, "none")}, "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{root: w.root, home: w.home, dir: w.dir, env: map[string]string{"HOME": w.home}}
			for name, value := range tt.env {
				w.env[name] = value
			}
			got := w.run(hello, tt.args...)
			if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%v %q = %+v, want exit 1, nothing on standard output, and one line with %q", tt.env, tt.args, got, tt.want)
			}
			if strings.Contains(got.stderr, "hunter2") {
				t.Errorf("the error %q tells a password", got.stderr)
			}
		})
	}
}

func TestServesWithoutItsDaemon(t *testing.T) {
	got := newWorld(t).run(hello+listVMs+`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, "--url", "http://user:hunter2@127.0.0.1:1")
	if got.code != 0 {
		t.Fatalf("with an unreachable daemon: %+v, want exit 0", got)
	}
	answers := replies(t, got.stdout)
	if got, want := answers[1].Result.ServerInfo.Name, "slicervm-mcp"; got != want {
		t.Errorf("initialize says the name is %q, want %q", got, want)
	}
	if !answers[2].Result.IsError || len(answers[2].Result.Content) == 0 {
		t.Errorf("list_vms = %+v, want a tool error", answers[2])
	}
	if got, want := len(answers[3].Result.Tools), len(tools.Catalogue()); got != want {
		t.Errorf("tools/list has %d tools, want %d", got, want)
	}
	if strings.Contains(got.stderr+got.stdout, "hunter2") {
		t.Errorf("the password in the URL came out: %+v", got)
	}
}

func TestLogHasNoColourOffATerminal(t *testing.T) {
	got := newWorld(t).run(hello, "--url", nowhere)
	if got.stderr == "" || strings.Contains(got.stderr, "\x1b") {
		t.Errorf("the log is %q, want text without escape sequences", got.stderr)
	}
}

func TestPipeOfManyLines(t *testing.T) {
	var in strings.Builder
	in.WriteString(hello)
	const n = 200
	for i := range n {
		fmt.Fprintf(&in, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"list_vms"}}`+"\n", i+2)
	}
	got := newWorld(t).run(strings.TrimSuffix(in.String(), "\n"), "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", newFake()))
	answered := 0
	for _, r := range replies(t, got.stdout) {
		if r.Error == nil && !r.Result.IsError {
			answered++
		}
	}
	if diff := cmp.Diff([]int{0, n + 1}, []int{got.code, answered}); diff != "" {
		t.Errorf("exit and answers (-want +got):\n%s\n%s", diff, got.stderr)
	}
}
