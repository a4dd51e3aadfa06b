package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// daemon is a daemon with a forward route only, over pipes in memory.
type daemon struct {
	client   *slicer.SlicerClient
	listener *pipeListener
	server   *http.Server
	served   chan struct{}
}

// startDaemon starts a daemon whose forward route is handle. What handle
// returns with is the end of the WebSocket, without a close frame unless it
// sent one.
func startDaemon(handle func(r *http.Request, ws *websocket.Conn)) *daemon {
	return startHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ws.SetReadLimit(32 << 10) // as small as the smallest that is usual
		defer ws.CloseNow()       //nolint:errcheck // the other side may have closed before
		handle(r, ws)
	}))
}

func startHandler(handler http.Handler) *daemon {
	d := &daemon{listener: newPipeListener(), served: make(chan struct{})}
	d.server = &http.Server{Handler: handler}
	go func() {
		defer close(d.served)
		_ = d.server.Serve(d.listener)
	}()
	d.client = slicer.NewSlicerClient("http://pipe/prefix", "t0ken", "", &http.Client{
		Transport: &http.Transport{DialContext: d.listener.dial},
	})
	return d
}

func (d *daemon) stop() {
	d.client.CloseIdleConnections()
	_ = d.server.Close()
	<-d.served
}

// bubble runs a test with a daemon under fake time; a goroutine that is left at
// the end fails it.
func bubble(t *testing.T, handle func(r *http.Request, ws *websocket.Conn), test func(t *testing.T, d *daemon)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := startDaemon(handle)
		test(t, d)
		d.stop()
		time.Sleep(time.Minute) // timers of the libraries run out
	})
}

// echo sends back what it receives until the other side closes, and then closes.
func echo(_ *http.Request, ws *websocket.Conn) {
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	_, _ = io.Copy(conn, conn)
	conn.Close()
}

// pipeListener accepts pipes in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	return near, l.give(ctx, far)
}

// give lets Accept return c.
func (l *pipeListener) give(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.closed:
		return errors.New("the listener is closed")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// half is one end of a connection in memory whose directions close one by one,
// as a TCP connection's do.
type half struct {
	net.Conn          // the direction to this end
	out      net.Conn // the direction from this end
}

func newHalves() (near, far *half) {
	toNear, fromFar := net.Pipe()
	toFar, fromNear := net.Pipe()
	return &half{toNear, fromNear}, &half{toFar, fromFar}
}

func (h *half) Write(p []byte) (int, error) { return h.out.Write(p) }
func (h *half) CloseWrite() error           { return h.out.Close() }
func (h *half) Close() error                { return errors.Join(h.Conn.Close(), h.out.Close()) }
