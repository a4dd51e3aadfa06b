package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// errStreamIdle is why a stream ended, as the contexts of its calls say.
var errStreamIdle = errors.New("the stream was idle for too long")

// stream is one client's of sse.
type stream struct {
	guard *guard
	out   *eventWriter
	stop  context.CancelCauseFunc // ends the stream

	// handler gives the guard a message, and what gives back what it takes.
	handler func(message []byte, release func())

	mu   sync.Mutex
	last time.Time // of the last message
}

// serve opens a stream and serves it until it ends, because of the error. The
// contexts of its calls end with it.
func (s *sse) serve(w http.ResponseWriter, r *http.Request) error {
	sess := newSession(rand.Text()) // 128 bits at least
	if err := s.srv.RegisterSession(r.Context(), sess); err != nil {
		refuse(w, http.StatusInternalServerError, "internal error")
		return fmt.Errorf("register the session: %w", err)
	}
	defer s.srv.UnregisterSession(context.WithoutCancel(r.Context()), sess.id)

	out := &eventWriter{wire: newWire(w)}
	// A client that has gone doesn't read: what is going out to it is given up.
	gone := make(chan struct{})
	unwatch := context.AfterFunc(r.Context(), func() {
		defer close(gone)
		out.end()
	})
	defer func() {
		out.end()
		if !unwatch() {
			<-gone
		}
	}()

	ctx, stop := context.WithCancelCause(s.srv.WithContext(r.Context(), sess))
	g := newGuard(s.srv, newWriter(out, sess.notifications, s.log, stop), s.budget, s.log)
	st := &stream{
		guard:   g,
		out:     out,
		stop:    stop,
		handler: func(message []byte, release func()) { g.dispatch(ctx, message, release) },
		last:    time.Now(),
	}
	s.add(sess.id, st)
	err := st.open(messagePath + "?sessionId=" + sess.id)
	if err == nil {
		err = st.watch(ctx, s.idle)
	}
	s.remove(sess.id)
	stop(err)
	if !g.close(stopGrace) {
		s.log.Warn("calls did not end with their stream", "grace", stopGrace)
	}
	return err
}

// open begins the answer: it tells the client where to post.
func (st *stream) open(endpoint string) error {
	st.out.wire.begin(http.StatusOK, typeEvents)
	if err := st.out.endpoint(endpoint); err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	return nil
}

// watch waits for the end of the stream and returns what ended it.
func (st *stream) watch(ctx context.Context, idle time.Duration) error {
	alive := time.NewTicker(commentInterval)
	defer alive.Stop()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-alive.C:
			if err := st.out.keepAlive(); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
		case <-timer.C:
			left := idle - min(time.Since(st.lastMessage()), time.Since(st.guard.rest()))
			if left <= 0 {
				return errStreamIdle
			}
			timer.Reset(left)
		}
	}
}

// deliver takes a message from the client. It calls release when the guard
// holds the message; else what that takes is held until deliver returns, which
// a client that doesn't read its stream may hold up.
func (st *stream) deliver(message []byte, release func()) {
	st.mu.Lock()
	st.last = time.Now()
	st.mu.Unlock()
	st.handler(message, release)
}

func (st *stream) lastMessage() time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.last
}
