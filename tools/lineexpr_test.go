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

// endless is an expression that takes an hour over a megabyte of the letter a.
var endless = strings.Repeat("(?:a?){1000}", 20) + "$b"

// TestExpressionsEndWithTheCall is about expressions that take long over what a
// guest prints and keeps.
func TestExpressionsEndWithTheCall(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(_ context.Context, p *slicertest.Proc, _ string) int {
		fmt.Fprint(p.Stdout, strings.Repeat("a", 20_000))
		return 0
	})})
	s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 3 * time.Second})
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	if err := srv.Files(made.VM).Mkdir("/srv"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Files(made.VM).WriteFile("/srv/a", []byte(strings.Repeat("a", 1<<20)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	handle := processOf(t, s.call("exec", args{"command": "x"})+s.call("list_processes", args{}))
	for _, tc := range []struct {
		tool  string
		input args
		want  string
	}{
		{"search_files", args{"pattern": endless, "path": "/srv"}, "in time"},
		{"search_files", args{"pattern": endless, "path": "/srv/a"}, "in time"},
		{"read_process", args{"process": handle, "until": endless, "wait_seconds": 1}, "exit 0 in "},
	} {
		began := time.Now()
		wantText(t, tc.tool, textOf(t, s.raw(t.Context(), tc.tool, tc.input)), tc.want)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s(%v) took %v, want the end of the call's 3 s", tc.tool, tc.input, took)
		}
	}
}
