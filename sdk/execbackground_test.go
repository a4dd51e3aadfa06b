package slicer_test

import (
	"context"
	"errors"
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
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestBackgroundLife(t *testing.T) {
	goOn := make(chan struct{})
	client, vm := newVM(t, map[string]slicertest.Program{"build": func(ctx context.Context, p *slicertest.Proc) int {
		fmt.Fprint(p.Stdout, "compiling\xff\n")
		select {
		case <-goOn:
		case <-ctx.Done():
			return 1
		}
		fmt.Fprint(p.Stderr, "failed\n")
		return 2
	}})
	ctx := t.Context()
	started, err := client.ExecBackground(ctx, vm, slicer.SlicerExecRequest{Command: "build", Args: []string{"all"}}, slicer.ExecBackgroundOptions{RingBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(started.ExecID, "ex_") || started.PID <= 0 || started.StartedAt.IsZero() || started.RingBytes != 64<<10 {
		t.Errorf("ExecBackground = %+v", started)
	}
	id := started.ExecID
	waited, err := client.ExecWaitExit(ctx, vm, id, time.Millisecond)
	if err != nil || !waited.TimedOut || !waited.Running || waited.ExitCode != nil {
		t.Errorf("ExecWaitExit = %+v, %v, want a time-out", waited, err)
	}
	info, err := client.ExecInfo(ctx, vm, id)
	if err != nil || !info.Running || info.ExitCode != nil || info.Command != "build" || !cmp.Equal(info.Args, []string{"all"}) {
		t.Errorf("ExecInfo = %+v, %v, want a running build", info, err)
	}

	// Follow, hang up, resume, to the end.
	var last uint64
	for piece, err := range client.ExecLogsSeq(ctx, vm, id, slicer.ExecLogsOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		last = piece.ID
		if piece.Stdout != "" {
			if piece.Stdout != "compiling\xff\n" || piece.Type != "stdout" {
				t.Errorf("log = %+v, want the bytes that were written", piece)
			}
			break
		}
	}
	close(goOn)
	rest, err := client.ExecLogs(ctx, vm, id, slicer.ExecLogsOptions{Follow: true, FromID: last + 1})
	if err != nil {
		t.Fatal(err)
	}
	pieces := collect(rest)
	if len(pieces) != 2 || pieces[0].Stderr != "failed\n" || pieces[1].Type != "exit" || pieces[1].ExitCode != 2 {
		t.Errorf("resumed log = %+v, want what failed and an exit with 2", pieces)
	}
	for _, piece := range pieces {
		if piece.ID <= last {
			t.Errorf("the id %d comes after %d", piece.ID, last)
		}
		last = piece.ID
	}
	// There is nothing after the end, and that is no error.
	for piece, err := range client.ExecLogsSeq(ctx, vm, id, slicer.ExecLogsOptions{Follow: true, FromID: last + 1}) {
		t.Errorf("after the end: %+v, %v", piece, err)
	}

	waited, err = client.ExecWaitExit(ctx, vm, id, 0)
	if err != nil || waited.Running || waited.TimedOut || waited.ExitCode == nil || *waited.ExitCode != 2 || waited.EndedAt == nil {
		t.Errorf("ExecWaitExit = %+v, %v, want an exit with 2", waited, err)
	}
	killed, err := client.ExecKill(ctx, vm, id, slicer.ExecBackgroundKillRequest{})
	if err != nil || killed.Running {
		t.Errorf("ExecKill of one that has ended = %+v, %v, want nothing", killed, err)
	}
	list, err := client.ExecList(ctx, vm)
	if err != nil || len(list) != 1 || list[0].ExecID != id || list[0].ExitCode == nil {
		t.Errorf("ExecList = %+v, %v, want the one that has ended", list, err)
	}
	deleted, err := client.ExecDelete(ctx, vm, id)
	if err != nil || !deleted.Reaped || deleted.ExecID != id {
		t.Errorf("ExecDelete = %+v, %v", deleted, err)
	}
	if _, err := client.ExecInfo(ctx, vm, id); !slicer.IsAPIStatus(err, http.StatusGone) {
		t.Errorf("ExecInfo after ExecDelete = %v, want an APIError with the status 410", err)
	}
	if _, err := client.ExecLogs(ctx, vm, id, slicer.ExecLogsOptions{}); !slicer.IsAPIStatus(err, http.StatusGone) {
		t.Errorf("ExecLogs after ExecDelete = %v, want an APIError with the status 410", err)
	}
}

func TestBackgroundKill(t *testing.T) {
	client, vm := newVM(t, nil)
	started, err := client.ExecBackground(t.Context(), vm, slicer.SlicerExecRequest{Command: "sleep", Args: []string{"1000"}}, slicer.ExecBackgroundOptions{})
	if err != nil {
		t.Fatal(err)
	}
	killed, err := client.ExecKill(t.Context(), vm, started.ExecID, slicer.ExecBackgroundKillRequest{Signal: "KILL"})
	if err != nil || killed.SignalSent != "KILL" {
		t.Errorf("ExecKill = %+v, %v", killed, err)
	}
	waited, err := client.ExecWaitExit(t.Context(), vm, started.ExecID, time.Minute)
	if err != nil || waited.Running || waited.Signal != "KILL" {
		t.Errorf("ExecWaitExit = %+v, %v, want the signal KILL", waited, err)
	}
}

func TestBackgroundRefusals(t *testing.T) {
	ctx := t.Context()
	none := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request is made") })
	req := slicer.SlicerExecRequest{Command: "true"}
	for name, call := range map[string]func() error{
		"no command": func() error {
			_, err := none.ExecBackground(ctx, "vm", slicer.SlicerExecRequest{}, slicer.ExecBackgroundOptions{})
			return err
		},
		"input": func() error {
			_, err := none.ExecBackground(ctx, "vm", slicer.SlicerExecRequest{Command: "cat", Stdin: true}, slicer.ExecBackgroundOptions{})
			return err
		},
		"buffered input": func() error {
			_, err := none.ExecBuffered(ctx, "vm", slicer.SlicerExecRequest{Command: "cat", Stdin: true})
			return err
		},
		"a negative ring": func() error {
			_, err := none.ExecBackground(ctx, "vm", req, slicer.ExecBackgroundOptions{RingBytes: -1})
			return err
		},
		"a negative timeout": func() error { _, err := none.ExecWaitExit(ctx, "vm", "ex_1", -time.Second); return err },
		"an id that climbs":  func() error { _, err := none.ExecInfo(ctx, "vm", ".."); return err },
		"an empty id":        func() error { _, err := none.ExecDelete(ctx, "vm", ""); return err },
		"no log of no id": func() error {
			_, err := none.ExecLogs(ctx, "vm", "", slicer.ExecLogsOptions{})
			return err
		},
	} {
		if err := call(); err == nil {
			t.Errorf("%s = nil, want an error", name)
		}
	}
	for _, err := range none.ExecLogsSeq(ctx, "vm", "..", slicer.ExecLogsOptions{}) {
		if err == nil {
			t.Error("the log of an id that climbs has a piece")
		}
	}

	gone := serve(t, answer(http.StatusGone, "application/json", `{"error":"reaped"}`))
	for name, call := range map[string]func() error{
		"ExecList": func() error { _, err := gone.ExecList(ctx, "vm"); return err },
		"ExecKill": func() error {
			_, err := gone.ExecKill(ctx, "vm", "ex_1", slicer.ExecBackgroundKillRequest{})
			return err
		},
		"ExecWaitExit": func() error { _, err := gone.ExecWaitExit(ctx, "vm", "ex_1", 0); return err },
		"ExecDelete":   func() error { _, err := gone.ExecDelete(ctx, "vm", "ex_1"); return err },
		"ExecBuffered": func() error { _, err := gone.ExecBuffered(ctx, "vm", req); return err },
		"ExecBackground": func() error {
			_, err := gone.ExecBackground(ctx, "vm", req, slicer.ExecBackgroundOptions{})
			return err
		},
		"ExecLogsSeq": func() error {
			for _, err := range gone.ExecLogsSeq(ctx, "vm", "ex_1", slicer.ExecLogsOptions{}) {
				return err
			}
			return nil
		},
	} {
		if err := call(); !slicer.IsAPIStatus(err, http.StatusGone) {
			t.Errorf("%s = %v, want an APIError with the status 410", name, err)
		}
	}
}

func TestDaemonWithoutBackground(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"that runs it in the foreground": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			stream(`{"stdout":"x","exit_code":0}`+"\n")(w, r)
			<-r.Context().Done()
		},
		"that answers something else": answer(http.StatusOK, "application/json", `{"stdout":"x"}`),
		"that answers a page":         answer(http.StatusOK, "text/html", `<html>`),
	} {
		t.Run(name, func(t *testing.T) {
			started, err := serve(t, handler).ExecBackground(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "sleep"}, slicer.ExecBackgroundOptions{})
			if err == nil {
				t.Errorf("ExecBackground = %+v, want an error", started)
			}
		})
	}
}

