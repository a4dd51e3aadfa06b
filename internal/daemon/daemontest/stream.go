package daemontest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The fields of the frames of an exec, by type.
var frameFields = map[string]fields{
	"started": {"type": "text", "timestamp": "time", "pid": "number", "started_at": "time"},
	"stdout":  {"type": "text", "timestamp": "time", "stdout": "text", "encoding?": "text"},
	"stderr":  {"type": "text", "timestamp": "time", "stderr": "text", "encoding?": "text"},
	"exit":    {"type": "text", "timestamp": "time", "ended_at": "time", "exit_code": "number", "signal?": "text", "error?": "text"},
}

// Of the logs of a background exec, frames have an id, and there are gaps.
var logFields = func() map[string]fields {
	all := map[string]fields{"gap": {
		"type": "text", "id": "number", "timestamp": "time", "dropped_bytes": "number", "dropped_frames": "number", "message": "text",
	}}
	for kind, f := range frameFields {
		all[kind] = f.with(fields{"id": "number"})
	}
	return all
}()

// stream is an answer of frames that is being read.
type stream struct {
	t      testing.TB
	call   string
	shapes map[string]fields
	resp   *http.Response
	lines  *bufio.Reader
	stdin  *io.PipeWriter
	cancel context.CancelFunc
	rest   map[string]string // output that was read and not yet wanted
	exit   map[string]any    // the exit frame, once it was read
}

// stream starts a command whose output is read as it comes. With stdin=true
// in the query it has an input.
func (a *api) stream(vm string, argv []string, query ...string) *stream {
	a.t.Helper()
	return a.frames("POST", vm+"/exec"+execQuery(argv, query...), frameFields)
}

// frames makes a call that is answered with frames.
func (a *api) frames(method, path string, shapes map[string]fields) *stream {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	a.t.Cleanup(cancel)
	s := &stream{t: a.t, call: method + " " + path, shapes: shapes, cancel: cancel, rest: make(map[string]string)}
	body := io.Reader(http.NoBody)
	if strings.Contains(path, "stdin=true") {
		var in *io.PipeReader
		in, s.stdin = io.Pipe()
		body = in
	}
	s.resp = a.open(a.request(ctx, method, path, body)) //nolint:bodyclose // open has it closed with the test
	if s.resp.StatusCode != http.StatusOK || s.resp.Header.Get("Content-Type") != typeNDJSON {
		a.t.Fatalf("%s = %d of type %q, want 200 and %s", s.call, s.resp.StatusCode, s.resp.Header.Get("Content-Type"), typeNDJSON)
	}
	s.lines = bufio.NewReaderSize(s.resp.Body, 1<<20)
	return s
}

// close goes away, whatever is still to come.
func (s *stream) close() {
	if s.stdin != nil {
		s.stdin.Close()
	}
	s.cancel()
	s.resp.Body.Close()
}

// write sends input.
func (s *stream) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, text); err != nil {
		s.t.Fatalf("%s: write %q: %v", s.call, text, err)
	}
}

// next reads one frame: one line of JSON with the fields of its type. It is
// nil at the end of the answer.
func (s *stream) next() map[string]any {
	s.t.Helper()
	line, err := s.lines.ReadBytes('\n')
	if err == io.EOF && len(line) == 0 { //nolint:errorlint // as bufio says it
		return nil
	}
	if err != nil {
		s.t.Fatalf("%s: the answer ends with %q: %v", s.call, line, err)
	}
	var kind string
	for name := range s.shapes {
		if bytes.Contains(line, []byte(`"type":"`+name+`"`)) {
			kind = name
		}
	}
	if s.shapes[kind] == nil {
		s.t.Fatalf("%s: a frame of an unknown type: %s", s.call, line)
	}
	f := object(s.t, s.call, line, s.shapes[kind])
	if kind == "exit" {
		s.exit = f
	}
	return f
}

// payload is what an output frame carries.
func payload(t testing.TB, f map[string]any) (kind, text string) {
	t.Helper()
	kind, _ = f["type"].(string)
	text, _ = f[kind].(string)
	if f["encoding"] == "base64" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Errorf("frame %v is no base64: %v", f, err)
		}
		return kind, string(raw)
	}
	return kind, text
}

// want reads until the standard output has brought text.
func (s *stream) want(text string) {
	s.t.Helper()
	for {
		got := s.rest["stdout"]
		if rest, ok := strings.CutPrefix(got, text); ok {
			s.rest["stdout"] = rest
			return
		}
		if !strings.HasPrefix(text, got) {
			s.t.Fatalf("%s: stdout is %q, want %q", s.call, got, text)
		}
		f := s.next()
		if f == nil || s.exit != nil {
			s.t.Fatalf("%s: ended (%v) with %q, want %q", s.call, s.exit, got, text)
		}
		if of, part := payload(s.t, f); of == "stdout" || of == "stderr" {
			s.rest[of] += part
		}
	}
}

// all reads to the end and returns the output of each stream and the exit
// frame, after which nothing may come.
func (s *stream) all() (stdout, stderr string, exit map[string]any) {
	s.t.Helper()
	for f := s.next(); f != nil; f = s.next() {
		kind, part := payload(s.t, f)
		switch {
		case s.exit != nil && kind != "exit":
			s.t.Errorf("%s: %v comes after the exit frame", s.call, f)
		case kind == "stdout" || kind == "stderr":
			s.rest[kind] += part
		}
	}
	if s.exit == nil {
		s.t.Fatalf("%s: the answer has no exit frame", s.call)
	}
	return s.rest["stdout"], s.rest["stderr"], s.exit
}
