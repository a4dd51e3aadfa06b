package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
)

// methodProgress is the notification that belongs to a running request.
const methodProgress = "notifications/progress"

// writer sends messages to the client, each as one line, one at a time. A
// goroutine of its own relays the notifications that handlers send.
type writer struct {
	log  *slog.Logger
	fail func(error) // told the first write's error

	notifications <-chan mcp.JSONRPCNotification
	flushes       chan chan struct{}
	quit          chan struct{} // closed by close
	done          chan struct{} // closed when the relaying goroutine has ended

	// live reports whether a request with this progress token is in flight.
	// It is called with mu held.
	live func(token string) bool

	mu   sync.Mutex // held while a message goes out
	out  io.Writer
	shut bool // a write has gone wrong, or it is all over: nothing more is written
}

func newWriter(out io.Writer, notifications <-chan mcp.JSONRPCNotification, log *slog.Logger, fail context.CancelCauseFunc) *writer {
	return &writer{
		log:           log,
		fail:          fail,
		notifications: notifications,
		flushes:       make(chan chan struct{}),
		quit:          make(chan struct{}),
		done:          make(chan struct{}),
		out:           out,
	}
}

// relay writes notifications until close is called, and then those that are
// still waiting.
func (w *writer) relay() {
	defer close(w.done)
	for {
		select {
		case n := <-w.notifications:
			w.notify(n)
		case flushed := <-w.flushes:
			w.drain()
			close(flushed)
		case <-w.quit:
			w.drain()
			w.mu.Lock()
			w.shut = true
			w.mu.Unlock()
			return
		}
	}
}

// drain writes the notifications that are waiting.
func (w *writer) drain() {
	for {
		select {
		case n := <-w.notifications:
			w.notify(n)
		default:
			return
		}
	}
}

// flush returns once every notification sent before it has been written.
func (w *writer) flush() {
	flushed := make(chan struct{})
	select {
	case w.flushes <- flushed:
		<-flushed
	case <-w.done:
	}
}

// close ends relay and all writing. The caller waits for done.
func (w *writer) close() { close(w.quit) }

// notify writes a notification; progress of a request that is no longer in
// flight is dropped.
func (w *writer) notify(n mcp.JSONRPCNotification) {
	line, err := json.Marshal(n)
	if err != nil {
		w.log.Error("a notification cannot be encoded", "method", n.Method, "err", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.Method == methodProgress && !w.live(tokenKey(n.Params.AdditionalFields["progressToken"])) {
		return
	}
	w.writeLocked(line)
}

// write writes one message. When allowed is not nil it is asked first, under
// the lock that orders all messages.
func (w *writer) write(line []byte, allowed func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if allowed == nil || allowed() {
		w.writeLocked(line)
	}
}

func (w *writer) writeLocked(line []byte) {
	if w.shut {
		return
	}
	if _, err := w.out.Write(append(line, '\n')); err != nil {
		w.shut = true
		w.fail(fmt.Errorf("write to the client: %w", err))
	}
}

// tokenKey makes progress tokens comparable: the text of the JSON value.
func tokenKey(token any) string {
	if token == nil {
		return ""
	}
	key, err := json.Marshal(token)
	if err != nil {
		return ""
	}
	return string(key)
}
