package slicer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestServerSentEvents(t *testing.T) {
	type event = slicer.SSEEvent
	for _, tt := range []struct {
		name   string
		stream string
		want   []event
		err    error
	}{
		{"nothing", "", nil, nil},
		{"one", "id: 1\nevent: watch\ndata: {}\n\n", []event{{"1", "watch", "{}"}}, nil},
		{"no spaces", "id:1\nevent:watch\ndata:{}\n\n", []event{{"1", "watch", "{}"}}, nil},
		{"one space is dropped", "data:  x \n\n", []event{{"", "", " x "}}, nil},
		{"CR LF", "data: a\r\n\r\ndata: b\r\n\r\n", []event{{"", "", "a"}, {"", "", "b"}}, nil},
		{"CR LF inside an event", "data: a\r\ndata: b\r\n\r\n", []event{{"", "", "a\nb"}}, nil},
		{"CR", "data: a\r\rdata: b\r\r", []event{{"", "", "a"}, {"", "", "b"}}, nil},
		{"several lines", "data: a\ndata:\ndata: b\n\n", []event{{"", "", "a\n\nb"}}, nil},
		{"empty data", "data\n\n", []event{{"", "", ""}}, nil},
		{"comments", ":\n\n: hello\n\ndata: a\n: inside\n\n:\n\n", []event{{"", "", "a"}}, nil},
		{"byte order mark", "\uFEFFdata: a\n\n", []event{{"", "", "a"}}, nil},
		{"an event without data", "event: x\nid: 4\n\ndata: a\n\n", []event{{"4", "", "a"}}, nil},
		{"the id stays", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []event{{"1", "", "a"}, {"1", "", "b"}, {"", "", "c"}}, nil},
		{"an id with NUL", "id: 1\n\nid: 2\x00\ndata: a\n\n", []event{{"1", "", "a"}}, nil},
		{"other fields", "retry: 10\nfoo: bar\n: x\nbaz\ndata: a\n\n", []event{{"", "", "a"}}, nil},
		{"colons in data", "data: a: b:c\n\n", []event{{"", "", "a: b:c"}}, nil},
		{"cut between lines", "data: a\n\ndata: b\n", []event{{"", "", "a"}}, io.ErrUnexpectedEOF},
		{"cut in a line", "data: a\n\nda", []event{{"", "", "a"}}, io.ErrUnexpectedEOF},
		{"cut in a comment", "data: a\n\n:", []event{{"", "", "a"}}, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.stream)),
			} {
				got, err := slicer.ReadSSE(r)
				if !errors.Is(err, tt.err) {
					t.Errorf("%s: err = %v, want %v", how, err, tt.err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: events differ (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}

func TestServerSentEventsAreBounded(t *testing.T) {
	for name, stream := range map[string]io.Reader{
		"an endless line":    endlessText("data: x"),
		"an endless comment": endlessText(": x"),
		"an endless event":   endlessText("data: " + strings.Repeat("x", 1000) + "\n"),
	} {
		if _, err := slicer.ReadSSE(stream); err == nil || !strings.Contains(err.Error(), "longer than 1 MiB") {
			t.Errorf("%s: err = %v, want that it is longer than 1 MiB", name, err)
		}
	}
}

// endlessText repeats text for ever; only what has newlines has several lines.
type endlessText string

func (e endlessText) Read(p []byte) (int, error) {
	n := 0
	for n+len(e) <= len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("id: 1\nevent: watch\ndata: {\"path\":\"/x\"}\n\n:\n\n"))
	f.Add([]byte("data: a\r\n\r\ndata\r\rdata: b\n\n"))
	f.Add([]byte("\uFEFF\uFEFFdata:a\ndata:b\n\n"))
	f.Add([]byte("id\x00: 1\nid: \x00\ndata: a"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, wholeErr := slicer.ReadSSE(bytes.NewReader(stream))
		slow, slowErr := slicer.ReadSSE(iotest.OneByteReader(bytes.NewReader(stream)))
		if diff := cmp.Diff(whole, slow); diff != "" || fmt.Sprint(wholeErr) != fmt.Sprint(slowErr) {
			t.Fatalf("the pieces in which a stream comes matter: %v, %v\n%s", wholeErr, slowErr, diff)
		}
		// Written again, the events read the same.
		var again bytes.Buffer
		for _, event := range whole {
			if strings.ContainsAny(event.Data+event.Name+event.ID, "\r") {
				t.Fatalf("the event %+q has a carriage return", event)
			}
			fmt.Fprintf(&again, "id: %s\nevent: %s\n", event.ID, event.Name)
			for line := range strings.SplitSeq(event.Data, "\n") {
				fmt.Fprintf(&again, "data: %s\n", line)
			}
			again.WriteString("\n")
		}
		second, err := slicer.ReadSSE(&again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole, second); diff != "" {
			t.Errorf("written again the events differ (-want +got):\n%s", diff)
		}
	})
}
