package daemon_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func newLegacy(t *testing.T) (a *api, vm string) {
	a = newAPI(t, slicertest.Options{LegacyFrames: true, Programs: map[string]slicertest.Program{
		"both": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, "out")
			fmt.Fprint(p.Stderr, "err")
			return 42
		},
	}})
	return a, a.create(`{}`)
}

func TestLegacyFramesAreUntyped(t *testing.T) {
	a, vm := newLegacy(t)
	for _, tt := range []struct {
		cmd  string
		want []map[string]any
	}{
		{"both", []map[string]any{
			{"stdout": "out", "exit_code": 0.0},
			{"stderr": "err", "exit_code": 0.0},
			{"exit_code": 42.0, "error": "exit status 42"},
		}},
		{"true", []map[string]any{{"exit_code": 0.0}}},
		{"nope", []map[string]any{{"exit_code": 127.0, "error": "nope: command not found: file does not exist"}}},
	} {
		var got []map[string]any
		for line := range strings.Lines(a.want(200, "POST", execPath(vm, "cmd", tt.cmd), "").body) {
			var f map[string]any
			decode(t, line, &f)
			if f["timestamp"] == nil {
				t.Errorf("frame %s has no timestamp", line)
			}
			delete(f, "timestamp")
			got = append(got, f)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("exec %s (-want +got):\n%s", tt.cmd, diff)
		}
	}
	var got map[string]any
	decode(t, a.want(200, "POST", execPath(vm, "cmd", "both", "buffered", "true"), "").body, &got)
	if diff := cmp.Diff(map[string]any{"stdout": "out", "stderr": "err", "exit_code": 42.0, "error": "exit status 42"}, got); diff != "" {
		t.Errorf("buffered exec (-want +got):\n%s", diff)
	}
}
