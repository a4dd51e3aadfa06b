package forward_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/forward"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// A web server in a VM, reached at a port of this machine.
func ExampleStart() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, hostname, stop := vmWithWebServer(ctx)
	defer stop()

	spec, err := forward.ParseSpec("0:80") // any free port of 127.0.0.1 to the VM's port 80
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := forward.Start(ctx, client, hostname, spec, forward.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()

	fmt.Println(get(ctx, http.DefaultTransport, "http://"+f.Addr().String()+"/greeting"))
	// Output: the VM says hello at /greeting
}

// The same without a port on this machine.
func ExampleDialContext() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, hostname, stop := vmWithWebServer(ctx)
	defer stop()

	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return forward.DialContext(ctx, client, hostname, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	fmt.Println(get(ctx, transport, "http://127.0.0.1/inside"))
	// Output: the VM says hello at /inside
}

func get(ctx context.Context, transport http.RoundTripper, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	req.Close = true
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// vmWithWebServer makes a VM of a fake daemon, with a web server at its port 80.
func vmWithWebServer(ctx context.Context) (client *slicer.SlicerClient, hostname string, stop func()) {
	srv, err := slicertest.Start(slicertest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	vm, err := srv.Client().CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := srv.Listen(vm.Hostname, "tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "the VM says hello at %s", r.URL.Path)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(listener) // until it is closed
	}()
	return srv.Client(), vm.Hostname, func() {
		_ = web.Close() // the VM ends its connections anyway
		<-served
		srv.Close()
	}
}
