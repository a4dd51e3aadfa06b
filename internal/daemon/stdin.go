package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxStdin is how much of a body is read ahead of the command.
	maxStdin = 256 << 10

	// drainIdle and drainLimit bound how long the rest of a body is read after
	// its command has ended: so long that a client which is still sending gets
	// the whole answer, so short that a client which sends nothing waits for
	// nothing.
	drainIdle  = 20 * time.Millisecond
	drainLimit = time.Second
)

// stdin carries a call's body to a command. It reads ahead, so that a client
// that goes away is noticed also when the command doesn't read. Close makes a
// blocked Read return; it is safe beside Read.
type stdin struct {
	body  io.Reader
	conn  *http.ResponseController
	leave context.CancelCauseFunc
	done  chan struct{} // closed when nothing reads the body any more

	mu      sync.Mutex
	changed *sync.Cond
	ahead   []byte
	err     error // what follows ahead; nil while there may be more
	closed  bool
	until   time.Time // when reading off the rest ends; set with closed
}

// newStdin begins to read body. leave is called when the client is gone.
// finish must be called in the end.
func newStdin(body io.Reader, conn *http.ResponseController, leave context.CancelCauseFunc) *stdin {
	s := &stdin{body: body, conn: conn, leave: leave, done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	go s.fill()
	return s
}

// Read implements io.Reader.
func (s *stdin) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ahead) == 0 && s.err == nil && !s.closed {
		s.changed.Wait()
	}
	switch {
	case s.closed:
		return 0, io.EOF
	case len(s.ahead) == 0:
		return 0, s.err
	}
	n := copy(p, s.ahead)
	s.ahead = s.ahead[n:]
	s.changed.Broadcast()
	return n, nil
}

// Close ends the input for whoever reads it.
func (s *stdin) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.ahead = nil
		s.until = time.Now().Add(drainLimit)
	}
	s.changed.Broadcast()
	return nil
}

// fill reads the body until its end.
func (s *stdin) fill() {
	defer close(s.done)
	chunk := make([]byte, 32<<10)
	for {
		n, err := s.body.Read(chunk)
		if !s.put(chunk[:n], err) {
			return
		}
	}
}

// put adds p, waiting while too much lies ahead. It reports whether to go on.
func (s *stdin) put(p []byte, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ahead)+len(p) > maxStdin && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		now := time.Now()
		return err == nil && now.Before(s.until) && s.conn.SetReadDeadline(now.Add(drainIdle)) == nil
	}
	s.ahead = append(s.ahead, p...)
	s.err = err
	s.changed.Broadcast()
	if err != nil && !errors.Is(err, io.EOF) {
		s.leave(fmt.Errorf("the client went away: %w", err))
	}
	return err == nil
}

// finish ends the input and reads off what the client still sends. It returns
// when nothing reads the body any more.
func (s *stdin) finish() {
	_ = s.Close() // never fails
	select {
	case <-s.done:
		return // a deadline would end the connection, see callBody
	default:
	}
	// Connections without deadlines end with their client.
	_ = s.conn.SetReadDeadline(time.Now().Add(drainIdle))
	<-s.done
}
