package slicer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// sendEvents returns a handler that answers with text as a stream of events, and
// then does what then does.
func sendEvents(text string, then func(r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		if then != nil {
			then(r)
		}
	}
}

// untilGone waits for the client to leave.
func untilGone(r *http.Request) { <-r.Context().Done() }

// watchAll watches /tmp, with both forms of the call, which must agree, and
// returns the types of the events and the error at the end.
func watchAll(t *testing.T, client *slicer.SlicerClient, request slicer.SlicerFSWatchRequest) ([]string, error) {
	t.Helper()
	request.Paths = []string{"/tmp"}
	var fromSeq []string
	var seqErr error
	for event, err := range client.WatchFSSeq(t.Context(), "vm-1", request) {
		if seqErr = err; err == nil {
			fromSeq = append(fromSeq, event.Type)
		}
	}
	var fromChannel []string
	events, err := client.WatchFS(t.Context(), "vm-1", request)
	if err == nil {
		for event := range events {
			if err = event.Err; err == nil {
				fromChannel = append(fromChannel, event.Type)
			}
		}
	}
	if diff := cmp.Diff(fromSeq, fromChannel); diff != "" || fmt.Sprint(err) != fmt.Sprint(seqErr) {
		t.Errorf("WatchFSSeq and WatchFS differ: %v, %v\n%s", seqErr, err, diff)
	}
	return fromSeq, seqErr
}

func TestWatchRequest(t *testing.T) {
	var query url.Values
	var header http.Header
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		query, header = r.URL.Query(), r.Header
		sendEvents("id: 7\nevent: watch\ndata: {\"type\":\"write\",\"path\":\"/a\",\"timestamp\":\"2026-01-02T12:00:00Z\",\"size\":3,\"isDir\":true,\"message\":\"m\"}\n\n", nil)(w, r)
	})
	events, err := client.WatchFS(t.Context(), "vm-1", slicer.SlicerFSWatchRequest{
		Paths: []string{"/a", "/b"}, Patterns: []string{"*.go", "x"}, Events: []string{"write", "create"},
		Recursive: true, OneShot: true, Debounce: 50 * time.Millisecond, Timeout: time.Minute, MaxEvents: 3, UID: 1000, LastEventID: 6,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []slicer.SlicerFSWatchEvent
	for event := range events {
		got = append(got, event)
	}
	want := []slicer.SlicerFSWatchEvent{{ID: 7, Type: "write", Path: "/a", Timestamp: noon, Size: 3, IsDir: true, Message: "m"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
	wantQuery := url.Values{
		"paths": {"/a", "/b"}, "patterns": {"*.go", "x"}, "events": {"write", "create"}, "recursive": {"true"},
		"one_shot": {"true"}, "debounce": {"50ms"}, "timeout": {"1m0s"}, "max_events": {"3"}, "uid": {"1000"},
	}
	if diff := cmp.Diff(wantQuery, query); diff != "" {
		t.Errorf("query differs (-want +got):\n%s", diff)
	}
	if header.Get("Last-Event-ID") != "6" || header.Get("Accept") != "text/event-stream" {
		t.Errorf("header = %v, want Last-Event-ID 6 and Accept text/event-stream", header)
	}

	_, err = watchAll(t, client, slicer.SlicerFSWatchRequest{OneShot: true, UID: slicer.NonRootUser})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(url.Values{"paths": {"/tmp"}, "one_shot": {"true"}}, query); diff != "" {
		t.Errorf("query of a small request differs (-want +got):\n%s", diff)
	}
}

func TestWatchEnds(t *testing.T) {
	const one = "data: {\"type\":\"create\"}\n\n"
	const two = "data: {\"type\":\"write\",\"timestamp\":1767355200}\n\n"
	for _, tt := range []struct {
		name    string
		serve   http.HandlerFunc
		request slicer.SlicerFSWatchRequest
		want    []string
		err     string // "" is none
	}{
		{"one shot", sendEvents(one, nil), slicer.SlicerFSWatchRequest{OneShot: true}, []string{"create"}, ""},
		{"one shot without its event", sendEvents(":\n\n", nil), slicer.SlicerFSWatchRequest{OneShot: true}, nil, "unexpected EOF"},
		{"max events", sendEvents(one+two, nil), slicer.SlicerFSWatchRequest{MaxEvents: 2}, []string{"create", "write"}, ""},
		{"fewer than max events", sendEvents(one, nil), slicer.SlicerFSWatchRequest{MaxEvents: 2}, []string{"create"}, "unexpected EOF"},
		{"an end without a reason", sendEvents(one, nil), slicer.SlicerFSWatchRequest{}, []string{"create"}, "unexpected EOF"},
		{"an end before the timeout", sendEvents(one, nil), slicer.SlicerFSWatchRequest{Timeout: time.Hour}, []string{"create"}, "unexpected EOF"},
		{"half an event", sendEvents(one+"data: {", nil), slicer.SlicerFSWatchRequest{OneShot: true}, []string{"create"}, "unexpected EOF"},
		{"a cut stream", sendEvents(one, func(*http.Request) { panic(http.ErrAbortHandler) }), slicer.SlicerFSWatchRequest{}, []string{"create"}, "unexpected EOF"},
		{"other events", sendEvents("event: hello\ndata: x\n\n"+one, nil), slicer.SlicerFSWatchRequest{OneShot: true}, []string{"create"}, ""},
		{"an error of the daemon's", sendEvents("event: error\ndata: too many\ndata: watches\n\n", nil), slicer.SlicerFSWatchRequest{}, nil, "the daemon says: too many watches"},
		{"malformed JSON", sendEvents("data: {\n\n", nil), slicer.SlicerFSWatchRequest{}, nil, "malformed event"},
		{"a malformed time", sendEvents("data: {\"type\":\"write\",\"timestamp\":\"noon\"}\n\n", nil), slicer.SlicerFSWatchRequest{}, nil, "malformed event"},
		{"no type", sendEvents("data: {}\n\n", nil), slicer.SlicerFSWatchRequest{}, nil, "it has no type"},
		{"a huge event", sendEvents("data: "+strings.Repeat("x", 2<<20)+"\n\n", nil), slicer.SlicerFSWatchRequest{}, nil, "longer than 1 MiB"},
		{"no stream", answer(http.StatusOK, "application/json", "[]"), slicer.SlicerFSWatchRequest{}, nil, "not a stream of events"},
		{"a refusal", answer(http.StatusConflict, "application/json", `{"error":"VM is paused"}`), slicer.SlicerFSWatchRequest{}, nil, "VM is paused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := watchAll(t, serve(t, tt.serve), tt.request)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events differ (-want +got):\n%s", diff)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("err = %v, want %q", err, tt.err)
			}
		})
	}
}

