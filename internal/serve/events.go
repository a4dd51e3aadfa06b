package serve

import (
	"bytes"
	"fmt"
	"sync"
)

// eventWriter writes the stream of one client of sse. It may be used by several
// goroutines at once. A client that doesn't read fails a write.
type eventWriter struct {
	out  sync.Mutex // held while an event goes out
	wire *wire
}

// Write sends line, which ends with its only newline, as one message.
func (e *eventWriter) Write(line []byte) (int, error) {
	e.out.Lock()
	defer e.out.Unlock()
	if err := e.wire.event(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
		return 0, err
	}
	return len(line), nil
}

// endpoint tells the client where it posts its messages to.
func (e *eventWriter) endpoint(url string) error {
	e.out.Lock()
	defer e.out.Unlock()
	if err := e.wire.write(fmt.Appendf(nil, "event: endpoint\ndata: %s\n\n", url)); err != nil {
		return err
	}
	return e.wire.flush()
}

// keepAlive sends a comment, unless an event is going out as it is.
func (e *eventWriter) keepAlive() error {
	if !e.out.TryLock() {
		return nil
	}
	defer e.out.Unlock()
	return e.wire.comment()
}

// end fails the event that is going out, if there is one, and all later ones.
// The http.ResponseWriter is not used any more when it has returned.
func (e *eventWriter) end() {
	e.wire.cut()
	e.out.Lock()
	defer e.out.Unlock()
}
