package serve

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

const (
	ssePath     = "/sse"
	messagePath = "/message"

	// sseRetry is after how many seconds a client that found no room for
	// another stream may ask again.
	sseRetry = "30"
)

// sse serves the HTTP+SSE transport of 2024-11-05: a client opens a stream,
// learns from it where to post its messages, and reads the answers there.
//
// Every stream is a session of its own with a guard of its own, so that nobody
// can cancel a request of somebody else's.
type sse struct {
	srv       *server.MCPServer
	log       *slog.Logger
	stateless bool
	idle      time.Duration
	max       int
	budget    *budget

	serving sync.WaitGroup // of open

	mu      sync.Mutex
	closed  bool
	open    int                // streams, with those that are ending
	streams map[string]*stream // by session id
}

// newSSE uses Log, Stateless, SessionIdle and MaxSessions of opts, which are
// set.
func newSSE(srv *server.MCPServer, opts HTTPOptions, b *budget) *sse {
	return &sse{
		srv:       srv,
		log:       opts.Log,
		stateless: opts.Stateless,
		idle:      opts.SessionIdle,
		max:       opts.MaxSessions,
		budget:    b,
		streams:   make(map[string]*stream),
	}
}

// count is how many streams there are.
func (s *sse) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// stream answers GET /sse: it returns when the stream has ended.
func (s *sse) stream(w http.ResponseWriter, r *http.Request) {
	if s.refuseStateless(w) {
		return
	}
	if refusal := s.enter(); refusal != "" {
		w.Header().Set("Retry-After", sseRetry)
		refuse(w, http.StatusServiceUnavailable, refusal)
		return
	}
	defer s.leave()
	if err := s.serve(w, r); err != nil {
		s.log.Debug("an SSE stream ended", "err", err)
	}
}

// enter counts a stream, or says why there can't be another.
func (s *sse) enter() (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosing.Error()
	case s.open >= s.max:
		return "there are too many streams: close one, or try again later"
	}
	s.open++
	s.serving.Add(1)
	return ""
}

func (s *sse) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.serving.Done()
}

// add makes a stream known to message and close.
func (s *sse) add(id string, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		st.stop(errClosing)
		return
	}
	s.streams[id] = st
}

func (s *sse) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, id)
}

func (s *sse) find(id string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// message answers POST /message: it takes one message of a stream's client,
// whose answer goes out on the stream.
func (s *sse) message(w http.ResponseWriter, r *http.Request) {
	if s.refuseStateless(w) {
		return
	}
	id := r.URL.Query().Get("sessionId")
	if id == "" {
		refuse(w, http.StatusBadRequest, "sessionId is missing: post to the URL that the stream's endpoint event says")
		return
	}
	st := s.find(id)
	if st == nil {
		refuse(w, http.StatusNotFound, "there is no such stream, or no longer: open one with GET "+ssePath)
		return
	}
	body, err := bodyOf(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "the message did not arrive whole")
		return
	}
	release := func() {}
	if b, ok := r.Body.(*heldBody); ok {
		release = b.release
	}
	st.deliver(bytes.TrimSpace(body), release)
	w.WriteHeader(http.StatusAccepted)
}

// close takes no more streams and requests, lets the calls in flight be
// answered until ctx is done, and ends every stream. It returns when all have
// ended, a few seconds after ctx at most.
func (s *sse) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()

	var ending sync.WaitGroup
	for _, st := range streams {
		ending.Go(func() {
			st.guard.finishCalls(ctx, nil, st.stop)
			st.stop(errClosing)
		})
	}
	ending.Wait()
	s.serving.Wait()
}

// refuseStateless answers a request that needs a session when there are none.
func (s *sse) refuseStateless(w http.ResponseWriter) bool {
	if s.stateless {
		refuse(w, http.StatusNotFound, "this server keeps no sessions, which legacy SSE needs: use streamable HTTP at /mcp")
	}
	return s.stateless
}