func TestExecLogsStreams(t *testing.T) {
	type result = slicer.SlicerExecWriteResult
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		opts    slicer.ExecLogsOptions
		query   url.Values
		want    []result
		wantErr string
	}{
		{
			"what is kept", stream(`{"type":"stdout","id":4,"stdout":"a"}` + "\n"),
			slicer.ExecLogsOptions{},
			url.Values{},
			[]result{{Type: "stdout", ID: 4, Stdout: "a"}},
			"",
		},
		{
			"a gap first",
			stream(`{"type":"gap","id":9,"dropped_bytes":70,"dropped_frames":3,"message":"evicted"}`+"\n", `{"type":"exit","id":10,"exit_code":1}`),
			slicer.ExecLogsOptions{Follow: true, FromID: 5},
			url.Values{"follow": {"true"}, "from_id": {"5"}},
			[]result{
				{Type: "gap", ID: 9, DroppedBytes: 70, DroppedFrames: 3, Message: "evicted"},
				{Type: "exit", ID: 10, ExitCode: 1, Error: "exit status 1"},
			},
			"",
		},
		{
			"nothing to follow", stream(),
			slicer.ExecLogsOptions{Follow: true, FromID: 99},
			url.Values{"follow": {"true"}, "from_id": {"99"}},
			nil, "",
		},
		{
			"one to follow that ends without an exit", stream(`{"type":"started","id":1,"pid":7}` + "\n"),
			slicer.ExecLogsOptions{Follow: true},
			url.Values{"follow": {"true"}},
			[]result{{Type: "started", ID: 1, PID: 7}},
			"read exec stream: the stream ended before the command did: unexpected EOF",
		},
		{
			"cut", cut(stream(`{"type":"stderr","id":1,"stderr":"x"}` + "\n")),
			slicer.ExecLogsOptions{},
			url.Values{},
			[]result{{Type: "stderr", ID: 1, Stderr: "x"}},
			"read exec stream: unexpected EOF",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var query url.Values
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.Query()
				tt.handler(w, r)
			})
			var got []result
			var failure string
			for piece, err := range client.ExecLogsSeq(t.Context(), "vm-1", "ex_1", tt.opts) {
				if err != nil {
					failure = err.Error()
					continue
				}
				got = append(got, piece)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || failure != tt.wantErr {
				t.Errorf("ExecLogsSeq ended with %q, want %q (-want +got):\n%s", failure, tt.wantErr, diff)
			}
			if diff := cmp.Diff(tt.query, query); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
			results, err := client.ExecLogs(t.Context(), "vm-1", "ex_1", tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if tt.wantErr != "" {
				want = append(want, result{Type: "error", ExitCode: -1, Error: tt.wantErr})
			}
			if diff := cmp.Diff(want, collect(results)); diff != "" {
				t.Errorf("ExecLogs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogsOfASilentDaemonEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
			stream(`{"type":"stdout","id":1,"stdout":"a"}`+"\n")(w, r)
			<-r.Context().Done()
		})
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var last error
		for _, err := range client.ExecLogsSeq(ctx, "vm-1", "ex_1", slicer.ExecLogsOptions{Follow: true}) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("ExecLogsSeq ended with %v, want %v", last, context.DeadlineExceeded)
		}
	})
}

