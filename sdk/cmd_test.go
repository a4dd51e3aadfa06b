package slicer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func TestDaemonThatReadsTheInputBeforeItAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		want   bool // success
	}{{"success", http.StatusOK, true}, {"refusal", http.StatusConflict, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(tt.status)
					_, _ = io.WriteString(w, `{"type":"exit"}`)
				})
				defer stop()
				cmd := client.Command(t.Context(), "vm-1", "cat")
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(in, "hello"); err != nil {
					t.Error(err)
				}
				in.Close()
				if _, err := io.ReadAll(out); err != nil {
					t.Errorf("read the output: %v", err)
				}
				err = cmd.Wait()
				if tt.want && err != nil || !tt.want && !slicer.IsAPIStatus(err, tt.status) {
					t.Errorf("Wait = %v, want a success %v", err, tt.want)
				}
			})
		})
	}
}

func TestCommandPipes(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"tee": func(_ context.Context, p *slicertest.Proc) int {
		if _, err := io.Copy(io.MultiWriter(p.Stdout, p.Stderr), p.Stdin); err != nil {
			return 1
		}
		return 0
	}})
	cmd := client.Command(t.Context(), vm, "tee")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "before the start\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := io.ReadAtLeast(stdout, buf, len("before the start\n"))
	if err != nil || string(buf[:n]) != "before the start\n" {
		t.Fatalf("stdout = %q, %v", buf[:n], err)
	}
	rest := strings.Repeat("0123456789", 20<<10)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.WriteString(in, rest)
		in.Close()
		in.Close()
	})
	var errText []byte
	wg.Go(func() { errText, _ = io.ReadAll(stderr) })
	outText, err := io.ReadAll(stdout)
	if err != nil || string(outText) != rest {
		t.Errorf("stdout has %d bytes, %v, want %d", len(outText), err, len(rest))
	}
	wg.Wait()
	if want := len(rest) + len("before the start\n"); len(errText) != want {
		t.Errorf("stderr has %d bytes, want %d", len(errText), want)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Wait = %v", err)
	}
	for name, reader := range map[string]io.Reader{"stdout": stdout, "stderr": stderr} {
		if _, err := reader.Read(buf); !errors.Is(err, os.ErrClosed) {
			t.Errorf("reading %s after Wait = %v, want %v", name, err, os.ErrClosed)
		}
	}
	if _, err := in.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing after Wait = %v, want %v", err, os.ErrClosed)
	}
}

func TestPipesOfBothOutputsReadInTurn(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"both": func(_ context.Context, p *slicertest.Proc) int {
		fmt.Fprint(p.Stdout, strings.Repeat("o", 60<<10))
		fmt.Fprint(p.Stderr, "done")
		return 0
	}})
	for _, way := range []string{"pipes", "writers"} {
		t.Run(way, func(t *testing.T) {
			cmd := client.Command(t.Context(), vm, "both")
			var stdout, stderr io.Reader
			var err error
			if way == "pipes" {
				stdout, err = cmd.StdoutPipe()
				if err == nil {
					stderr, err = cmd.StderrPipe()
				}
				if err != nil {
					t.Fatal(err)
				}
			} else {
				// Their writers block until somebody reads.
				stdout, cmd.Stdout = io.Pipe()
				stderr, cmd.Stderr = io.Pipe()
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, part := range []struct {
				r io.Reader
				n int
			}{{stderr, 4}, {stdout, 60 << 10}} {
				if _, err := io.CopyN(io.Discard, part.r, int64(part.n)); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("Wait = %v", err)
			}
		})
	}
}

// writer is one that can't be compared.
type writer struct{ parts []func([]byte) (int, error) }

func (w writer) Write(p []byte) (int, error) { return w.parts[0](p) }

func TestBothOutputsInOneWriter(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"both": both})
	t.Run("a pipe", func(t *testing.T) {
		cmd := client.Command(t.Context(), vm, "both")
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = cmd.Stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(pipe)
		if err != nil || string(got) != "out\nerr\n" {
			t.Errorf("the pipe has %q, %v, want both outputs", got, err)
		}
		var exit *slicer.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) {
			t.Errorf("Wait = %v, want an ExitError", err)
		}
	})
	t.Run("writers that can't be compared", func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		w := writer{parts: []func([]byte) (int, error){func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(p))
			return len(p), nil
		}}}
		cmd := client.Command(t.Context(), vm, "both")
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err == nil || len(got) != 2 {
			t.Errorf("Run = %v, wrote %q, want an ExitError and both outputs", err, got)
		}
	})
}

