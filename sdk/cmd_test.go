package slicer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// newVM starts the fake daemon with some programs and returns a client and the
// name of a VM.
func newVM(t *testing.T, programs map[string]slicertest.Program) (*slicer.SlicerClient, string) {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{Programs: programs, Network: slicertest.Pipe})
	vm, err := srv.Client().CreateVM(t.Context(), "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return srv.Client(), vm.Hostname
}

// both writes to both outputs and exits with 3.
func both(_ context.Context, p *slicertest.Proc) int {
	fmt.Fprintln(p.Stdout, "out")
	fmt.Fprintln(p.Stderr, "err")
	return 3
}

// yes writes until it is ended.
func yes(ctx context.Context, p *slicertest.Proc) int {
	for ctx.Err() == nil {
		if _, err := fmt.Fprintln(p.Stdout, strings.Repeat("y", 1000)); err != nil {
			return 1
		}
	}
	return 1
}

func TestCommandRuns(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"both": both})
	for _, tt := range []struct {
		name           string
		command        []string
		stdin          io.Reader
		stdout, stderr string
		code           int
		err            string
	}{
		{"success", []string{"echo", "a b", "c"}, nil, "a b c\n", "", 0, ""},
		{"failure", []string{"both"}, nil, "out\n", "err\n", 3, "exit status 3"},
		{"input", []string{"cat"}, strings.NewReader("in\x00\xff"), "in\x00\xff", "", 0, ""},
		{"no input is empty", []string{"cat"}, nil, "", "", 0, ""},
		{"no such program", []string{"nothing"}, nil, "", "", 127, "not started: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := client.Command(t.Context(), vm, tt.command[0], tt.command[1:]...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tt.stdin, &stdout, &stderr
			err := cmd.Run()
			if stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("outputs = %q, %q, want %q, %q", stdout.String(), stderr.String(), tt.stdout, tt.stderr)
			}
			state := cmd.ProcessState
			if state == nil || state.ExitCode() != tt.code {
				t.Fatalf("ProcessState = %v, want the code %d", state, tt.code)
			}
			if tt.err == "" {
				if err != nil || !state.Success() || !state.Exited() || state.Pid() <= 0 {
					t.Errorf("Run = %v, ended by %v, pid %d, want success", err, state, state.Pid())
				}
				return
			}
			var exit *slicer.ExitError
			if !errors.As(err, &exit) || !strings.HasPrefix(err.Error(), tt.err) || exit.ExitCode() != tt.code {
				t.Fatalf("Run = %v, want an ExitError %q", err, tt.err)
			}
			if exit.Stderr != nil {
				t.Errorf("ExitError.Stderr = %q, want none as Stderr was set", exit.Stderr)
			}
			var inner *slicer.RemoteProcessState
			if !errors.As(err, &inner) || inner != state {
				t.Errorf("errors.As finds the state %p, want %p", inner, state)
			}
			if notStarted := tt.code == 127; state.NotStarted() != notStarted || state.Exited() == notStarted || state.Success() {
				t.Errorf("NotStarted = %v, Exited = %v, Success = %v", state.NotStarted(), state.Exited(), state.Success())
			}
		})
	}
}

func TestOutput(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"both": both, "noise": func(_ context.Context, p *slicertest.Proc) int {
		fmt.Fprint(p.Stderr, strings.Repeat("h", 40<<10), strings.Repeat("m", 100<<10), strings.Repeat("t", 40<<10))
		return 1
	}})
	out, err := client.Command(t.Context(), vm, "both").Output()
	var exit *slicer.ExitError
	if string(out) != "out\n" || !errors.As(err, &exit) || string(exit.Stderr) != "err\n" {
		t.Errorf("Output = %q, %v, want out and an ExitError with err", out, err)
	}

	_, err = client.Command(t.Context(), vm, "noise").Output()
	if !errors.As(err, &exit) {
		t.Fatalf("Output = %v, want an ExitError", err)
	}
	want := strings.Repeat("h", 32<<10) + fmt.Sprintf("\n... %d bytes are left out ...\n", (180-64)<<10) + strings.Repeat("t", 32<<10)
	if diff := cmp.Diff(want, string(exit.Stderr)); diff != "" {
		t.Errorf("Stderr has %d bytes, want %d", len(exit.Stderr), len(want))
	}

	// In pieces larger than what is kept of either end.
	long := new(strings.Builder)
	for i := range 20 << 10 {
		fmt.Fprintf(long, "%09d\n", i)
	}
	text := long.String()
	frame := func(part string) string { return fmt.Sprintf(`{"stderr":%q}`+"\n", part) }
	_, err = serve(t, stream(frame(text[:100<<10]), frame(text[100<<10:]), `{"exit_code":1}`)).Command(t.Context(), "vm-1", "x").Output()
	if !errors.As(err, &exit) {
		t.Fatalf("Output = %v, want an ExitError", err)
	}
	want = text[:32<<10] + fmt.Sprintf("\n... %d bytes are left out ...\n", len(text)-64<<10) + text[len(text)-32<<10:]
	if string(exit.Stderr) != want {
		t.Errorf("Stderr has %d bytes that are not the first and the last 32 KiB of %d", len(exit.Stderr), len(text))
	}

	out, err = client.CommandContext(t.Context(), vm, "both").CombinedOutput()
	if string(out) != "out\nerr\n" || !errors.As(err, &exit) {
		t.Errorf("CombinedOutput = %q, %v, want both outputs and an ExitError", out, err)
	}
}

