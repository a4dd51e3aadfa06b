package daemon

import (
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// closeGrace is how long the client of a WebSocket has to take what is left
// and to answer the close.
const closeGrace = time.Second

// socket wraps a route of the guest's agent that becomes a WebSocket: the VM
// must be there and running, and r's context ends with it.
func (d *Daemon) socket(serve func(w http.ResponseWriter, r *http.Request, q query, v *vm) error) handler {
	return func(w http.ResponseWriter, r *http.Request, q query) error {
		v, err := d.vms.find(r.PathValue("vm"))
		if err != nil {
			return err
		}
		if err := v.ready(); err != nil {
			return err
		}
		if err := d.checkUpgrade(r); err != nil {
			return err
		}
		ctx, release := bind(r.Context(), v.over, v.errGone(), nil)
		defer release()
		return serve(w, r.WithContext(ctx), q, v)
	}
}

// checkUpgrade refuses a request that is no WebSocket handshake, and those
// of web pages of other sites, before anything is done for it.
func (d *Daemon) checkUpgrade(r *http.Request) error {
	if r.Method != http.MethodGet || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		return refuse(http.StatusUpgradeRequired, "this path is a WebSocket: ask for an upgrade")
	}
	asPost := *r // a GET of another site would be let in
	asPost.Method = http.MethodPost
	if err := d.crossSite.Check(&asPost); err != nil {
		return refuse(http.StatusForbidden, "a web page of another site may not call this API")
	}
	return nil
}

func hasToken(header http.Header, name, token string) bool {
	for _, line := range header.Values(name) {
		for word := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(word), token) {
				return true
			}
		}
	}
	return false
}

// socketConn is the daemon's side of a WebSocket.
type socketConn struct {
	*websocket.Conn
	conn *http.ResponseController
}

// upgrade answers r as a WebSocket that takes messages of at most limit bytes.
func upgrade(w http.ResponseWriter, r *http.Request, limit int64) (*socketConn, error) {
	h := &handshake{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, nil)
	if err != nil {
		if h.refused != 0 {
			return nil, refuse(h.refused, "%s", strings.TrimSpace(h.text.String()))
		}
		return nil, err
	}
	ws.SetReadLimit(limit)
	return &socketConn{ws, http.NewResponseController(w)}, nil
}

// finish closes the connection in order, within closeGrace.
func (s *socketConn) finish(code websocket.StatusCode, reason string) {
	s.hurry()
	_ = s.Close(code, reason) // a client that isn't there any more can't be told
}

// hurry bounds everything that still goes over the connection.
func (s *socketConn) hurry() {
	// Connections without deadlines end with their client.
	at := time.Now().Add(closeGrace)
	_ = s.conn.SetReadDeadline(at)
	_ = s.conn.SetWriteDeadline(at)
}

// handshake takes down what websocket.Accept says when it refuses.
type handshake struct {
	http.ResponseWriter
	refused int
	text    strings.Builder
}

// WriteHeader implements http.ResponseWriter.
func (h *handshake) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		h.refused = status
		return
	}
	h.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (h *handshake) Write(p []byte) (int, error) {
	if h.refused != 0 {
		return h.text.Write(p)
	}
	return h.ResponseWriter.Write(p)
}

// Unwrap lets websocket.Accept reach the connection.
func (h *handshake) Unwrap() http.ResponseWriter { return h.ResponseWriter }
