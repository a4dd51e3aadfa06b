package slicer_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

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

func TestStdinPipeThatIsReadAtTheCommandsEndIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(stream(`{"type":"started"}`+"\n", `{"type":"exit"}`+"\n"))
		defer stop()
		cmd := client.Command(t.Context(), "vm-1", "true")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The command ends, and with it the read of the pipe that waited.
		time.Sleep(time.Minute)
		if err := cmd.Wait(); err != nil {
			t.Errorf("Wait = %v", err)
		}
	})
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
