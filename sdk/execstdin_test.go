package slicer_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// echo answers an exec call with its input, while it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex()
	_, _ = io.WriteString(w, `{"type":"started"}`+"\n")
	_ = control.Flush()
	buf := make([]byte, 1024)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			_, _ = fmt.Fprintf(w, `{"type":"stdout","encoding":"base64","stdout":%q}`+"\n", base64.StdEncoding.EncodeToString(buf[:n]))
			_ = control.Flush()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	_, _ = io.WriteString(w, `{"type":"exit"}`+"\n")
}

func TestExecIsFullDuplex(t *testing.T) {
	client := serve(t, echo)
	input, feed := io.Pipe()
	results, err := client.ExecWithReader(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "cat"}, input)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one\n", "two\x00\n"} {
		if _, err := io.WriteString(feed, line); err != nil {
			t.Fatal(err)
		}
		if got := <-results; got.Stdout != line {
			t.Errorf("after %q was written: %q, want it back", line, got.Stdout)
		}
	}
	feed.Close()
	if rest := collect(results); len(rest) != 1 || rest[0].Type != "exit" || rest[0].ExitCode != 0 {
		t.Errorf("after the input's end: %v, want an exit with 0", rest)
	}
}

func TestExecReadsOSStdin(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := writer.WriteString("typed"); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	stdin := os.Stdin
	os.Stdin = reader
	defer func() { os.Stdin = stdin }()

	results, err := serve(t, echo).Exec(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "cat", Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := collect(results); len(got) != 2 || got[0].Stdout != "typed" {
		t.Errorf("Exec = %v, want what os.Stdin held and an exit", got)
	}
}

func TestExecReportsBrokenStdin(t *testing.T) {
	input, feed := io.Pipe()
	results, err := serve(t, echo).ExecWithReader(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "cat"}, input)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(feed, "x"); err != nil {
		t.Fatal(err)
	}
	<-results
	feed.CloseWithError(errors.New("disk on fire"))
	got := collect(results)
	if len(got) == 0 || got[len(got)-1].Type != "error" || !strings.Contains(got[len(got)-1].Error, "disk on fire") {
		t.Errorf("Exec = %v, want the error of its input", got)
	}
}

func TestExecWithStdinThatIsNeverRead(t *testing.T) {
	input, feed := io.Pipe()
	defer feed.Close()
	got := run(t, serve(t, stream(`{"type":"started"}`+"\n", `{"type":"exit"}`+"\n")), slicer.SlicerExecRequest{Command: "true"}, input)
	if len(got) != 1 || got[0].Type != "exit" {
		t.Errorf("Exec = %v, want an exit", got)
	}
}

func TestExecDoesNotRetryOnceInputWasRead(t *testing.T) {
	var calls atomic.Int32
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.ReadAll(r.Body)
		answer(http.StatusBadRequest, "text/plain", "unknown parameter stdio")(w, r)
	})
	_, err := client.ExecWithReader(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "cat"}, strings.NewReader("in"))
	if !slicer.IsAPIStatus(err, http.StatusBadRequest) || calls.Load() != 1 {
		t.Errorf("ExecWithReader = %v after %d calls, want an APIError with the status 400 after 1", err, calls.Load())
	}
}
