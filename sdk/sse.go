package slicer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxSSE bounds one event of a stream, and one line of it, in bytes.
const maxSSE = 1 << 20

// errSSETooLong is why an event of a stream isn't read to its end.
var errSSETooLong = fmt.Errorf("an event is longer than %d MiB", maxSSE>>20)

// sseEvent is one event of a stream of server-sent events.
type sseEvent struct {
	id   string // the last id that was given, by this event or one before
	name string // "" is an ordinary message
	data []byte // the data lines, joined by newlines; valid until the next event
}

// sseReader reads server-sent events as the HTML standard describes them.
type sseReader struct {
	r      *bufio.Reader
	line   []byte
	skipLF bool // the line before ended with a CR
	begun  bool // a line has been read

	event sseEvent
	dirty bool // the event has lines
}

func newSSEReader(r io.Reader) *sseReader {
	return &sseReader{r: bufio.NewReader(r)}
}

// next returns the next event that has data. The error is io.EOF when the stream
// ends between two events, and io.ErrUnexpectedEOF when it ends inside one.
func (s *sseReader) next() (sseEvent, error) {
	s.reset()
	for {
		line, err := s.readLine()
		if errors.Is(err, io.EOF) {
			if s.dirty || len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return sseEvent{}, err
		}
		if err != nil {
			return sseEvent{}, err
		}
		if len(line) > 0 {
			if err := s.field(line); err != nil {
				return sseEvent{}, err
			}
			continue
		}
		if len(s.event.data) > 0 {
			s.event.data = s.event.data[:len(s.event.data)-1] // the last newline
			return s.event, nil
		}
		s.reset()
	}
}

func (s *sseReader) reset() {
	s.event.name, s.event.data, s.dirty = "", s.event.data[:0], false
}

// field takes one line of an event.
func (s *sseReader) field(line []byte) error {
	if line[0] == ':' {
		return nil // a comment, which keeps the connection alive
	}
	s.dirty = true
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(s.event.data)+len(value) >= maxSSE {
			return errSSETooLong
		}
		s.event.data = append(append(s.event.data, value...), '\n')
	case "event":
		s.event.name = string(value)
	case "id":
		if id := string(value); !strings.ContainsRune(id, 0) {
			s.event.id = id
		}
	}
	return nil
}

// readLine reads a line, which ends with LF, CR or both, and returns it without
// that. What stands before the end of the stream is returned beside io.EOF.
func (s *sseReader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		if _, err := s.r.Peek(1); err != nil {
			return s.line, err
		}
		buf, _ := s.r.Peek(s.r.Buffered()) // what is buffered is there to be had
		if s.skipLF && buf[0] == '\n' {
			s.skipLF = false
			s.discard(1)
			continue
		}
		s.skipLF = false
		end := bytes.IndexAny(buf, "\r\n")
		piece := buf
		if end >= 0 {
			piece = buf[:end]
		}
		if len(s.line)+len(piece) > maxSSE {
			return nil, errSSETooLong
		}
		s.line = append(s.line, piece...)
		if end < 0 {
			s.discard(len(piece))
			continue
		}
		s.skipLF = buf[end] == '\r'
		s.discard(end + 1)
		line := s.line
		if !s.begun {
			s.begun = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		return line, nil
	}
}

// discard drops n bytes that are buffered.
func (s *sseReader) discard(n int) {
	_, _ = s.r.Discard(n) // can't fail
}