// failing fails once it has taken some bytes.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if n < len(p) {
		return n, f.err
	}
	return n, nil
}

func TestFailingWriters(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"yes": yes, "both": both})
	errFull := errors.New("disk full")
	for _, tt := range []struct {
		name    string
		command []string
		stdout  io.Writer
		stderr  io.Writer
		want    error // nil: an ExitError
	}{
		{"once, at the end", []string{"echo", "hello"}, &failing{2, errFull}, nil, errFull},
		{"a short write", []string{"echo", "hello"}, &failing{2, nil}, nil, io.ErrShortWrite},
		{"while there is more", []string{"yes"}, &failing{5000, errFull}, nil, errFull},
		{"one of two", []string{"yes"}, &failing{5000, errFull}, new(bytes.Buffer), errFull},
		{"the exit status goes before", []string{"both"}, &failing{0, errFull}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := client.Command(t.Context(), vm, tt.command[0], tt.command[1:]...)
			cmd.Stdout, cmd.Stderr = tt.stdout, tt.stderr
			err := cmd.Run()
			var exit *slicer.ExitError
			if tt.want == nil && !errors.As(err, &exit) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Run = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestClosedOutputPipeEndsTheCommand(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"yes": yes})
	cmd := client.Command(t.Context(), vm, "yes")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(pipe, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	var exit *slicer.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Signal() != "PIPE" || exit.ExitCode() != -1 {
		t.Errorf("Wait = %v, want an ExitError with the signal PIPE", err)
	}
}

func TestOneWriteToAClosedPipeEndsTheCommand(t *testing.T) {
	client, vm := newVM(t, nil)
	cmd := client.Command(t.Context(), vm, "echo", "hello")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	var exit *slicer.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Signal() != "PIPE" || exit.String() != "signal: PIPE" {
		t.Errorf("Run = %v, want an ExitError with the signal PIPE", err)
	}
}

func TestCommandsInAPipeline(t *testing.T) {
	client, vm := newVM(t, nil)
	first := client.Command(t.Context(), vm, "echo", "hello")
	second := client.Command(t.Context(), vm, "cat")
	var err error
	if second.Stdin, err = first.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if got, err := second.Output(); err != nil || string(got) != "hello\n" {
		t.Errorf("Output = %q, %v, want hello", got, err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("Wait = %v", err)
	}

	// The other way: the first writes into the second's input.
	first = client.Command(t.Context(), vm, "echo", "hello")
	second = client.Command(t.Context(), vm, "cat")
	in, err := second.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	first.Stdout, second.Stdout = in, &out
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if err := first.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "more\n"); err != nil {
		t.Errorf("the second's input after the first's end: %v", err)
	}
	in.Close()
	if err := second.Wait(); err != nil || out.String() != "hello\nmore\n" {
		t.Errorf("Wait = %v, output %q, want hello and more", err, out.String())
	}
}

// brokenReader gives some bytes and then an error.
type brokenReader struct {
	text string
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	n := copy(p, r.text)
	r.text = r.text[n:]
	if n == 0 {
		return 0, r.err
	}
	return n, nil
}

func TestBrokenStdinIsItsEnd(t *testing.T) {
	client, vm := newVM(t, nil)
	errBroken := errors.New("broken")
	var out bytes.Buffer
	cmd := client.Command(t.Context(), vm, "cat")
	cmd.Stdin, cmd.Stdout = &brokenReader{"some", errBroken}, &out
	if err := cmd.Run(); !errors.Is(err, errBroken) || out.String() != "some" || !cmd.ProcessState.Success() {
		t.Errorf("Run = %v, output %q, state %v, want %v after a success", err, out.String(), cmd.ProcessState, errBroken)
	}
}

func TestStdinThatIsNeverReadDoesNotHangWait(t *testing.T) {
	client, vm := newVM(t, nil)
	cmd := client.Command(t.Context(), vm, "true")
	cmd.Stdin = endless{}
	if err := cmd.Run(); err != nil {
		t.Errorf("Run = %v", err)
	}
	cmd = client.Command(t.Context(), vm, "true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = in.Write(make([]byte, 32<<10))
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing to a command that has ended = %v, want %v", err, io.ErrClosedPipe)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Wait = %v", err)
	}
}

