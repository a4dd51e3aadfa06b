package serve

import (
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// maxNotifications is how many notifications may wait to be written. A
// handler that sends faster loses the newest, as mcp-go reports to it.
const maxNotifications = 256

// session is the one client of a Stdio or of an SSE stream, as the MCP server
// sees it.
type session struct {
	id            string
	notifications chan mcp.JSONRPCNotification
	initialized   atomic.Bool
}

var _ server.ClientSession = (*session)(nil)

func newSession(id string) *session {
	return &session{id: id, notifications: make(chan mcp.JSONRPCNotification, maxNotifications)}
}

// Initialize is called when the client has said hello, in either era.
func (s *session) Initialize() { s.initialized.Store(true) }

// Initialized reports whether Initialize has been called.
func (s *session) Initialized() bool { return s.initialized.Load() }

// SessionID tells the session from the server's others.
func (s *session) SessionID() string { return s.id }

// NotificationChannel takes what the server wants to tell the client.
func (s *session) NotificationChannel() chan<- mcp.JSONRPCNotification { return s.notifications }
