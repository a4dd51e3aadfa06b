package tools_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// speaker is a shell whose every command says something and goes on.
func speaker(ctx context.Context, p *slicertest.Proc, _ string) int {
	fmt.Fprintln(p.Stdout, "spoken")
	return p.Run(ctx, "sleep", "300")
}

// TestServerThatEndsSaysWhatEndsWithIt is about calls that wait when their
// server, and what they wait for, is to end.
func TestServerThatEndsSaysWhatEndsWithIt(t *testing.T) {
	for _, tc := range []struct {
		name   string
		vmsEnd bool // the daemon ends with the server
		input  args
		failed bool
		want   []string
	}{
		{"a command of the embedded daemon", true, args{"command": "x"}, false, []string{"still running (process ex_", "its VMs with all that runs there end with it", "spoken"}},
		{"a command with input", false, args{"command": "x", "stdin": "y"}, true, []string{"this server is ending, and process px_", "with it", "spoken"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe, Shell: launched(speaker)})
				client := srv.Client()
				t.Cleanup(client.CloseIdleConnections)
				set, err := tools.New(tools.Config{Client: client, Owner: testOwner, VMsEnd: tc.vmsEnd})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := set.Close(); err != nil {
						t.Error(err)
					}
				}()
				s := connectTo(t, set)
				s.call("create_vm", args{})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, set.StopWaiting)
				time.AfterFunc(2*time.Second, cancel)
				res := s.raw(ctx, "exec", tc.input)
				got := textOf(t, res)
				wantText(t, "exec", got, tc.want...)
				if res.IsError != tc.failed || strings.Contains(got, "Next:") {
					t.Errorf("exec = %q, error %v, want error %v and no call that can't be made", got, res.IsError, tc.failed)
				}
			})
		})
	}
}
