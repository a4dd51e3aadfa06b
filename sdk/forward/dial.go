package forward

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// DialContext connects to an address inside a VM (GET /vm/{vm}/forward). network
// is "tcp", with host:port, of which an empty host is the VM's 127.0.0.1 and a
// name is looked up in the VM; or "unix", with the absolute path of a socket in
// the VM. It fits http.Transport's DialContext and those of database drivers
// once client and vmName are bound.
//
// ctx bounds the dialling, not the connection. A refusal is a *slicer.APIError:
// 404 for a VM that doesn't exist, 409 for a paused one, 502 where nobody
// listens.
//
// Read returns io.EOF when the other side has closed, and io.ErrUnexpectedEOF
// when the connection ended without saying so. Deadlines work as in package
// net, but a Write that runs into its deadline breaks the connection. Close lets
// arrive what was written, and gives up after 5 seconds. There is no CloseWrite;
// see the package's comment.
func DialContext(ctx context.Context, client *slicer.SlicerClient, vmName, network, address string) (net.Conn, error) {
	c, err := dial(ctx, client, vmName, network, address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, client *slicer.SlicerClient, vmName, network, address string) (*conn, error) {
	remote := Endpoint{Network: network, Address: address}
	if host, port, err := net.SplitHostPort(address); network == "tcp" && err == nil && host == "" {
		remote.Address = net.JoinHostPort(loopback, port)
	}
	if err := checkRemote(remote); err != nil {
		return nil, fmt.Errorf("dial %q in VM %q: %w", abridge(address), vmName, err)
	}
	shake := &handshake{client: client, vmName: vmName}
	ws, _, err := websocket.Dial(ctx, "http://slicer", &websocket.DialOptions{ //nolint:bodyclose // Dial closes it, or hands it on as ws
		HTTPClient: &http.Client{Transport: shake},
		HTTPHeader: http.Header{
			"X-Inlets-Upstream":  {remote.String()},
			"X-Inlets-Mode":      {"local"},
			"X-Inlets-Client-Id": {rand.Text()},
		},
	})
	if err != nil {
		if shake.err != nil {
			err = shake.err // the library's own text around it says less
		}
		return nil, fmt.Errorf("dial %q in VM %q: %w", abridge(address), vmName, err)
	}
	return newConn(ws, shake.under, addr{"slicer", vmName}, addr{remote.Network, remote.Address}), nil
}

// handshake is the http.RoundTripper of one WebSocket handshake. It takes the
// protocol's headers from the request and leaves everything else to the client.
type handshake struct {
	client *slicer.SlicerClient
	vmName string
	under  io.Closer // what the WebSocket runs over
	err    error
}

// RoundTrip implements http.RoundTripper.
func (h *handshake) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := h.client.UpgradeVM(req.Context(), h.vmName, "forward", nil, req.Header)
	if err != nil {
		h.err = err
		return nil, err
	}
	if req.Context().Err() != nil {
		resp.Body.Close()
		h.err = context.Cause(req.Context())
		return nil, h.err
	}
	h.under = resp.Body
	return resp, nil
}

// addr is the net.Addr of one end of a connection.
type addr struct{ network, address string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.address }

var errNotBinary = errors.New("the daemon sent a message that is not binary")