func TestStdinWhoseReadBlocksDoesNotHangWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(stream(`{"type":"started"}`+"\n", `{"type":"exit"}`+"\n"))
		defer stop()
		input, feed := io.Pipe()
		cmd := client.Command(t.Context(), "vm-1", "true")
		cmd.Stdin = input
		if err := cmd.Run(); err != nil {
			t.Errorf("Run = %v", err)
		}
		// Once it returns nothing is left; else the bubble fails.
		feed.Close()
	})
}

func TestCancelledCommand(t *testing.T) {
	waiting := func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_, _ = io.WriteString(w, `{"type":"started","pid":7}`+"\n"+`{"type":"stdout","stdout":"x"}`+"\n")
		_ = control.Flush()
		// net/http's server notices that a client is gone once there is no
		// more to read of a body.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
	}
	lavish := func(w http.ResponseWriter, r *http.Request) {
		for range 50 {
			_, _ = io.WriteString(w, `{"type":"stdout","encoding":"base64","stdout":"`+base64.StdEncoding.EncodeToString(make([]byte, 30<<10))+`"}`+"\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		set     func(*slicer.RemoteCmd)
	}{
		{"that waits", waiting, func(*slicer.RemoteCmd) {}},
		{"with an open input", waiting, func(c *slicer.RemoteCmd) { _, _ = c.StdinPipe() }},
		{"with an output pipe that nobody reads", lavish, func(c *slicer.RemoteCmd) { _, _ = c.StdoutPipe() }},
		{"with two outputs that are read", lavish, func(c *slicer.RemoteCmd) { c.Stdout, c.Stderr = io.Discard, new(counter) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended atomic.Bool
				client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
					defer ended.Store(true)
					tt.handler(w, r)
				})
				defer stop()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := client.Command(ctx, "vm-1", "sleep")
				tt.set(cmd)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); err != context.DeadlineExceeded { //nolint:errorlint // the very error
					t.Errorf("Wait = %v, want %v", err, context.DeadlineExceeded)
				}
				if cmd.ProcessState.ExitCode() != -1 || cmd.ProcessState.Exited() {
					t.Errorf("state = %v, want none that exited", cmd.ProcessState)
				}
				synctest.Wait()
				if !ended.Load() {
					t.Error("the daemon isn't told")
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request is made") })
	if err := client.Command(ctx, "vm-1", "true").Run(); err != context.Canceled { //nolint:errorlint // the very error
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
}

// TestAbandonedStreamsLeaveNothing walks away from a thousand commands in every
// way that there is.
func TestAbandonedStreamsLeaveNothing(t *testing.T) {
	endlessOutput := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, `{"type":"stdout","id":1,"stdout":"x"}`+"\n")
			_ = http.NewResponseController(w).Flush()
		}
	}
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(endlessOutput)
		defer stop()
		ways := []func(ctx context.Context, cancel func()) error{
			func(ctx context.Context, cancel func()) error {
				_, err := client.Exec(ctx, "vm-1", slicer.SlicerExecRequest{Command: "yes"})
				cancel()
				return err
			},
			func(ctx context.Context, cancel func()) error {
				results, err := client.ExecLogs(ctx, "vm-1", "ex_1", slicer.ExecLogsOptions{Follow: true})
				if err == nil {
					<-results
				}
				cancel()
				return err
			},
			func(ctx context.Context, _ func()) error {
				for _, err := range client.ExecLogsSeq(ctx, "vm-1", "ex_1", slicer.ExecLogsOptions{}) {
					return err
				}
				return nil
			},
			func(ctx context.Context, cancel func()) error {
				cmd := client.Command(ctx, "vm-1", "yes")
				if _, err := cmd.StdoutPipe(); err != nil {
					return err
				}
				err := cmd.Start()
				cancel()
				return err
			},
			func(ctx context.Context, _ func()) error {
				cmd := client.Command(ctx, "vm-1", "yes")
				pipe, err := cmd.StdoutPipe()
				if err != nil {
					return err
				}
				pipe.Close()
				if err := cmd.Run(); err == nil {
					return errors.New("yes ends by itself")
				}
				return nil
			},
		}
		for i := range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			if err := ways[i%len(ways)](ctx, cancel); err != nil {
				t.Errorf("way %d: %v", i%len(ways), err)
			}
			cancel()
		}
	})
}
