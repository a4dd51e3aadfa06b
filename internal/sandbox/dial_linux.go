package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// dialLimit bounds a connection attempt inside a guest.
const dialLimit = 10 * time.Second

// Dial implements daemon.Guest: the agent connects and passes the socket.
func (g *guest) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	a, err := g.call(ctx, &request{Op: "dial", Network: network, Name: address})
	if err != nil {
		return nil, err // the caller has the address
	}
	if a.file == nil {
		return nil, syscall.EPROTO
	}
	defer a.file.Close()
	c, err := net.FileConn(a.file)
	if err != nil {
		return nil, fmt.Errorf("take the connection: %w", err)
	}
	return c, nil
}

// dial connects inside the guest. It runs in the agent.
func dial(network, address string) (*os.File, error) {
	if network != "tcp" && network != "unix" {
		return nil, syscall.EAFNOSUPPORT
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the address, which who asks has
		}
		return nil, err
	}
	defer c.Close()
	filer, ok := c.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, syscall.EPROTO
	}
	return filer.File()
}

// Stats implements daemon.Guest.
func (g *guest) Stats(ctx context.Context) (daemon.GuestStats, error) {
	a, err := g.call(ctx, &request{Op: "stats"})
	if err != nil {
		return daemon.GuestStats{}, err
	}
	if a.reply.Stats == nil {
		return daemon.GuestStats{}, syscall.EPROTO
	}
	s := *a.reply.Stats
	s.Uptime = g.Uptime()
	s.CPUs = g.spec.CPUs
	s.MemoryTotal = uint64(max(g.spec.RAMBytes, 0))
	g.group.measure(&s)
	return s, nil
}
