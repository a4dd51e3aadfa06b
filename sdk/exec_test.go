package slicer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// stream returns a handler that answers with parts, each flushed by itself.
func stream(parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.Header().Set("Content-Type", "application/x-ndjson")
		for _, part := range parts {
			_, _ = io.WriteString(w, part)
			_ = control.Flush()
		}
	}
}

// cut wraps a handler and breaks the connection after it.
func cut(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		handler(w, r)
		panic(http.ErrAbortHandler)
	}
}

// run runs a command and returns its results without their times.
func run(t *testing.T, client *slicer.SlicerClient, req slicer.SlicerExecRequest, stdin io.Reader) []slicer.SlicerExecWriteResult {
	t.Helper()
	results, err := client.ExecWithReader(t.Context(), "vm-1", req, stdin)
	if err != nil {
		t.Fatalf("ExecWithReader: %v", err)
	}
	if cap(results) != 0 {
		t.Errorf("the channel's capacity is %d, want 0", cap(results))
	}
	return collect(results)
}

func collect(results <-chan slicer.SlicerExecWriteResult) []slicer.SlicerExecWriteResult {
	var all []slicer.SlicerExecWriteResult
	for result := range results {
		result.Timestamp = time.Time{}
		all = append(all, result)
	}
	return all
}

func TestExecFrames(t *testing.T) {
	type result = slicer.SlicerExecWriteResult
	exit := result{Type: "exit"}
	binary := "\x00\xff\xfe" + string([]byte{0xe2, 0x82})
	long := strings.Repeat("x", 200<<10)
	broken := func(text string) result { return result{ExitCode: -1, Type: "error", Error: text} }
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    []result
	}{
		{
			"untyped frames as they come",
			stream(`{"timestamp":"2026-03-01T12:00:00Z","stdout":"a","exit_code":0}`+"\n", `{"stderr":"b","exit_code":0}`+"\n", `{"exit_code":0}`+"\n"),
			[]result{{Stdout: "a"}, {Stderr: "b"}, {}},
		},
		{
			"untyped exit code", stream(`{"stdout":"a"}`+"\n", `{"exit_code":42,"error":"exit status 42"}`+"\n"),
			[]result{{Stdout: "a"}, {ExitCode: 42, Error: "exit status 42"}},
		},
		{"untyped exit code without a text", stream(`{"exit_code":3}`), []result{{ExitCode: 3, Error: "exit status 3"}}},
		{"untyped error without a code", stream(`{"error":"no such program"}`), []result{{ExitCode: -1, Error: "no such program", NotStarted: true}}},
		{
			"typed frames",
			stream(`{"type":"started","pid":7,"started_at":"2026-03-01T12:00:00Z"}`+"\n", `{"type":"stdout","stdout":"a"}`+"\n",
				`{"type":"stderr","stderr":"b"}`+"\n", `{"type":"exit","exit_code":0}`+"\n"),
			[]result{{Stdout: "a", Type: "stdout"}, {Stderr: "b", Type: "stderr"}, exit},
		},
		{
			"typed frames with data", stream(`{"type":"stdout","data":"a"}` + "\n" + `{"type":"stderr","data":"b"}` + "\n" + `{"type":"exit"}` + "\n"),
			[]result{{Stdout: "a", Type: "stdout"}, {Stderr: "b", Type: "stderr"}, exit},
		},
		{
			"typed exit by a signal", stream(`{"type":"exit","exit_code":137,"signal":"KILL"}` + "\n"),
			[]result{{ExitCode: 137, Error: "exit status 137", Signal: "KILL", Type: "exit"}},
		},
		{
			"typed, could not be started", stream(`{"type":"exit","exit_code":127,"error":"not found"}` + "\n"),
			[]result{{ExitCode: 127, Error: "not found", Type: "exit", NotStarted: true}},
		},
		{
			"typed, an error frame ends it", stream(`{"type":"started"}`+"\n", `{"error":"fork failed"}`+"\n"),
			[]result{{ExitCode: -1, Error: "fork failed", Type: "exit"}},
		},
		{
			"output after the exit frame comes first", stream(`{"type":"exit","exit_code":1}`+"\n", `{"type":"stdout","stdout":"late"}`+"\n"),
			[]result{{Stdout: "late", Type: "stdout"}, {ExitCode: 1, Error: "exit status 1", Type: "exit"}},
		},
		{
			"output on the exit frame", stream(`{"type":"exit","stdout":"last","exit_code":2}` + "\n"),
			[]result{{Stdout: "last"}, {ExitCode: 2, Error: "exit status 2", Type: "exit"}},
		},
		{
			"unknown types are passed over", stream(`{"type":"stdout","stdout":"a"}`+"\n", `{"type":"later","data":"x"}`+"\n", `{"type":"exit"}`+"\n"),
			[]result{{Stdout: "a", Type: "stdout"}, {}, exit},
		},
		{
			"base64", stream(`{"type":"stdout","encoding":"base64","stdout":"`+base64.StdEncoding.EncodeToString([]byte(binary))+`"}`+"\n",
				`{"type":"stderr","encoding":"base64","data":"`+base64.StdEncoding.EncodeToString([]byte(binary))+`"}`+"\n", `{"type":"exit"}`),
			[]result{{Stdout: binary, Type: "stdout"}, {Stderr: binary, Type: "stderr"}, exit},
		},
		{"last frame without a newline", stream(`{"type":"stdout","stdout":"a"}`+"\n", `{"type":"exit"}`), []result{{Stdout: "a", Type: "stdout"}, exit}},
		{"blank lines and CRLF", stream("\n\r\n" + `{"type":"exit"}` + "\r\n\n"), []result{exit}},
		{
			"a frame in pieces", stream(`{"type":"std`, `out","stdout":"a"}`, "\n"+`{"type":"e`, `xit"}`+"\n"),
			[]result{{Stdout: "a", Type: "stdout"}, exit},
		},
		{"a line over 64 KiB", stream(`{"type":"stdout","stdout":"`+long+`"}`+"\n", `{"type":"exit"}`), []result{{Stdout: long, Type: "stdout"}, exit}},
		{
			"an unreadable time", stream(`{"type":"stdout","stdout":"a","timestamp":17}`+"\n", `{"type":"exit","timestamp":"soon"}`),
			[]result{{Stdout: "a", Type: "stdout"}, exit},
		},
		{
			"typed without an exit frame", stream(`{"type":"stdout","stdout":"a"}` + "\n"),
			[]result{{Stdout: "a", Type: "stdout"}, broken("read exec stream: the stream ended before the command did: unexpected EOF")},
		},
		{"nothing at all", stream(), []result{broken("read exec stream: the stream ended before the command did: unexpected EOF")}},
		{
			"cut", cut(stream(`{"stdout":"a"}` + "\n")),
			[]result{{Stdout: "a"}, broken("read exec stream: unexpected EOF")},
		},
		{
			"cut inside a frame", cut(stream(`{"stdout":"a"}`+"\n", `{"stdout":"b`)),
			[]result{{Stdout: "a"}, broken("read exec stream: unexpected EOF")},
		},
		{
			"cut after the exit frame", cut(stream(`{"type":"exit"}` + "\n")),
			[]result{broken("read exec stream: unexpected EOF")},
		},
		{
			"not JSON", stream("<html>\n"),
			[]result{broken("read exec stream: malformed frame: invalid character '<' looking for beginning of value")},
		},
		{
			"bad base64", stream(`{"type":"stdout","encoding":"base64","stdout":"!"}` + "\n"),
			[]result{broken("read exec stream: malformed frame: illegal base64 data at input byte 0")},
		},
		{
			"unknown encoding", stream(`{"type":"stdout","encoding":"rot13","stdout":"n"}` + "\n"),
			[]result{broken(`read exec stream: a frame has the unknown encoding "rot13"`)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, tt.handler)
			got := run(t, client, slicer.SlicerExecRequest{Command: "true"}, nil)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Exec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExecTimes(t *testing.T) {
	client := serve(t, stream(`{"timestamp":"2026-03-01T12:00:00Z","stdout":"a"}`))
	results, err := client.Exec(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "true"})
	if err != nil {
		t.Fatal(err)
	}
	want := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for result := range results {
		if !result.Timestamp.Equal(want) {
			t.Errorf("Timestamp = %v, want %v", result.Timestamp, want)
		}
	}
}

func TestExecRefusesAnEndlessLine(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"stdout":"`)
		block := bytes.Repeat([]byte("x"), 1<<20)
		for range 64 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	got := run(t, client, slicer.SlicerExecRequest{Command: "true"}, nil)
	if len(got) != 1 || got[0].Type != "error" || !strings.Contains(got[0].Error, "longer than 16 MiB") {
		t.Errorf("Exec = %v, want one error about a line over 16 MiB", got)
	}
}

func TestExecQuery(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  slicer.SlicerExecRequest
		in   io.Reader
		want url.Values
	}{
		{
			"root",
			slicer.SlicerExecRequest{Command: "id"},
			nil,
			url.Values{"cmd": {"id"}, "uid": {"0"}, "gid": {"0"}, "stdio": {"base64"}, "stdout": {"true"}, "stderr": {"true"}},
		},
		{
			"everything",
			slicer.SlicerExecRequest{
				Command: "a b", Args: []string{"", "--x=1&y", "é\n"}, Env: []string{"A=1", "B="}, UID: slicer.NonRootUser,
				GID: slicer.NonRootUser, Stdout: true, Shell: "/bin/bash", Cwd: "~/x", Permissions: "0700",
			},
			strings.NewReader("input"),
			url.Values{
				"cmd": {"a b"}, "args": {"", "--x=1&y", "é\n"}, "env": {"A=1", "B="}, "stdio": {"base64"}, "stdin": {"true"},
				"stdout": {"true"}, "stderr": {"false"}, "shell": {"/bin/bash"}, "cwd": {"~/x"}, "permissions": {"0700"},
			},
		},
		{
			"an id of its own",
			slicer.SlicerExecRequest{Command: "id", UID: 1001, GID: slicer.NonRootUser, Stdout: true, Stderr: true},
			nil,
			url.Values{"cmd": {"id"}, "uid": {"1001"}, "stdio": {"base64"}, "stdout": {"true"}, "stderr": {"true"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got url.Values
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = r.URL.Query()
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, `{"type":"exit"}`)
			})
			run(t, client, tt.req, tt.in)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
	client := serve(t, stream())
	if _, err := client.Exec(t.Context(), "vm-1", slicer.SlicerExecRequest{}); err == nil {
		t.Error("Exec without a command = nil, want an error")
	}
}

func TestExecRefused(t *testing.T) {
	client := serve(t, answer(http.StatusConflict, "application/json", `{"error":"VM is paused"}`))
	results, err := client.ExecWithReader(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "true"}, strings.NewReader("x"))
	if !slicer.IsAPIStatus(err, http.StatusConflict) || results != nil {
		t.Errorf("ExecWithReader = %v, %v, want no channel and an APIError with the status 409", results, err)
	}
}

