package slicer

import (
	"errors"
	"io"
	"os"
	"sync"
)

// pipeBuffer is how many bytes a bufferedPipe holds, as an operating system's
// pipe does.
const pipeBuffer = 64 << 10

// bufferedPipe is a pipe in memory. A Write waits while it is full, a Read while
// it is empty. Each end is used by one goroutine at a time and may be closed by
// any.
type bufferedPipe struct {
	mu      sync.Mutex
	changed sync.Cond
	ring    []byte // made by the first Write
	start   int    // of what is buffered
	length  int    // of what is buffered

	readErr  error // what Read returns once the buffer is empty; set when the write end is closed
	writeErr error // what Write returns; set when an end is closed
	readDone bool  // the read end is closed
}

func newBufferedPipe() *bufferedPipe {
	p := new(bufferedPipe)
	p.changed.L = &p.mu
	return p
}

// Read implements io.Reader.
func (p *bufferedPipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readDone:
			return 0, os.ErrClosed
		case len(b) == 0:
			return 0, nil
		case p.length > 0:
			n := 0
			for n < len(b) && p.length > 0 {
				part := copy(b[n:], p.ring[p.start:min(p.start+p.length, len(p.ring))])
				n += part
				p.start = (p.start + part) % len(p.ring)
				p.length -= part
			}
			p.changed.Broadcast()
			return n, nil
		case p.readErr != nil:
			return 0, p.readErr
		}
		p.changed.Wait()
	}
}

// Write implements io.Writer.
func (p *bufferedPipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ring == nil && len(b) > 0 && p.writeErr == nil {
		p.ring = make([]byte, pipeBuffer)
	}
	n := 0
	for {
		switch {
		case p.writeErr != nil:
			return n, p.writeErr
		case n == len(b):
			return n, nil
		case p.length < len(p.ring):
			end := (p.start + p.length) % len(p.ring)
			limit := len(p.ring)
			if end < p.start {
				limit = p.start
			}
			part := copy(p.ring[end:limit], b[n:])
			n += part
			p.length += part
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
}

// closeRead closes the read end: what is buffered is dropped, and Write returns
// err from now on.
func (p *bufferedPipe) closeRead(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDone, p.length = true, 0
	if p.writeErr == nil {
		p.writeErr = err
	}
	p.changed.Broadcast()
}

// closeWrite closes the write end: Read returns what is buffered and io.EOF after
// it, Write returns err from now on.
func (p *bufferedPipe) closeWrite(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readErr = io.EOF
	if p.writeErr == nil {
		p.writeErr = err
	}
	p.changed.Broadcast()
}

// pipeReader is the read end that a caller gets.
type pipeReader struct{ pipe *bufferedPipe }

// Read implements io.Reader.
func (r pipeReader) Read(b []byte) (int, error) { return r.pipe.Read(b) }

// Close implements io.Closer.
func (r pipeReader) Close() error {
	r.pipe.closeRead(errReaderGone)
	return nil
}

// pipeWriter is the write end that a caller gets.
type pipeWriter struct{ pipe *bufferedPipe }

// Write implements io.Writer.
func (w pipeWriter) Write(b []byte) (int, error) { return w.pipe.Write(b) }

// Close implements io.Closer.
func (w pipeWriter) Close() error {
	w.pipe.closeWrite(os.ErrClosed)
	return nil
}

// errReaderGone is what writing to a pipe returns whose reader has been closed.
var errReaderGone = errors.New("the reader of the pipe is closed")
