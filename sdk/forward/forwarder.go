package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	defaultMaxConns = 256
	defaultLinger   = 10 * time.Second

	// acceptPause is waited after a connection that couldn't be accepted.
	acceptPause = 100 * time.Millisecond
)

// Options say how connections are handed on. The zero value is the ordinary
// case.
type Options struct {
	// MaxConns is how many connections there are at once; more wait to be
	// accepted. 0 is 256.
	MaxConns int

	// Linger is how long the VM's side of a connection may say nothing once
	// this side has ended its sending, before the connection is closed. 0 is
	// 10 seconds.
	Linger time.Duration

	// Log takes what goes wrong with single connections. nil discards it.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxConns <= 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.Linger <= 0 {
		o.Linger = defaultLinger
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Forwarder is a forwarding that runs. Close ends it.
type Forwarder struct {
	addr   net.Addr
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // set before done is closed
}

// errStopped is why a forwarding ends that was closed.
var errStopped = errors.New("the forwarding was closed")

// Start listens on spec's local side and hands its connections on to the other
// side, inside the VM, until ctx ends or Close is called. A Unix socket that it
// makes is its user's alone (mode 0600) and is removed at the end; a file that is
// there already is an error.
//
// Whether the VM and what is to be reached in it exist shows with each
// connection: one that can't be made is reset, and logged.
func Start(ctx context.Context, client *slicer.SlicerClient, vmName string, spec Spec, opts Options) (*Forwarder, error) {
	if err := checkRemote(spec.Remote); err != nil {
		return nil, fmt.Errorf("forward to VM %q: %w", vmName, err)
	}
	if spec.Local.Network != "tcp" && spec.Local.Network != "unix" {
		return nil, fmt.Errorf("forward to VM %q: the network must be tcp or unix, not %q", vmName, abridge(spec.Local.Network))
	}
	listener, err := new(net.ListenConfig).Listen(ctx, spec.Local.Network, spec.Local.listenAddress())
	if err != nil {
		return nil, fmt.Errorf("forward to VM %q: %w", vmName, err)
	}
	if spec.Local.Network == "unix" {
		if err := os.Chmod(spec.Local.Address, 0o600); err != nil {
			listener.Close()
			return nil, fmt.Errorf("forward to VM %q: %w", vmName, err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f := &Forwarder{addr: listener.Addr(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer cancel(errStopped)
		f.err = Serve(ctx, listener, client, vmName, spec.Remote, opts)
		if errors.Is(context.Cause(ctx), errStopped) {
			f.err = nil
		}
	}()
	return f, nil
}

// Addr returns the address that the forwarder listens on, with the port that was
// found for port 0.
func (f *Forwarder) Addr() net.Addr { return f.addr }

// Done returns a channel that is closed when the forwarding has ended, by Close,
// with its context, or because it can't listen any more.
func (f *Forwarder) Done() <-chan struct{} { return f.done }

// Close ends the forwarding and all its connections. It returns when nothing of
// them is left: nil, or why the forwarding had ended before.
func (f *Forwarder) Close() error {
	f.cancel(errStopped)
	<-f.done
	return f.err
}

// Serve hands the connections of listener on to remote, an address inside a VM,
// until ctx ends, whose error it then returns, or until listener fails or is
// closed. It closes listener, cuts the connections that there are, and returns
// when nothing of them is left.
func Serve(ctx context.Context, listener net.Listener, client *slicer.SlicerClient, vmName string, remote Endpoint, opts Options) error {
	defer listener.Close()
	if err := checkRemote(remote); err != nil {
		return fmt.Errorf("forward to VM %q: %w", vmName, err)
	}
	opts = opts.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	var relays sync.WaitGroup
	defer relays.Wait()
	defer cancel()
	defer stop()

	free := make(chan struct{}, opts.MaxConns)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		local, err := accept(ctx, listener)
		if err != nil {
			return fmt.Errorf("forward to VM %q: %w", vmName, err)
		}
		relays.Go(func() {
			defer func() { <-free }()
			r := &relay{local: local, linger: opts.Linger}
			if err := r.run(ctx, client, vmName, remote); err != nil && ctx.Err() == nil {
				opts.Log.Warn("forwarded connection ended badly", "vm", vmName, "remote", remote.String(), "err", err)
			}
		})
	}
}

// accept takes the next connection of listener. What passes by itself, such as a
// lack of file descriptors, it waits for.
func accept(ctx context.Context, listener net.Listener) (net.Conn, error) {
	for {
		local, err := listener.Accept()
		if err == nil {
			return local, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
			return nil, err
		}
		pause := time.NewTimer(acceptPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		}
	}
}