func TestExecWithoutBase64ForAnOlderAgent(t *testing.T) {
	for _, tt := range []struct {
		name, refusal string
		wantErr       bool
		wantCalls     int
	}{
		{"no input", "unknown query parameter: stdio", false, 2},
		{"another refusal", "no such user", true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				if r.URL.Query().Has("stdio") {
					answer(http.StatusBadRequest, "application/json", fmt.Sprintf(`{"error":%q}`, tt.refusal))(w, r)
					return
				}
				_, _ = io.WriteString(w, `{"stdout":"a"}`)
			})
			results, err := client.Exec(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "cat"})
			if (err != nil) != tt.wantErr || calls != tt.wantCalls {
				t.Fatalf("Exec = %v after %d calls, want an error %v after %d", err, calls, tt.wantErr, tt.wantCalls)
			}
			if err != nil {
				return
			}
			if got := collect(results); len(got) != 1 || got[0].Stdout != "a" {
				t.Errorf("Exec = %v, want what the second call answers", got)
			}
		})
	}
}

func TestCancelledExecLeavesNothing(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, `{"type":"stdout","stdout":"x"}`+"\n")
			_ = http.NewResponseController(w).Flush()
		}
	}
	silent := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"type":"started"}`+"\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, handler := range map[string]http.HandlerFunc{"that writes": endless, "that is silent": silent} {
		t.Run("walking away from a command "+name, func(t *testing.T) {
			// The bubble fails if a goroutine is left in it.
			synctest.Test(t, func(t *testing.T) {
				client, stop := pipeServe(handler)
				defer stop()
				for range 20 {
					ctx, cancel := context.WithCancel(t.Context())
					if _, err := client.Exec(ctx, "vm-1", slicer.SlicerExecRequest{Command: "yes"}); err != nil {
						t.Fatal(err)
					}
					cancel()
				}
			})
		})
	}
}

func TestReceiverIsToldThatTheContextEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"type":"stdout","stdout":"x"}`+"\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		results, err := client.Exec(ctx, "vm-1", slicer.SlicerExecRequest{Command: "sleep"})
		if err != nil {
			t.Fatal(err)
		}
		want := []slicer.SlicerExecWriteResult{
			{Type: "stdout", Stdout: "x"},
			{Type: "error", ExitCode: -1, Error: context.DeadlineExceeded.Error()},
		}
		if diff := cmp.Diff(want, collect(results)); diff != "" {
			t.Errorf("Exec (-want +got):\n%s", diff)
		}
	})
}

func TestStreamThatStaysOpenAfterExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"type":"exit","exit_code":5}`+"\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		defer stop()
		start := time.Now()
		got := run(t, client, slicer.SlicerExecRequest{Command: "true"}, nil)
		if len(got) != 1 || got[0].ExitCode != 5 || got[0].Type != "exit" {
			t.Errorf("Exec = %v, want an exit with 5", got)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("Exec took %s, want a few seconds", took)
		}
	})
}
