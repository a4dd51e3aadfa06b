package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// dialTimeout bounds the dialling of an address inside a guest.
	dialTimeout = 10 * time.Second

	// forwardChunk is the largest message that is sent.
	forwardChunk = 32 << 10

	// maxForward is the largest message that is taken.
	maxForward = 16 << 20

	// maxUpstream bounds the text of an address.
	maxUpstream = 512
)

// forward serves GET /vm/{vm}/forward: one connection to an address inside the
// guest, as the binary messages of a WebSocket.
func (d *Daemon) forward(w http.ResponseWriter, r *http.Request, _ query, v *vm) error {
	network, address, err := parseUpstream(r.Header)
	if err != nil {
		return err
	}
	inside, err := v.dial(r.Context(), network, address)
	if err != nil {
		if isRefusal(err) {
			return err
		}
		return refuse(http.StatusBadGateway, "dial %s inside VM %q: %v", address, v.hostname, err)
	}
	defer inside.Close()
	ws, err := upgrade(w, r, maxForward)
	if err != nil {
		return err
	}
	relay(r.Context(), v.over, ws, inside)
	return nil
}

// parseUpstream reads which address a forward asks for.
func parseUpstream(h http.Header) (network, address string, err error) {
	if mode := h.Get("X-Inlets-Mode"); mode != "" && mode != "local" {
		return "", "", refuse(http.StatusBadRequest, "X-Inlets-Mode must be local, not %q", mode)
	}
	upstream := h.Get("X-Inlets-Upstream")
	switch {
	case upstream == "":
		return "", "", refuse(http.StatusBadRequest, "the header X-Inlets-Upstream is required: host:port or unix:/path")
	case len(upstream) > maxUpstream:
		return "", "", refuse(http.StatusBadRequest, "X-Inlets-Upstream is longer than %d bytes", maxUpstream)
	}
	if name, ok := strings.CutPrefix(upstream, "unix:"); ok {
		if !strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
			return "", "", refuse(http.StatusBadRequest, "X-Inlets-Upstream: the socket's path must be absolute, not %q", name)
		}
		return "unix", path.Clean(name), nil
	}
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		return "", "", refuse(http.StatusBadRequest, "X-Inlets-Upstream must be host:port or unix:/path, not %q", upstream)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", refuse(http.StatusBadRequest, "X-Inlets-Upstream: the port must be a number from 1 to 65535, not %q", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostname(host) {
		return "", "", refuse(http.StatusBadRequest, "X-Inlets-Upstream: %q is no host", host)
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// isHostname reports whether host has only what names in the DNS have.
func isHostname(host string) bool {
	return strings.IndexFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._", c)
	}) < 0
}

// dial connects to an address inside v's guest.
func (v *vm) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !v.gate.tryEnter() {
		return nil, v.errPaused()
	}
	defer v.gate.leave()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := v.guest.Dial(ctx, network, address)
	if errors.Is(err, ErrEnded) || err != nil && isClosed(v.over) {
		return nil, v.errGone()
	}
	return conn, err
}

// relay carries bytes both ways until one side ends, or ctx does, as it does
// soon after over is closed. It closes the WebSocket. Neither side is read
// faster than the other takes.
func relay(ctx context.Context, over <-chan struct{}, ws *socketConn, inside net.Conn) {
	// The messages' context doesn't end, so that there is time for a close.
	msgs := context.WithoutCancel(ctx)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		inside.Close()
		ws.finish(websocket.StatusGoingAway, "the VM has ended")
	})
	out := make(chan struct{})
	go func() {
		defer close(out)
		if fromGuest(msgs, ws, inside) && !isClosed(over) {
			ws.finish(websocket.StatusNormalClosure, "")
			inside.Close()
		}
	}()
	if toGuest(msgs, ws, inside) {
		// What the guest hasn't read yet must reach it: closing at once could
		// reset the connection.
		_ = inside.SetReadDeadline(time.Now().Add(closeGrace))
		if half, ok := inside.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			<-out
		}
	}
	inside.Close()
	<-out
	_ = ws.CloseNow()
	if !stop() {
		<-stopped
	}
}

// fromGuest sends what the guest writes. It reports whether the guest ended
// the connection; the WebSocket is then still whole.
func fromGuest(ctx context.Context, ws *socketConn, inside net.Conn) bool {
	chunk := make([]byte, forwardChunk)
	for {
		n, err := inside.Read(chunk)
		if n > 0 {
			if ws.Write(ctx, websocket.MessageBinary, chunk[:n]) != nil {
				// Reads on, until its deadline or close, for the sake of what
				// is still on its way to the guest.
				_, _ = io.Copy(io.Discard, inside)
				return false
			}
		}
		if err != nil {
			return true
		}
	}
}

// toGuest writes what the client sends. It reports whether the client ended
// the connection in order.
func toGuest(ctx context.Context, ws *socketConn, inside net.Conn) bool {
	chunk := make([]byte, forwardChunk)
	var into io.Writer = guestWriter{inside}
	for {
		kind, message, err := ws.Reader(ctx)
		if err != nil {
			status := websocket.CloseStatus(err)
			return status == websocket.StatusNormalClosure || status == websocket.StatusGoingAway
		}
		if kind != websocket.MessageBinary {
			ws.finish(websocket.StatusUnsupportedData, "messages must be binary")
			return false
		}
		if _, err := io.CopyBuffer(into, message, chunk); errors.Is(err, errNotTaken) {
			// Reads on: it is what the guest still sends that ends this.
			into = io.Discard
			_, _ = io.Copy(into, message) // the next Reader reports the error
		}
	}
}

var errNotTaken = errors.New("the guest takes nothing any more")

// guestWriter writes to the guest; its errors are told from the client's.
type guestWriter struct{ conn net.Conn }

// Write implements io.Writer.
func (g guestWriter) Write(p []byte) (int, error) {
	n, err := g.conn.Write(p)
	if err != nil {
		err = errNotTaken
	}
	return n, err
}
