package serve

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// writeLimit is how long a client may take to read writeChunk bytes. It is
	// longer than sseKeepAlive: HTTP/2 would end a stream at its deadline,
	// whether something is being written or not.
	writeLimit = 30 * time.Second
	writeChunk = 256 << 10
)

// errStreamEnded is an eventWriter's error once its stream has ended.
var errStreamEnded = errors.New("the stream has ended")

// eventWriter writes a stream of server-sent events. It may be used by several
// goroutines at once. A client that doesn't read fails a write.
type eventWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	out sync.Mutex // held while an event goes out

	mu    sync.Mutex // guards what follows, and the write deadline
	busy  bool       // an event goes out
	ended bool
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	return &eventWriter{w: w, rc: http.NewResponseController(w)}
}

// Write sends line, which ends with its only newline, as one message.
func (e *eventWriter) Write(line []byte) (int, error) {
	e.out.Lock()
	defer e.out.Unlock()
	if err := e.send([]byte("event: message\ndata: "), line, []byte("\n")); err != nil {
		return 0, err
	}
	return len(line), nil
}

// endpoint tells the client where it posts its messages to.
func (e *eventWriter) endpoint(url string) error {
	e.out.Lock()
	defer e.out.Unlock()
	return e.send(fmt.Appendf(nil, "event: endpoint\ndata: %s\n\n", url))
}

// keepAlive sends a comment, unless an event is going out as it is.
func (e *eventWriter) keepAlive() error {
	if !e.out.TryLock() {
		return nil
	}
	defer e.out.Unlock()
	return e.send([]byte(": keep-alive\n\n"))
}

// send writes parts and flushes. The caller holds out.
func (e *eventWriter) send(parts ...[]byte) error {
	defer e.rest()
	for _, part := range parts {
		for len(part) > 0 {
			chunk := part[:min(len(part), writeChunk)]
			part = part[len(chunk):]
			if err := e.begin(); err != nil {
				return err
			}
			if _, err := e.w.Write(chunk); err != nil {
				return err
			}
		}
	}
	return e.rc.Flush()
}

// begin gives the next write its time.
func (e *eventWriter) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return errStreamEnded
	}
	e.busy = true
	return e.rc.SetWriteDeadline(time.Now().Add(writeLimit))
}

func (e *eventWriter) rest() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = false
}

// end fails the event that is going out, if there is one, and all later ones.
// The http.ResponseWriter is not used any more when it has returned.
func (e *eventWriter) end() {
	e.mu.Lock()
	e.ended = true
	if e.busy {
		// What can't be woken so waits for its deadline.
		_ = e.rc.SetWriteDeadline(time.Unix(1, 0))
	}
	e.mu.Unlock()
	e.out.Lock()
	defer e.out.Unlock()
}
