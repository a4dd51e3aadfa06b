package slicer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

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
