package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// dialTimeout bounds the making of a connection in the VM.
	dialTimeout = 30 * time.Second

	// drainTimeout is how long this side may go on sending, to nobody, once
	// the VM's side has ended. Closing at once could destroy what this side
	// has not read yet.
	drainTimeout = time.Second
)

// errDialTimeout is why a connection was given up.
var errDialTimeout = fmt.Errorf("the daemon did not answer within %s", dialTimeout)

// relay hands one connection on.
type relay struct {
	local     net.Conn
	remote    *conn
	linger    time.Duration
	lingering atomic.Bool // local has ended its sending
}

// run connects to remote, inside the VM, and moves bytes both ways until either
// side ends or ctx does.
func (r *relay) run(ctx context.Context, client *slicer.SlicerClient, vmName string, remote Endpoint) error {
	defer r.local.Close()
	bounded, cancel := context.WithTimeoutCause(ctx, dialTimeout, errDialTimeout)
	var err error
	r.remote, err = dial(bounded, client, vmName, remote.Network, remote.Address)
	timedOut := errors.Is(context.Cause(bounded), errDialTimeout)
	cancel()
	if err != nil {
		reset(r.local)
		if timedOut {
			return errDialTimeout
		}
		return err
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		r.local.Close()
		r.remote.abort()
	})
	defer func() {
		if !stop() {
			<-cut
		}
	}()

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		r.send()
	}()
	err = r.receive()
	r.finish(err, sent)
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// send moves what the local side says to the VM.
func (r *relay) send() {
	_, err := io.CopyBuffer(onlyWriter{r.remote}, onlyReader{r.local}, make([]byte, chunk))
	if err != nil {
		// Either side is gone. What the VM has been sent shall arrive; for
		// what it still says there is nobody.
		_ = r.remote.Close() // receive ends with what there is to report
		return
	}
	r.lingering.Store(true)
	_ = r.remote.SetReadDeadline(time.Now().Add(r.linger)) // fails once closed, as receive will
}

// onlyReader hides what a Reader could do beside Read, so that CopyBuffer uses
// its buffer.
type onlyReader struct{ io.Reader }

// receive moves what the VM says to the local side. It returns io.EOF when the
// VM's side has ended, os.ErrDeadlineExceeded when it had nothing to say for as
// long as it may linger.
func (r *relay) receive() error {
	buf := make([]byte, chunk)
	for {
		if r.lingering.Load() {
			_ = r.remote.SetReadDeadline(time.Now().Add(r.linger)) // fails once closed, as Read will
		}
		n, err := r.remote.Read(buf)
		if n > 0 {
			if _, err := r.local.Write(buf[:n]); err != nil {
				return net.ErrClosed // by the local side, whose right it is
			}
		}
		if err != nil {
			return err
		}
	}
}

// finish ends both sides after receive has returned err. It returns when send has
// ended.
func (r *relay) finish(err error, sent <-chan struct{}) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// A VM's side that went away without a word can't be told from one
		// that meant to.
		r.drain(sent)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
	default:
		reset(r.local)
	}
	_ = r.remote.Close() // it has ended, or said why before
	r.local.Close()
	<-sent
}

// drain hands the end on to the local side, and drops what that still sends.
func (r *relay) drain(sent <-chan struct{}) {
	half, ok := r.local.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if err := r.local.SetReadDeadline(time.Now().Add(drainTimeout)); err != nil {
		return
	}
	<-sent
	_, _ = io.Copy(io.Discard, r.local) // until its end or the deadline; nobody is there to read it
}

// reset closes a connection so that its other end sees an error, not an end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the end is an ordinary one
	}
	c.Close()
}