func TestWatchOfNothing(t *testing.T) {
	client, vm, _ := vmWithFiles(t)
	_, err := client.WatchFS(t.Context(), vm, slicer.SlicerFSWatchRequest{Paths: []string{"/none"}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WatchFS of a missing folder = %v, want fs.ErrNotExist", err)
	}
}

func TestWatchTimes(t *testing.T) {
	// beat sends a comment every 15 seconds for a while.
	beat := func(lasts time.Duration, then func(*http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			sendEvents("", nil)(w, r)
			for range lasts / (15 * time.Second) {
				select {
				case <-time.After(15 * time.Second):
				case <-r.Context().Done():
					return
				}
				_, _ = io.WriteString(w, ":\n\n")
				_ = http.NewResponseController(w).Flush()
			}
			if then != nil {
				then(r)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		serve   http.HandlerFunc
		request slicer.SlicerFSWatchRequest
		after   time.Duration
		err     string
	}{
		{"the end of the timeout", beat(10*time.Minute, nil), slicer.SlicerFSWatchRequest{Timeout: 10 * time.Minute}, 10 * time.Minute, ""},
		{"an end before the timeout", beat(9*time.Minute, nil), slicer.SlicerFSWatchRequest{Timeout: 10 * time.Minute}, 9 * time.Minute, "unexpected EOF"},
		{"a daemon that falls silent", beat(time.Hour, untilGone), slicer.SlicerFSWatchRequest{}, time.Hour + time.Minute, "nothing came from the daemon for 1m"},
		{
			"a daemon that doesn't answer", func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				untilGone(r)
			},
			slicer.SlicerFSWatchRequest{},
			time.Minute, "nothing came from the daemon for 1m",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, stop := pipeServe(tt.serve)
				defer stop()
				start := time.Now()
				_, err := watchAll(t, client, tt.request)
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("err = %v, want %q", err, tt.err)
				}
				if took := time.Since(start) / 2; took != tt.after { // watchAll watches twice
					t.Errorf("it took %s, want %s", took, tt.after)
				}
			})
		})
	}
}

func TestWatchContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(sendEvents("data: {\"type\":\"write\"}\n\n", untilGone))
		defer stop()
		request := slicer.SlicerFSWatchRequest{Paths: []string{"/"}}

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		var last error
		for _, err := range client.WatchFSSeq(ctx, "vm-1", request) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("WatchFSSeq ended with %v after %s, want a deadline after 10s", last, time.Since(start))
		}

		ctx, cancel = context.WithCancel(t.Context())
		events, err := client.WatchFS(ctx, "vm-1", request)
		if err != nil {
			t.Fatal(err)
		}
		<-events
		synctest.Wait()
		go cancel()
		if event := <-events; !errors.Is(event.Err, context.Canceled) {
			t.Errorf("the last event has the error %v, want context.Canceled", event.Err)
		}
		if event, open := <-events; open {
			t.Errorf("after the last event came %v, want a closed channel", event)
		}
	})
}

// TestAbandonedWatches leaves no goroutine behind: the bubble doesn't end with
// one in it.
func TestAbandonedWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(sendEvents(strings.Repeat("data: {\"type\":\"write\"}\n\n", 100), untilGone))
		before := runtime.NumGoroutine()
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			events, err := client.WatchFS(ctx, "vm-1", slicer.SlicerFSWatchRequest{Paths: []string{"/"}})
			if err != nil {
				t.Fatal(err)
			}
			<-events
			cancel() // and nobody receives any more

			for _, err := range client.WatchFSSeq(t.Context(), "vm-1", slicer.SlicerFSWatchRequest{Paths: []string{"/"}}) {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		stop()
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines are left of 200 watches, want none", after-before)
		}
	})
}
