package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// build builds the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "slicervm-mcp.exe") // a name that every platform runs
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// command is the program, at work for the daemon at url. It is killed after a
// minute.
func command(t *testing.T, bin, url string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "SLICER_URL="+url, "SLICER_TOKEN=", "SLICER_TOKEN_FILE=")
	return cmd
}

// answers are the messages on standard output by their ids, in short. Anything
// else there fails the test.
func answers(t *testing.T, stdout string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(stdout) {
		var m struct {
			JSONRPC string
			ID      json.RawMessage
			Result  *struct {
				Content []struct{ Text string }
				IsError bool
			}
			Error *struct{ Code int }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != "2.0" {
			t.Errorf("standard output has the line %q, want messages only", line)
			continue
		}
		switch id := string(m.ID); {
		case m.Error != nil:
			got[id] = fmt.Sprintf("error %d", m.Error.Code)
		case m.Result != nil && m.Result.IsError:
			got[id] = "tool error"
		default:
			got[id] = "result"
		}
	}
	return got
}

func request(id int, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, id, method, params)
}

const (
	hello       = `"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// TestField25ExitsAtEOFAndStdoutCarriesProtocolOnly is about stdio servers that
// outlive their client, or print a banner on stdout.
func TestField25ExitsAtEOFAndStdoutCarriesProtocolOnly(t *testing.T) {
	bin := build(t)
	daemon := slicertest.NewServer(t)
	tool := func(id int, name string) string { return request(id, "tools/call", `"name":"`+name+`"`) }
	for _, tt := range []struct {
		name  string
		url   string
		args  []string
		input []string
		want  map[string]string
		code  int
	}{
		{
			name:  "all that was read is answered, whatever it is",
			url:   daemon.URL,
			input: []string{request(1, "initialize", hello), initialized, "", "not JSON", request(2, "no/such", ""), tool(3, "list_vms"), tool(4, "exec"), request(5, "tools/list", "")},
			want:  map[string]string{"1": "result", "null": "error -32700", "2": "error -32601", "3": "result", "4": "tool error", "5": "result"},
		},
		{
			name:  "a daemon that isn't there is said on stderr and by the tools",
			url:   "http://127.0.0.1:1",
			input: []string{request(1, "initialize", hello), tool(2, "list_vms")},
			want:  map[string]string{"1": "result", "2": "tool error"},
		},
		{
			name:  "the most talkative log stays on stderr",
			url:   daemon.URL,
			args:  []string{"--log-level", "debug"},
			input: []string{request(1, "initialize", hello), tool(2, "list_vms")},
			want:  map[string]string{"1": "result", "2": "result"},
		},
		{name: "nothing said is nothing answered", url: daemon.URL, want: map[string]string{}},
		{name: "a mistake is told on stderr", url: daemon.URL, args: []string{"--no-such-flag"}, want: map[string]string{}, code: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(t, bin, tt.url, tt.args...)
			cmd.Stdin = strings.NewReader(strings.Join(tt.input, "\n"))
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("the program ended with %d, want %d", got, tt.code)
			}
			if diff := cmp.Diff(tt.want, answers(t, stdout.String())); diff != "" {
				t.Errorf("standard output (-want +got):\n%s", diff)
			}
			if stderr.Len() == 0 {
				t.Error("standard error is empty, want what goes on there")
			}
		})
	}
	t.Run("a client that has nothing more to say ends it", func(t *testing.T) {
		cmd := command(t, bin, daemon.URL)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stdin, request(1, "initialize", hello)+"\n"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v, want exit 0", err)
		}
		if took := time.Since(start); took > 5*time.Second { // a machine at work takes its time
			t.Errorf("the program outlived its input by %v, want it to end at once", took)
		}
		if diff := cmp.Diff(map[string]string{"1": "result"}, answers(t, stdout.String())); diff != "" {
			t.Errorf("standard output (-want +got):\n%s", diff)
		}
	})
}