func TestCommandMisuse(t *testing.T) {
	client, vm := newVM(t, nil)
	command := func() *slicer.RemoteCmd { return client.Command(t.Context(), vm, "true") }
	ran := command()
	if err := ran.Run(); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	for name, call := range map[string]func() error{
		"a zero RemoteCmd":          func() error { return new(slicer.RemoteCmd).Run() },
		"no program":                func() error { return client.Command(t.Context(), vm, "").Run() },
		"Wait before Start":         func() error { return command().Wait() },
		"a second Start":            ran.Start,
		"a second Wait":             ran.Wait,
		"a second Run":              ran.Run,
		"a pipe after the start":    func() error { _, err := ran.StdinPipe(); return err },
		"an output after the start": func() error { _, err := ran.StdoutPipe(); return err },
		"an error after the start":  func() error { _, err := ran.StderrPipe(); return err },
		"Output with Stdout":        func() error { c := command(); c.Stdout = &buf; _, err := c.Output(); return err },
		"CombinedOutput with Stdout": func() error {
			c := command()
			c.Stdout = &buf
			_, err := c.CombinedOutput()
			return err
		},
		"CombinedOutput with Stderr": func() error {
			c := command()
			c.Stderr = &buf
			_, err := c.CombinedOutput()
			return err
		},
		"StdinPipe with Stdin": func() error { c := command(); c.Stdin = &buf; _, err := c.StdinPipe(); return err },
		"StdoutPipe twice": func() error {
			c := command()
			if _, err := c.StdoutPipe(); err != nil {
				t.Error(err)
			}
			_, err := c.StdoutPipe()
			return err
		},
		"StderrPipe with Stderr": func() error { c := command(); c.Stderr = &buf; _, err := c.StderrPipe(); return err },
	} {
		if err := call(); err == nil {
			t.Errorf("%s = nil, want an error", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Command with a nil context doesn't panic")
		}
	}()
	client.Command(nil, vm, "true") //nolint:staticcheck // what it is tested for
}

func TestCommandQuery(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*slicer.RemoteCmd)
		want url.Values
	}{
		{"as it is made", func(*slicer.RemoteCmd) {}, url.Values{"args": {"a"}, "uid": {"0"}, "gid": {"0"}, "stdout": {"false"}, "stderr": {"false"}}},
		{
			"everything", func(c *slicer.RemoteCmd) {
				c.Path, c.Args, c.Env, c.Dir, c.Shell = "/p", []string{"other", "x", ""}, []string{"A=1", "B=2", "A=3"}, "~", "/bin/bash"
				c.UID, c.GID, c.Stdout, c.Stdin = 5, slicer.NonRootUser, io.Discard, strings.NewReader("")
			},
			url.Values{
				"cmd": {"/p"}, "args": {"x", ""}, "env": {"B=2", "A=3"}, "cwd": {"~"}, "shell": {"/bin/bash"},
				"uid": {"5"}, "stdout": {"true"}, "stderr": {"false"}, "stdin": {"true"},
			},
		},
		{
			"no arguments", func(c *slicer.RemoteCmd) { c.Args, c.Stderr = nil, io.Discard },
			url.Values{"uid": {"0"}, "gid": {"0"}, "stdout": {"false"}, "stderr": {"true"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got url.Values
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = r.URL.Query()
				_, _ = io.WriteString(w, `{"type":"exit"}`)
			})
			cmd := client.Command(t.Context(), "vm-1", "p", "a")
			tt.set(cmd)
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			want := url.Values{"cmd": {"p"}, "stdio": {"base64"}}
			for key, values := range tt.want {
				want[key] = values
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandDescribesItself(t *testing.T) {
	cmd := slicer.NewSlicerClient("http://x", "", "", nil).Command(t.Context(), "vm", "prog", "a b", "c")
	cmd.Env = []string{"A=1", "odd", "A=2", "odd"}
	if got := cmd.String(); got != "prog a b c" {
		t.Errorf("String = %q", got)
	}
	env := cmd.Environ()
	if diff := cmp.Diff([]string{"odd", "A=2", "odd"}, env); diff != "" {
		t.Errorf("Environ (-want +got):\n%s", diff)
	}
	env[0] = "changed"
	if cmd.Env[1] != "odd" {
		t.Error("Environ is no copy")
	}
	var none *slicer.RemoteProcessState
	if none.ExitCode() != -1 || none.Pid() != -1 || none.Success() || none.Exited() || none.NotStarted() || none.Signal() != "" || none.String() != "<nil>" {
		t.Error("the methods of a nil RemoteProcessState say more than that there is none")
	}
	if (&slicer.ExitError{}).Unwrap() != nil || (&slicer.ExitError{}).Error() != "<nil>" {
		t.Error("an empty ExitError wraps something")
	}
}

func TestCommandEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		code    int
		text    string // of the error
		isExit  bool
		exited  bool
	}{
		{"untyped", stream(`{"stdout":"a","exit_code":0}` + "\n" + `{"exit_code":0}`), 0, "", false, true},
		{"untyped, the last code counts", stream(`{"exit_code":1}` + "\n" + `{"exit_code":42,"error":"exit status 42"}`), 42, "exit status 42", true, true},
		{"a signal", stream(`{"type":"started","pid":7}` + "\n" + `{"type":"exit","exit_code":137,"signal":"KILL"}`), -1, "signal: KILL", true, false},
		{"an error without a code", stream(`{"stdout":"a"}` + "\n" + `{"error":"agent died"}`), -1, "agent died", true, false},
		{"untyped, not started", stream(`{"exit_code":1,"error":"fork failed"}`), 1, "not started: fork failed", true, false},
		{"not started, with a status's words", stream(`{"type":"exit","exit_code":2,"error":"exit status 2"}`), 2, "exit status 2", true, true},
		{"cut", cut(stream(`{"type":"started"}` + "\n")), -1, "read exec stream: unexpected EOF", false, false},
		{"no exit frame", stream(`{"type":"started"}` + "\n"), -1, "read exec stream: the stream ended before the command did: unexpected EOF", false, false},
		{"malformed", stream("{\n"), -1, "read exec stream: malformed frame: unexpected end of JSON input", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := serve(t, tt.handler).Command(t.Context(), "vm-1", "x")
			err := cmd.Run()
			var exit *slicer.ExitError
			if isExit := errors.As(err, &exit); isExit != tt.isExit {
				t.Errorf("Run = %v, an ExitError %v, want %v", err, isExit, tt.isExit)
			}
			if got := fmt.Sprint(err); tt.text != "" && got != tt.text || tt.text == "" && err != nil {
				t.Errorf("Run = %v, want %q", err, tt.text)
			}
			if state := cmd.ProcessState; state.ExitCode() != tt.code || state.Exited() != tt.exited {
				t.Errorf("state = %v, code %d, exited %v, want %d, %v", state, state.ExitCode(), state.Exited(), tt.code, tt.exited)
			}
		})
	}
}

func TestCommandRefused(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		answer(http.StatusConflict, "application/json", `{"error":"VM is paused"}`)(w, r)
	})
	cmd := client.Command(t.Context(), "vm-1", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); !slicer.IsAPIStatus(err, http.StatusConflict) {
		t.Errorf("Start = %v, want an APIError with the status 409", err)
	}
	if _, err := in.Write([]byte("x")); err == nil {
		t.Error("writing to the input of what was not started = nil, want an error")
	}
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading the output of what was not started = %v, want %v", err, os.ErrClosed)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState != nil {
		t.Errorf("Wait = %v, state %v, want an error and none", err, cmd.ProcessState)
	}
}
