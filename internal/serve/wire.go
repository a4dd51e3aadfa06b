package serve

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// wireTime is how long a client may take to read wireChunk bytes.
	wireTime  = 30 * time.Second
	wireChunk = 64 << 10

	// commentInterval is how often a stream without anything to say sends a
	// comment, so that what lies between doesn't take it for dead.
	commentInterval = 15 * time.Second
)

// errCut is the error of what is written to a wire after its end.
var errCut = errors.New("the stream has ended")

// wire writes to a client that may not be reading. One goroutine at a time
// writes; cut may be called by any.
type wire struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu      sync.Mutex // guards what follows, and the write deadline
	writing bool
	isCut   bool
}

func newWire(w http.ResponseWriter) *wire {
	return &wire{w: w, rc: http.NewResponseController(w)}
}

// begin sends the status line of a stream of events.
func (c *wire) begin(status int, contentType string) {
	header := c.w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Accel-Buffering", "no") // a proxy passes on each event as it comes
	c.w.WriteHeader(status)
}

// event sends a message, one line of JSON.
func (c *wire) event(line []byte) error {
	for _, part := range [][]byte{[]byte("event: message\ndata: "), line, []byte("\n\n")} {
		if err := c.write(part); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *wire) comment() error {
	if err := c.write([]byte(": keep-alive\n\n")); err != nil {
		return err
	}
	return c.flush()
}

// write gives each chunk its time.
func (c *wire) write(data []byte) error {
	for len(data) > 0 {
		chunk := data[:min(len(data), wireChunk)]
		data = data[len(chunk):]
		err := c.inTime(func() error {
			_, err := c.w.Write(chunk)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *wire) flush() error { return c.inTime(c.rc.Flush) }

// inTime sets a deadline for do and takes it away again: HTTP/2 ends a stream
// at its deadline whether something is written or not.
func (c *wire) inTime(do func() error) error {
	c.mu.Lock()
	if c.isCut {
		c.mu.Unlock()
		return errCut
	}
	c.writing = true
	// A writer without deadlines is a test's.
	_ = c.rc.SetWriteDeadline(time.Now().Add(wireTime))
	c.mu.Unlock()

	err := do()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if !c.isCut {
		_ = c.rc.SetWriteDeadline(time.Time{})
	}
	return err
}

// cut fails the write that is going on, and all later ones.
func (c *wire) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	if c.writing {
		_ = c.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}
