package slicer_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

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
