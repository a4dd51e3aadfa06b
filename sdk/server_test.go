package slicer_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// serve runs handler on loopback and returns a client for it.
func serve(t *testing.T, handler http.HandlerFunc) *slicer.SlicerClient {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := slicer.NewSlicerClient(server.URL, "s3cret-token", "", nil)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// answer returns a handler that answers everything in one way.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// pipeServe runs handler over in-memory connections, in a synctest
// bubble. stop ends every goroutine of the server and of the client's
// connections.
func pipeServe(handler http.HandlerFunc) (client *slicer.SlicerClient, stop func()) {
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	client = slicer.NewSlicerClient("http://pipe", "", "", &http.Client{
		Transport: &http.Transport{DialContext: listener.dial},
	})
	return client, func() {
		client.CloseIdleConnections()
		_ = server.Close()
		<-served
		// net/http's server lets a connection linger for half a second of
		// the bubble's time.
		time.Sleep(time.Second)
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
