package serve

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// sessions are those of the older era. Nothing that matters hangs on one: it
// says which requests one may cancel, and where the server's own notifications
// go.
type sessions struct {
	max  int
	idle time.Duration

	mu     sync.Mutex // guards what follows and the fields of every httpSession
	closed bool
	byID   map[string]*httpSession
}

// httpSession is one client's.
type httpSession struct {
	all   *sessions
	id    string
	level logLevel

	ended  bool
	using  int         // requests in flight and streams
	since  time.Time   // when using became 0
	expiry *time.Timer // runs while using is 0
	calls  map[string]*call
	stream context.CancelCauseFunc // ends the stream of notifications; nil is none
	opened int                     // streams so far
}

func newSessions(maxSessions int, idle time.Duration) *sessions {
	return &sessions{max: maxSessions, idle: idle, byID: make(map[string]*httpSession)}
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// open makes a session, in use until done is called. When there are too many
// it ends the one that has been idle longest. It returns nil if none is idle.
func (s *sessions) open() *httpSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if len(s.byID) >= s.max {
		var oldest *httpSession
		for _, c := range s.byID {
			if c.using == 0 && (oldest == nil || c.since.Before(oldest.since)) {
				oldest = c
			}
		}
		if oldest == nil {
			return nil
		}
		oldest.endLocked()
	}
	c := &httpSession{all: s, id: rand.Text(), using: 1, calls: make(map[string]*call)}
	c.expiry = time.AfterFunc(s.idle, c.expire)
	c.expiry.Stop()
	s.byID[c.id] = c
	return c
}

// use finds the session that a request names, in use until done is called. If
// there is none it gives the status and the line to refuse the request with.
func (s *sessions) use(header http.Header) (c *httpSession, status int, line string) {
	ids := header.Values(headerSession)
	if len(ids) != 1 || ids[0] == "" {
		return nil, http.StatusBadRequest, "the header Mcp-Session-Id is missing: send initialize first, and then the id that came with its answer"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c = s.byID[ids[0]]
	if c == nil {
		return nil, http.StatusNotFound, "there is no such session, or no longer: send initialize to begin a new one"
	}
	c.using++
	c.expiry.Stop()
	return c, 0, ""
}

// done ends a use.
func (c *httpSession) done() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.using--
	if c.using == 0 && !c.ended {
		c.since = time.Now()
		c.expiry.Reset(c.all.idle)
	}
}

// expire ends the session unless it has been used since the timer was set.
func (c *httpSession) expire() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.using == 0 && time.Since(c.since) >= c.all.idle {
		c.endLocked()
	}
}

// end ends the session and its stream. Its requests in flight are answered.
func (c *httpSession) end() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.endLocked()
}

func (c *httpSession) endLocked() {
	c.ended = true
	c.expiry.Stop()
	if c.stream != nil {
		c.stream(errSessionEnded)
	}
	delete(c.all.byID, c.id)
}

// close ends all sessions; there will be no more.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.byID {
		c.endLocked()
	}
}

// add enters a request. It reports false if one with its id is in flight.
func (c *httpSession) add(r *call) bool {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.calls[r.key] != nil {
		return false
	}
	c.calls[r.key] = r
	return true
}

// remove takes a request out. It reports whether it was still in there: one
// that was cancelled is not, and gets no answer.
func (c *httpSession) remove(r *call) bool {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.calls[r.key] != r {
		return false
	}
	delete(c.calls, r.key)
	return true
}

// cancel cancels the session's request with this id, if there is one.
func (c *httpSession) cancel(id json.RawMessage) {
	key, ok := idKey(id)
	if !ok {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	r := c.calls[key]
	if r == nil || r.method == methodInitialize {
		return
	}
	delete(c.calls, key)
	r.cancel(tools.ErrCancelled)
}

// listen makes ctx that of the session's stream, in place of an older one.
func (c *httpSession) listen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.stream != nil {
		c.stream(errReplaced)
	}
	if c.ended {
		cancel(errSessionEnded)
	}
	c.opened++
	n := c.opened
	c.stream = cancel
	return ctx, func() {
		cancel(nil)
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		if c.opened == n {
			c.stream = nil
		}
	}
}

// logLevel is from which level on a client wants the log. Until it says so it
// gets "info" and worse.
type logLevel struct{ set atomic.Value }

// channel is where the handlers of one request, or the broadcasts to one
// stream, send what they have to tell the client.
type channel struct {
	id            string
	notifications chan mcp.JSONRPCNotification
	level         *logLevel
}

var _ server.SessionWithLogging = (*channel)(nil)

func newChannel(level *logLevel) *channel {
	return &channel{
		id:            rand.Text(),
		notifications: make(chan mcp.JSONRPCNotification, maxNotifications),
		level:         level,
	}
}

// Initialize has nothing to do: a channel is made for a client that is ready.
func (*channel) Initialize() {}

// Initialized is always true.
func (*channel) Initialized() bool { return true }

// SessionID is the channel's own, so that mcp-go never takes one request for
// another with the same id.
func (c *channel) SessionID() string { return c.id }

// NotificationChannel takes what the server wants to tell the client.
func (c *channel) NotificationChannel() chan<- mcp.JSONRPCNotification { return c.notifications }

// SetLogLevel holds for the whole session.
func (c *channel) SetLogLevel(level mcp.LoggingLevel) { c.level.set.Store(level) }

// GetLogLevel is what SetLogLevel was last called with in the session.
func (c *channel) GetLogLevel() mcp.LoggingLevel {
	if level, ok := c.level.set.Load().(mcp.LoggingLevel); ok {
		return level
	}
	return mcp.LoggingLevelInfo
}
