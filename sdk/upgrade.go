package slicer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// UpgradeVM asks the daemon to change one of a VM's endpoints to another
// protocol (GET /vm/{vm}/{endpoint}, such as "forward"). It is what packages
// for that protocol are built on, such as sdk/forward, and brings the client's
// address, token and transport; query and header, of which header names the
// protocol, may be nil.
//
// The answer has the status 101. Its Body is an io.ReadWriteCloser, the caller's
// to close, that speaks the new protocol. ctx, and the timeout of an http.Client
// that NewSlicerClient was given, end with the handshake and don't bound what
// comes after. A refusal is an *APIError.
func (c *SlicerClient) UpgradeVM(ctx context.Context, vmName, endpoint string, query url.Values, header http.Header) (*http.Response, error) {
	resp, err := c.send(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", vmName, endpoint},
		query: query, header: header, upgrade: true,
	})
	if err != nil {
		return nil, fmt.Errorf("upgrade %s of VM %q: %w", endpoint, vmName, err)
	}
	if _, ok := resp.Body.(io.ReadWriteCloser); !ok {
		// A transport of the caller's own may wrap what it returns.
		resp.Body.Close()
		return nil, fmt.Errorf("upgrade %s of VM %q: the HTTP client's transport lets nothing be written after a change of protocol", endpoint, vmName)
	}
	return resp, nil
}
