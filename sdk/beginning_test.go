package slicer_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// silentClient is a client of a daemon that takes every call and answers none.
func silentClient(t *testing.T) *slicer.SlicerClient {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.Copy(io.Discard, theirs)
			theirs.Close()
		}()
		return ours, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return slicer.NewSlicerClient("http://daemon", "", "test", &http.Client{Transport: transport})
}

func TestASilentDaemonIsGivenUp(t *testing.T) {
	calls := map[string]func(context.Context, *slicer.SlicerClient) error{
		"Exec": func(ctx context.Context, c *slicer.SlicerClient) error {
			_, err := c.Exec(ctx, "vm", slicer.SlicerExecRequest{Command: "true"})
			return err
		},
		"DeleteSecret": func(ctx context.Context, c *slicer.SlicerClient) error { return c.DeleteSecret(ctx, "s") },
		"PauseVM":      func(ctx context.Context, c *slicer.SlicerClient) error { return c.PauseVM(ctx, "vm") },
		"ExecLogs": func(ctx context.Context, c *slicer.SlicerClient) error {
			for _, err := range c.ExecLogsSeq(ctx, "vm", "ex_1", slicer.ExecLogsOptions{Follow: true}) {
				return err
			}
			return nil
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := call(t.Context(), silentClient(t))
				if err == nil || !strings.Contains(err.Error(), "did not answer") {
					t.Errorf("%s = %v, want that the daemon did not answer", name, err)
				}
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("%s took %s, want at most two minutes", name, took)
				}
			})
		})
	}
}

// brokenLate is a client of a daemon whose exec stream ends in a cut after the
// exit frame.
func brokenLate(t *testing.T) *slicer.SlicerClient {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, `{"type":"started","pid":3}`+"\n"+`{"type":"exit","exit_code":7}`+"\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

func TestAnExitCodeOutlivesItsStream(t *testing.T) {
	results, err := brokenLate(t).Exec(t.Context(), "vm", slicer.SlicerExecRequest{Command: "x"})
	if err != nil {
		t.Fatal(err)
	}
	var last slicer.SlicerExecWriteResult
	for last = range results {
	}
	if last.Type != "error" || last.ExitCode != 7 || !strings.Contains(last.Error, "lost") {
		t.Errorf("the last result = %+v, want an error with the exit code 7", last)
	}
	cmd := brokenLate(t).Command(t.Context(), "vm", "x")
	err = cmd.Run()
	var exit *slicer.ExitError
	if err == nil || errors.As(err, &exit) || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("Run() = %v with exit code %d, want the broken stream and 7", err, cmd.ProcessState.ExitCode())
	}
}

func TestErrorsRepeatNoEnvironment(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "bad env "+strings.Join(r.URL.Query()["env"], " "), http.StatusBadRequest)
	})
	req := slicer.SlicerExecRequest{Command: "x", Env: []string{"API_KEY=hunter2secret"}}
	_, err := client.Exec(t.Context(), "vm", req)
	_, buffered := client.ExecBuffered(t.Context(), "vm", req)
	for name, err := range map[string]error{"Exec": err, "ExecBuffered": buffered} {
		if err == nil || strings.Contains(err.Error(), "hunter2secret") {
			t.Errorf("%s = %v, want an error without the value", name, err)
		}
	}
}
