package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// call runs a command in the box called "box".
func call(t *testing.T, srv *slicertest.Server, stdin string, command ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), srv.Client(), options{
		name: "box", command: command, stdin: strings.NewReader(stdin), stderr: &errs,
	}, &out)
	return out.String(), errs.String(), err
}

func TestRunFindsTheBoxAgain(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"hostname": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprintln(p.Stdout, p.Hostname)
			return 0
		},
	}})
	client := srv.Client()
	for _, tt := range []struct {
		name   string
		before func(context.Context) error
		want   string
	}{
		{"made at the first call", func(context.Context) error { return nil }, "sbox-1"},
		{"found at the second", func(context.Context) error { return nil }, "sbox-1"},
		{"resumed", func(ctx context.Context) error { return client.PauseVM(ctx, "sbox-1") }, "sbox-1"},
		{"restored", func(ctx context.Context) error { return client.SuspendVM(ctx, "sbox-1") }, "sbox-1"},
		{"made again when it is gone", func(ctx context.Context) error {
			_, err := client.DeleteVM(ctx, "sbox", "sbox-1")
			return err
		}, "sbox-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.before(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out, _, err := call(t, srv, "", "hostname"); err != nil || out != tt.want+"\n" {
				t.Errorf("hostname in the box = %q, %v, want %s", out, err, tt.want)
			}
		})
	}
	if out, _, err := call(t, srv, "a\nb\n", "cat"); err != nil || out != "a\nb\n" {
		t.Errorf("cat in the box = %q, %v, want its input", out, err)
	}
	vms, err := client.ListVMs(t.Context())
	if err != nil || len(vms) != 1 {
		t.Errorf("ListVMs = %+v, %v, want one VM", vms, err)
	}
}

func TestRunReturnsTheExitCode(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"make": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprintln(p.Stderr, "no rule")
			return 2
		},
	}})
	_, stderr, err := call(t, srv, "", "make", "all")
	var exit *slicer.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || stderr != "no rule\n" {
		t.Errorf("make in the box = %v with %q on standard error, want exit code 2 and what it said", err, stderr)
	}
}