func TestLongWaitTakesSeveralCalls(t *testing.T) {
	var asked []string
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("timeout"))
		answer(http.StatusOK, "application/json", fmt.Sprintf(`{"exec_id":"ex_1","running":true,"timed_out":%v}`, len(asked) < 3))(w, r)
	})
	waited, err := client.ExecWaitExit(t.Context(), "vm-1", "ex_1", 25*time.Minute)
	if err != nil || waited.TimedOut {
		t.Errorf("ExecWaitExit = %+v, %v", waited, err)
	}
	if diff := cmp.Diff([]string{"600", "600", "300"}, asked); diff != "" {
		t.Errorf("timeouts (-want +got):\n%s", diff)
	}
	asked = asked[:0]
	if waited, err = client.ExecWaitExit(t.Context(), "vm-1", "ex_1", 1500*time.Millisecond); err != nil || !waited.TimedOut {
		t.Errorf("ExecWaitExit = %+v, %v, want a time-out", waited, err)
	}
	if diff := cmp.Diff([]string{"2"}, asked); diff != "" {
		t.Errorf("timeouts (-want +got):\n%s", diff)
	}
}

func TestExecBuffered(t *testing.T) {
	type result = slicer.SlicerExecResult
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    *result
		wantErr string
	}{
		{
			"an older agent", answer(http.StatusOK, "application/json", `{"stdout":"a","stderr":"b","exit_code":3}`),
			&result{Stdout: "a", Stderr: "b", ExitCode: 3, Error: "exit status 3"}, "",
		},
		{
			"a newer agent", answer(http.StatusOK, "application/json",
				`{"stdout":"AP8=","stderr":"","encoding":"base64","exit_code":0,"pid":7,"started_at":"2026-03-01T12:00:00Z","ended_at":"2026-03-01T12:00:00Z"}`),
			&result{Stdout: "\x00\xff", PID: 7, StartedAt: at, EndedAt: at}, "",
		},
		{
			"a signal", answer(http.StatusOK, "application/json", `{"exit_code":137,"signal":"KILL","error":"signal: KILL"}`),
			&result{ExitCode: 137, Signal: "KILL", Error: "signal: KILL"}, "",
		},
		{
			"not started", answer(http.StatusOK, "application/json", `{"exit_code":127,"error":"no such program"}`),
			&result{ExitCode: 127, Error: "no such program", NotStarted: true}, "",
		},
		{"bad base64", answer(http.StatusOK, "application/json", `{"stdout":"!","encoding":"base64"}`), nil, "illegal base64"},
		{"a page", answer(http.StatusOK, "text/html", `<html>`), nil, "HTML page"},
		{"malformed", answer(http.StatusOK, "application/json", `{`), nil, "unexpected end of JSON"},
		{"cut", cut(stream(`{"stdout":`)), nil, "unexpected EOF"},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(endless{}, 65<<20))
		}, nil, "longer than 64 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := serve(t, tt.handler).ExecBuffered(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "x"})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ExecBuffered (-want +got):\n%s", diff)
			}
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("ExecBuffered = %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestExecBufferedInAVM(t *testing.T) {
	client, vm := newVM(t, map[string]slicertest.Program{"both": both})
	got, err := client.ExecBuffered(t.Context(), vm, slicer.SlicerExecRequest{Command: "both"})
	if err != nil || got.Stdout != "out\n" || got.Stderr != "err\n" || got.ExitCode != 3 || got.NotStarted || got.PID <= 0 {
		t.Errorf("ExecBuffered = %+v, %v", got, err)
	}
	got, err = client.ExecBuffered(t.Context(), vm, slicer.SlicerExecRequest{Command: "nothing"})
	if err != nil || !got.NotStarted || got.ExitCode != 127 {
		t.Errorf("ExecBuffered of what isn't there = %+v, %v", got, err)
	}
}

func TestBufferedWithoutBase64ForAnOlderAgent(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("stdio") {
			answer(http.StatusBadRequest, "text/plain", "unknown parameter stdio")(w, r)
			return
		}
		answer(http.StatusOK, "application/json", `{"stdout":"a"}`)(w, r)
	})
	if got, err := client.ExecBuffered(t.Context(), "vm-1", slicer.SlicerExecRequest{Command: "x"}); err != nil || got.Stdout != "a" {
		t.Errorf("ExecBuffered = %+v, %v", got, err)
	}
}
