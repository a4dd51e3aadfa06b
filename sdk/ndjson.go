package slicer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// maxFrame bounds one line of an exec stream, in bytes.
	maxFrame = 16 << 20

	// A lineReader's buffer is small for a stream of few words and large
	// once more comes at a time than it holds. Only a line that is longer
	// still makes it grow further.
	smallBuffer = 1 << 10
	bulkBuffer  = 128 << 10

	// maxEmptyReads is how often a reader may return nothing in a row.
	maxEmptyReads = 100
)

// lineReader splits a stream into lines, which it hands out in place.
type lineReader struct {
	src        io.Reader
	buf        []byte
	start, end int   // what has been read and not been handed out
	searched   int   // up to here there is no newline
	err        error // of src; comes after what has been read
}

// next returns the next line without its newline. It is valid until the call
// after. At the end of the stream it returns io.EOF; a last line needs no
// newline.
func (r *lineReader) next() ([]byte, error) {
	for {
		if n := bytes.IndexByte(r.buf[r.searched:r.end], '\n'); n >= 0 {
			return r.take(r.searched+n, 1)
		}
		r.searched = r.end
		switch {
		case r.err == nil:
		case errors.Is(r.err, io.EOF) && r.start < r.end:
			return r.take(r.end, 0)
		default:
			return nil, r.err
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// take hands out what is before end and drops as many bytes as skip after it.
func (r *lineReader) take(end, skip int) ([]byte, error) {
	line := r.buf[r.start:end]
	r.start = end + skip
	r.searched = r.start
	if len(line) > maxFrame {
		return nil, errLongFrame
	}
	return line, nil
}

var errLongFrame = fmt.Errorf("a frame is longer than %d MiB", maxFrame>>20)

// fill reads more.
func (r *lineReader) fill() error {
	pending := r.end - r.start
	if pending > maxFrame {
		return errLongFrame
	}
	full := r.end == len(r.buf)
	if r.start > 0 && (pending == 0 || len(r.buf)-r.end < len(r.buf)/4) {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end, r.searched = 0, pending, r.searched-r.start
	}
	switch {
	case len(r.buf) == 0:
		r.grow(smallBuffer)
	case full && len(r.buf) < bulkBuffer:
		r.grow(bulkBuffer)
	case r.end == len(r.buf):
		r.grow(2 * len(r.buf))
	}
	for range maxEmptyReads {
		var n int
		n, r.err = r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 || r.err != nil {
			return nil //nolint:nilerr // next returns r.err after what has been read
		}
	}
	return io.ErrNoProgress
}

// grow makes the buffer size bytes long. One byte more than the longest line is
// enough to know that a line is longer.
func (r *lineReader) grow(size int) {
	buf := make([]byte, min(size, maxFrame+1))
	copy(buf, r.buf[:r.end])
	r.buf = buf
}
