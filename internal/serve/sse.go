package serve

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

const (
	ssePath     = "/sse"
	messagePath = "/message"

	// sseBodyLimit is how long a client may take to send one message.
	sseBodyLimit = time.Minute

	// sseRetry is after how many seconds a client that found no room for
	// another stream may ask again.
	sseRetry = 30
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
	budget    *budget // of the requests in flight
	reading   *budget // of the messages that are being read

	serving sync.WaitGroup // of open

	mu      sync.Mutex
	closed  bool
	open    int                // streams, with those that are ending
	streams map[string]*stream // by session id
}

// newSSE uses Log, Stateless, SessionIdle and MaxSessions of opts.
func newSSE(srv *server.MCPServer, opts HTTPOptions) *sse {
	return &sse{
		srv:       srv,
		log:       cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		stateless: opts.Stateless,
		idle:      cmp.Or(opts.SessionIdle, 30*time.Minute),
		max:       cmp.Or(opts.MaxSessions, 1000),
		budget:    newBudget(),
		reading:   newBudget(),
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
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "a stream is opened with GET", http.StatusMethodNotAllowed)
		return
	}
	if refusal := s.enter(); refusal != "" {
		unavailable(w, sseRetry, refusal)
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
		return errStreamClosing.Error()
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
		st.stop(errStreamClosing)
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
		http.Error(w, "sessionId is missing: post to the URL that the stream's endpoint event says", http.StatusBadRequest)
		return
	}
	st := s.find(id)
	if st == nil {
		http.Error(w, "there is no such stream (any more): open one with GET "+ssePath, http.StatusNotFound)
		return
	}
	size := int(min(r.ContentLength, maxLine+1))
	if size < 0 {
		size = maxLine
	}
	if size > maxLine {
		refuseLong(w)
		return
	}
	if !s.reading.take(size) {
		unavailable(w, 1, "too many messages are being sent: send this one again")
		return
	}
	defer s.reading.give(size)
	// Without it the server's own time limit holds.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(sseBodyLimit))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLine))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		refuseLong(w)
		return
	case err != nil:
		http.Error(w, "the message did not come whole", http.StatusBadRequest)
		return
	}
	st.deliver(bytes.TrimSpace(body))
	w.WriteHeader(http.StatusAccepted)
}

// close takes no more streams and requests, lets the calls in flight be
// answered until ctx is done, which then is its error, and ends every stream.
// It returns when all have ended, a few seconds after ctx at most.
func (s *sse) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()

	var ending sync.WaitGroup
	for _, st := range streams {
		ending.Go(func() {
			st.guard.finishCalls(ctx, nil, st.stop)
			st.stop(errStreamClosing)
		})
	}
	ending.Wait()
	err := ctx.Err()
	s.serving.Wait()
	return err
}

// refuseStateless answers a request that needs a session when there are none.
func (s *sse) refuseStateless(w http.ResponseWriter) bool {
	if s.stateless {
		http.Error(w, "this server keeps no sessions, which legacy SSE needs: use streamable HTTP at /mcp", http.StatusNotFound)
	}
	return s.stateless
}

func refuseLong(w http.ResponseWriter) {
	http.Error(w, fmt.Sprintf("the message is longer than %d bytes", maxLine), http.StatusRequestEntityTooLarge)
}

// unavailable asks a client to come again after so many seconds.
func unavailable(w http.ResponseWriter, seconds int, text string) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	http.Error(w, text, http.StatusServiceUnavailable)
}
