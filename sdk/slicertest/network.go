package slicertest

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Listen opens an address inside the VM called hostname, for a test that plays
// one of its services: what a forward dials there is accepted from the
// listener. network is "tcp", with a host:port whose host is empty, a loopback
// address, localhost or the hostname, or "unix", with an absolute path. A
// listener and its connections end with the VM; connections are pipes in
// memory, on which a write waits for its reader. Listen fails when there is no
// such VM, and when the address is in use.
func (s *Server) Listen(hostname, network, address string) (net.Listener, error) {
	g := s.machines.find(hostname)
	if g == nil {
		return nil, fmt.Errorf("listen on %s %s: no VM %q", network, address, hostname)
	}
	return g.net.listen(g.hostname, network, address)
}

// Listen is Server.Listen in the process's own VM. The listener stays open
// until it is closed or the VM ends, also when the process has ended.
func (p *Proc) Listen(network, address string) (net.Listener, error) {
	return p.guest.net.listen(p.guest.hostname, network, address)
}

// Dial connects to an address inside the process's own VM.
func (p *Proc) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.guest.net.dial(ctx, p.guest.hostname, network, address)
}

// Dial implements daemon.Guest.
func (g *guest) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.checkThawed("Dial")
	return g.net.dial(ctx, g.hostname, network, address)
}

var _ daemon.Guest = (*guest)(nil)

// guestNet is the network inside a guest. The zero value has no listener.
type guestNet struct {
	mu        sync.Mutex
	closed    bool
	listeners map[string]*guestListener // by network and address
	conns     map[*guestConn]bool
}

func (n *guestNet) listen(hostname, network, address string) (net.Listener, error) {
	key, err := netKey(hostname, network, address)
	if err != nil {
		return nil, opError("listen", network, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, opError("listen", network, net.ErrClosed)
	case n.listeners[key] != nil:
		return nil, opError("listen", network, syscall.EADDRINUSE)
	}
	l := &guestListener{pipeListener: newPipeListener(), net: n, addr: guestAddr{network, address}, key: key}
	if n.listeners == nil {
		n.listeners = make(map[string]*guestListener)
	}
	n.listeners[key] = l
	return l, nil
}

func (n *guestNet) dial(ctx context.Context, hostname, network, address string) (net.Conn, error) {
	key, err := netKey(hostname, network, address)
	if err != nil {
		return nil, opError("dial", network, err)
	}
	n.mu.Lock()
	l := n.listeners[key]
	n.mu.Unlock()
	if l == nil {
		err := syscall.ECONNREFUSED
		if network == "unix" {
			err = syscall.ENOENT
		}
		return nil, opError("dial", network, err)
	}
	conn, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, opError("dial", network, err)
	}
	return n.track(conn)
}

// track makes conn end with the guest.
func (n *guestNet) track(conn net.Conn) (net.Conn, error) {
	c := &guestConn{Conn: conn, net: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		conn.Close()
		return nil, opError("dial", "tcp", net.ErrClosed)
	}
	if n.conns == nil {
		n.conns = make(map[*guestConn]bool)
	}
	n.conns[c] = true
	return c, nil
}

// close ends the listeners and connections.
func (n *guestNet) close() {
	n.mu.Lock()
	n.closed = true
	listeners, conns := n.listeners, n.conns
	n.listeners, n.conns = nil, nil
	n.mu.Unlock()
	for _, l := range listeners {
		l.pipeListener.Close()
	}
	for c := range conns {
		c.Conn.Close()
	}
}

// netKey is what an address is found by: all local hosts are one.
func netKey(hostname, network, address string) (string, error) {
	switch network {
	case "unix":
		if !strings.HasPrefix(address, "/") {
			return "", fmt.Errorf("path %q isn't absolute: %w", address, fs.ErrInvalid)
		}
		return "unix " + path.Clean(address), nil
	case "tcp":
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", err
		}
		switch host {
		case "", "localhost", hostname:
			return "tcp " + port, nil
		}
		if ip := net.ParseIP(host); ip == nil {
			return "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		} else if ip.IsLoopback() || ip.IsUnspecified() {
			return "tcp " + port, nil
		}
		return "", syscall.ENETUNREACH
	}
	return "", net.UnknownNetworkError(network)
}

func opError(op, network string, err error) error {
	return &net.OpError{Op: op, Net: network, Err: err}
}

// guestListener is a listener inside a guest.
type guestListener struct {
	*pipeListener
	net  *guestNet
	addr guestAddr
	key  string
}

// Addr implements net.Listener.
func (l *guestListener) Addr() net.Addr { return l.addr }

// Close implements net.Listener.
func (l *guestListener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.key] == l {
		delete(l.net.listeners, l.key)
	}
	l.net.mu.Unlock()
	return l.pipeListener.Close()
}

type guestAddr struct{ network, address string }

func (a guestAddr) Network() string { return a.network }
func (a guestAddr) String() string  { return a.address }

// guestConn is the dialling end of a connection inside a guest.
type guestConn struct {
	net.Conn
	net *guestNet
}

// Close implements net.Conn.
func (c *guestConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}
