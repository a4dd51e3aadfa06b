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

// The types of frames.
const (
	frameStarted = "started"
	frameStdout  = "stdout"
	frameStderr  = "stderr"
	frameExit    = "exit"
	frameGap     = "gap"
)

// frame is one line of a streaming exec answer. The logs of a background exec
// number theirs and also have gaps.
type frame struct {
	Type          string     `json:"type"`
	ID            uint64     `json:"id,omitempty"`
	Timestamp     time.Time  `json:"timestamp"`
	PID           int        `json:"pid,omitempty"`
	StartedAt     *time.Time `json:"started_at,omitempty"`
	EndedAt       *time.Time `json:"ended_at,omitempty"`
	Stdout        string     `json:"stdout,omitempty"`
	Stderr        string     `json:"stderr,omitempty"`
	Encoding      string     `json:"encoding,omitempty"`
	ExitCode      *int       `json:"exit_code,omitempty"`
	Signal        string     `json:"signal,omitempty"`
	Error         string     `json:"error,omitempty"`
	DroppedBytes  int64      `json:"dropped_bytes,omitempty"`
	DroppedFrames uint64     `json:"dropped_frames,omitempty"`
	Message       string     `json:"message,omitempty"`
}

// carry makes f a frame of the output stream called stream, with p.
func (f *frame) carry(stream string, p []byte, asBase64 bool) {
	f.Type = stream
	text := &f.Stdout
	if stream == frameStderr {
		text = &f.Stderr
	}
	if asBase64 {
		f.Encoding = encodingBase64
		*text = base64.StdEncoding.EncodeToString(p)
		return
	}
	*text = string(p)
}

// startedFrame is the first frame of a command.
func startedFrame(pid int, at time.Time) *frame {
	return &frame{Type: frameStarted, Timestamp: at, PID: pid, StartedAt: &at}
}

// exitFrame is the last frame of a command.
func exitFrame(status ExitStatus, problem string, at time.Time) *frame {
	return &frame{
		Type: frameExit, Timestamp: at, EndedAt: &at, ExitCode: &status.Code, Signal: status.Signal, Error: problem,
	}
}

// frameWriter writes the frames of one command. Output that arrives before
// the started frame waits for it.
type frameWriter struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	base64  bool
	legacy  bool                    // frames are untyped
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

func newFrameWriter(w http.ResponseWriter, conn *http.ResponseController, leave context.CancelCauseFunc) *frameWriter {
	f := &frameWriter{w: w, conn: conn, leave: leave, open: make(chan struct{})}
	f.enc = json.NewEncoder(&f.line)
	f.enc.SetEscapeHTML(false)
	return f
}

// stream returns the writer of the output stream called name.
func (f *frameWriter) stream(name string) *frameStream {
	s := &frameStream{frames: f, name: name, cut: splitter{raw: f.base64, max: maxFrame}}
	f.streams = append(f.streams, s)
	return s
}

// release lets writers go on that wait for the started frame.
func (f *frameWriter) release() { f.opened.Do(func() { close(f.open) }) }

// started writes the first frame.
func (f *frameWriter) started(pid int) {
	_ = f.write(startedFrame(pid, time.Now().UTC())) // the end reports the error
	f.release()
}

// end writes what the streams hold back, and the exit frame.
func (f *frameWriter) end(status ExitStatus, problem string) error {
	f.release()
	for _, s := range f.streams {
		s.flush()
	}
	return f.write(exitFrame(status, problem, time.Now().UTC()))
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
	var line any = fr
	if f.legacy {
		if fr.Type == frameStarted {
			return nil
		}
		line = fr.untyped()
	}
	f.line.Reset()
	f.err = f.enc.Encode(line)
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
	cut    splitter
}

// Write implements io.Writer.
func (s *frameStream) Write(p []byte) (int, error) {
	<-s.frames.open
	if err := s.cut.write(p, s.send); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush sends what is held back. The stream's writer has ended.
func (s *frameStream) flush() {
	_ = s.cut.flush(s.send) // the exit frame reports the error
}

func (s *frameStream) send(p []byte) error {
	fr := frame{Timestamp: time.Now().UTC()}
	fr.carry(s.name, p, s.frames.base64)
	return s.frames.write(&fr)
}

// splitter cuts an output stream into payloads of at most max bytes, which is
// at least utf8.UTFMax, and, unless raw, never inside a character.
type splitter struct {
	raw  bool
	max  int
	held []byte // the begun UTF-8 sequence at the end
}

// write hands p on in payloads; send must not keep them.
func (s *splitter) write(p []byte, send func([]byte) error) error {
	if len(s.held) > 0 {
		p = slices.Concat(s.held, p)
		s.held = nil
	}
	for len(p) > 0 {
		n := min(len(p), s.max)
		if !s.raw {
			whole := n - begunRune(p[:n])
			if whole == 0 {
				s.held = bytes.Clone(p[:n])
				break
			}
			n = whole
		}
		if err := send(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// flush hands on what is held back.
func (s *splitter) flush(send func([]byte) error) error {
	held := s.held
	s.held = nil
	if len(held) == 0 {
		return nil
	}
	return send(held)
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
