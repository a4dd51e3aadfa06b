package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// chunk is how many bytes one message carries at most on its way to the
	// VM, and the size of the buffers.
	chunk = 32 << 10

	// maxMessage bounds a message from the VM. Messages are handed on piece by
	// piece, so it costs no memory.
	maxMessage = 16 << 20

	// closeTimeout bounds Close.
	closeTimeout = 5 * time.Second
)

// conn is a connection to an address in a VM.
//
// One goroutine, pump, reads the WebSocket from the beginning to the end and
// hands what comes through a pipe in memory to Read. The pipe holds nothing, so a
// reader that pauses holds up the sender; it gives Read its deadlines, which on
// the WebSocket itself would end the connection.
type conn struct {
	ws     *websocket.Conn
	under  io.Closer // what ws runs over; closing it ends ws at once
	in     net.Conn  // the reading end of the pipe
	pumped chan struct{}
	end    error // why pump ended; to be read once pumped or in has ended

	writing sync.Mutex // a Write's messages stay together
	timeout deadline   // of writes

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error

	local, remote addr
}

func newConn(ws *websocket.Conn, under io.Closer, local, remote addr) *conn {
	ws.SetReadLimit(maxMessage)
	in, out := net.Pipe()
	c := &conn{
		ws: ws, under: under, in: in, local: local, remote: remote,
		pumped: make(chan struct{}), closed: make(chan struct{}),
	}
	go c.pump(out)
	return c
}

// pump moves messages to out until one side ends.
func (c *conn) pump(out net.Conn) {
	defer close(c.pumped)
	defer out.Close()
	buf := make([]byte, chunk)
	for {
		kind, message, err := c.ws.Reader(context.Background()) // Close and abort end it
		if err != nil {
			c.end = endOf(err)
			return
		}
		if kind != websocket.MessageBinary {
			c.end = errNotBinary
			c.under.Close()
			return
		}
		if _, err := io.CopyBuffer(onlyWriter{out}, message, buf); err != nil {
			c.end = brokenBy(err)
			return
		}
	}
}

// onlyWriter hides what a Writer could do beside Write, so that CopyBuffer uses
// its buffer.
type onlyWriter struct{ io.Writer }

// endOf turns what ended the stream of messages into what Read returns.
func endOf(err error) error {
	var said websocket.CloseError
	if !errors.As(err, &said) {
		return brokenBy(err)
	}
	switch said.Code {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return io.EOF
	}
	return fmt.Errorf("the daemon closed the connection with status %d: %q", said.Code, said.Reason)
}

// brokenBy is what Read returns when a connection broke.
func brokenBy(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read from the VM: %w", err)
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	switch {
	case err == nil:
		return n, nil
	case c.isClosed():
		return n, net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, os.ErrDeadlineExceeded
	}
	<-c.pumped // it closes the pipe as it ends
	return n, c.end
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for {
		ctx := c.timeout.context()
		if c.isClosed() {
			return written, net.ErrClosed
		}
		if ctx.Err() != nil {
			return written, os.ErrDeadlineExceeded
		}
		if written == len(p) {
			return written, nil
		}
		piece := p[written:min(len(p), written+chunk)]
		if err := c.ws.Write(ctx, websocket.MessageBinary, piece); err != nil {
			switch {
			case c.isClosed():
				return written, net.ErrClosed
			case ctx.Err() != nil:
				return written, os.ErrDeadlineExceeded
			}
			return written, fmt.Errorf("write to the VM: %w", err)
		}
		written += len(piece)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.in.Close() // pump's writes end too
		tooLong := time.AfterFunc(closeTimeout, func() { c.under.Close() })
		// Close fails when the other side has closed before, or has gone;
		// Read and Write have said so.
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
		if !tooLong.Stop() {
			c.closeErr = fmt.Errorf("close: the daemon didn't answer within %s", closeTimeout)
		}
		c.under.Close()
		<-c.pumped
	})
	return c.closeErr
}

// abort is Close without waiting for what was written to arrive.
func (c *conn) abort() {
	c.under.Close()
	_ = c.Close() // of a connection that is gone
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn. It is the address inside the VM.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	return c.in.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.timeout.set(t)
	return nil
}

// deadline is a point in time that can be moved. The zero value is none.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	ctx    context.Context // ends at the deadline; it carries nothing else
	cancel context.CancelFunc
}

// context returns the context that ends at the deadline.
func (d *deadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renew()
	return d.ctx
}

// renew makes a context where there is none.
func (d *deadline) renew() {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancel(context.Background())
	}
}

// set moves the deadline to t; the zero time is none. The context stays the same
// until it has ended.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		d.ctx = nil // the timer ends this one
	}
	d.timer = nil
	if d.ctx != nil && d.ctx.Err() != nil {
		d.ctx = nil
	}
	d.renew()
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.cancel()
		return
	}
	d.timer = time.AfterFunc(left, d.cancel)
}
