package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// newServer returns a daemon whose shell's only script puts a file into upper
// case.
func newServer(t *testing.T) *slicertest.Server {
	return slicertest.NewServer(t, slicertest.Options{
		Programs: map[string]slicertest.Program{
			"mkdir": func(_ context.Context, p *slicertest.Proc) int {
				if err := p.Files().Mkdir(p.Args[2]); err != nil {
					return 1
				}
				return 0
			},
		},
		Shell: func(_ context.Context, p *slicertest.Proc, script string) int {
			data, err := p.Files().ReadFile(p.Getenv("IN"))
			if err == nil && script == "upper" {
				err = p.Files().WriteFile(p.Getenv("OUT"), bytes.ToUpper(data), 0o644)
			}
			if err != nil || script != "upper" {
				fmt.Fprintln(p.Stderr, "no such thing")
				return 3
			}
			fmt.Fprintf(p.Stdout, "%d bytes by %d\n", len(data), p.UID)
			return 0
		},
	})
}

func TestRun(t *testing.T) {
	srv := newServer(t)
	input, output := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(input, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), srv.Client(), options{input: input, output: output, shellScript: "upper"}, &out)
	if err != nil {
		t.Fatalf("run = %v", err)
	}
	if got, err := os.ReadFile(output); err != nil || string(got) != "HELLO" {
		t.Errorf("the result is %q, %v, want HELLO", got, err)
	}
	if got, want := out.String(), "5 bytes by 1000\n"; got != want {
		t.Errorf("run printed %q, want %q", got, want)
	}
	wantNoVM(t, srv)
}

func TestRunReportsACommandThatFails(t *testing.T) {
	srv := newServer(t)
	input, output := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(input, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), srv.Client(), options{input: input, output: output, shellScript: "lower"}, &out)
	var exit *slicer.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || out.String() != "no such thing\n" {
		t.Errorf("run = %v and printed %q, want exit code 3 and what the command said", err, out.String())
	}
	if _, err := os.Stat(output); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat(result) = %v, want that there is none", err)
	}
	wantNoVM(t, srv)
}

func wantNoVM(t *testing.T, srv *slicertest.Server) {
	t.Helper()
	vms, err := srv.Client().ListVMs(t.Context())
	if err != nil || len(vms) != 0 {
		t.Errorf("ListVMs = %v, %v, want none left", vms, err)
	}
}
