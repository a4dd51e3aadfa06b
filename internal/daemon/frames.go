package daemon

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// maxFrame is the most output that one frame carries.
	maxFrame = 32 << 10

	encodingBase64 = "base64"
)

// frame is one line of a streaming exec answer.
type frame struct {
	Type      string     `json:"type"`
	Timestamp time.Time  `json:"timestamp"`
	PID       int        `json:"pid,omitempty"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Stdout    string     `json:"stdout,omitempty"`
	Stderr    string     `json:"stderr,omitempty"`
	Encoding  string     `json:"encoding,omitempty"`
	ExitCode  *int       `json:"exit_code,omitempty"`
	Signal    string     `json:"signal,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// frameWriter writes the frames of one command. Output that arrives before
// the started frame waits for it.
type frameWriter struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	base64  bool
	leave   context.CancelCauseFunc // called when the client can't be written to
	open    chan struct{}           // closed when output may be written, or never will be
	opened  sync.Once
	streams []*frameStream

	mu   sync.Mutex
	line bytes.Buffer
	enc  *json.Encoder
	err  error // the first error of writing
	done bool  // nothing is written any more
}

func newFrameWriter(w http.ResponseWriter, conn *http.ResponseController, asBase64 bool, leave context.CancelCauseFunc) *frameWriter {
	f := &frameWriter{w: w, conn: conn, base64: asBase64, leave: leave, open: make(chan struct{})}
	f.enc = json.NewEncoder(&f.line)
	f.enc.SetEscapeHTML(false)
	return f
}

// stream returns the writer of the output stream called name.
func (f *frameWriter) stream(name string) *frameStream {
	s := &frameStream{frames: f, name: name}
	f.streams = append(f.streams, s)
	return s
}

// release lets writers go on that wait for the started frame.
func (f *frameWriter) release() { f.opened.Do(func() { close(f.open) }) }

// started writes the first frame.
func (f *frameWriter) started(pid int) {
	now := time.Now().UTC()
	_ = f.write(&frame{Type: "started", Timestamp: now, PID: pid, StartedAt: &now}) // the end reports the error
	f.release()
}

// end writes what the streams hold back, and the exit frame.
func (f *frameWriter) end(status ExitStatus, problem string) error {
	f.release()
	for _, s := range f.streams {
		s.flush()
	}
	now := time.Now().UTC()
	return f.write(&frame{
		Type: "exit", Timestamp: now, EndedAt: &now, ExitCode: &status.Code, Signal: status.Signal, Error: problem,
	})
}

// close ends the answer: nothing is written any more, and nobody waits.
func (f *frameWriter) close() {
	f.release()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
}

var errFramesDone = errors.New("the command's answer has ended")

// write writes one frame as one line and sends it off.
func (f *frameWriter) write(fr *frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return f.err
	case f.done:
		return errFramesDone
	}
	f.line.Reset()
	f.err = f.enc.Encode(fr)
	if f.err == nil {
		_, f.err = f.w.Write(f.line.Bytes())
	}
	if f.err == nil {
		f.err = f.conn.Flush()
	}
	if f.err != nil {
		f.leave(f.err)
	}
	return f.err
}

// frameStream writes one output stream. It is used by one goroutine at a time.
type frameStream struct {
	frames *frameWriter
	name   string
	held   []byte // the begun UTF-8 sequence at the end, when frames are text
}

// Write implements io.Writer.
func (s *frameStream) Write(p []byte) (int, error) {
	<-s.frames.open
	rest := p
	if len(s.held) > 0 {
		rest = slices.Concat(s.held, p)
		s.held = nil
	}
	for len(rest) > 0 {
		n := min(len(rest), maxFrame)
		if !s.frames.base64 {
			whole := n - begunRune(rest[:n])
			if whole == 0 {
				s.held = bytes.Clone(rest[:n])
				break
			}
			n = whole
		}
		if err := s.send(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// flush sends what is held back. The stream's writer has ended.
func (s *frameStream) flush() {
	if len(s.held) > 0 {
		_ = s.send(s.held) // the exit frame reports the error
		s.held = nil
	}
}

func (s *frameStream) send(p []byte) error {
	fr := frame{Type: s.name, Timestamp: time.Now().UTC()}
	text := &fr.Stdout
	if s.name == "stderr" {
		text = &fr.Stderr
	}
	if s.frames.base64 {
		fr.Encoding = encodingBase64
		*text = base64.StdEncoding.EncodeToString(p)
	} else {
		*text = string(p)
	}
	return s.frames.write(&fr)
}

// begunRune is how many bytes at p's end are a UTF-8 sequence that more bytes
// could complete.
func begunRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if utf8.FullRune(tail) {
			return 0
		}
		return n
	}
	return 0
}

// cutBuffer keeps the first maxBuffered bytes and counts the others.
type cutBuffer struct {
	buf     bytes.Buffer
	dropped int64
}

// Write implements io.Writer.
func (b *cutBuffer) Write(p []byte) (int, error) {
	kept := p[:min(len(p), maxBuffered-b.buf.Len())]
	b.buf.Write(kept)
	b.dropped += int64(len(p) - len(kept))
	return len(p), nil
}

func (b *cutBuffer) text(asBase64 bool) string {
	if asBase64 {
		return base64.StdEncoding.EncodeToString(b.buf.Bytes())
	}
	return b.buf.String()
}
