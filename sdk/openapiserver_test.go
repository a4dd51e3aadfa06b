package slicer_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestMain(m *testing.M) {
	sandbox.RunIfInit()
	os.Exit(m.Run())
}

// apiServer is a daemon that is held against the OpenAPI document. It asks for
// the token apiToken.
type apiServer struct {
	url       string
	transport http.RoundTripper

	// listen has somebody take one connection at the port 8080 of a VM, until
	// stop is called.
	listen func(ctx context.Context, vm string) (stop func(), err error)
}

const apiToken = "t0ken"

// serveScripted starts a daemon with scripted guests.
func serveScripted(t *testing.T) *apiServer {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{
		Token: apiToken, Network: slicertest.Pipe,
		Groups: []slicer.SlicerHostGroup{{Name: "sbox", CPUs: 4, RamBytes: slicer.GiB(8)}},
	})
	listen := func(_ context.Context, vm string) (func(), error) {
		listener, err := srv.Listen(vm, "tcp", ":8080")
		if err != nil {
			return nil, err
		}
		accepted := make(chan struct{})
		go func() {
			defer close(accepted)
			if conn, err := listener.Accept(); err == nil {
				conn.Close()
			}
		}()
		return func() {
			listener.Close()
			<-accepted
		}, nil
	}
	return &apiServer{srv.URL, srv.HTTPClient().Transport, listen}
}

// serveSandboxes starts a daemon with sandboxes, or skips where the machine has
// no namespaces for them. SLICERVM_REQUIRE_SANDBOX=1 makes that a failure.
func serveSandboxes(t *testing.T) *apiServer {
	t.Helper()
	hypervisor, err := sandbox.New(sandbox.Config{StateDir: filepath.Join(t.TempDir(), "state")})
	if err != nil {
		if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" {
			t.Fatalf("sandbox.New() = %v, want a hypervisor: SLICERVM_REQUIRE_SANDBOX is set", err)
		}
		t.Skipf("no sandbox on this machine: %v", err)
	}
	d, err := daemon.New(t.Context(), daemon.Config{
		Hypervisor: hypervisor, Token: apiToken, Groups: []daemon.HostGroup{{Name: "sbox", CPUs: 4, RAMBytes: slicer.GiB(8)}},
	})
	if err != nil {
		t.Fatalf("daemon.New() = %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	client := slicer.NewSlicerClient(srv.URL, apiToken, "", nil)
	t.Cleanup(client.CloseIdleConnections)
	return &apiServer{srv.URL, srv.Client().Transport, func(ctx context.Context, vm string) (func(), error) {
		return listenInside(ctx, client, vm)
	}}
}

// listenInside has a program inside vm listen.
func listenInside(ctx context.Context, client *slicer.SlicerClient, vm string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := client.CommandContext(ctx, vm, "perl", "-e",
		`use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:8080") or die; print "ready\n"; $s->accept`)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen inside %s: %w", vm, err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // it was ended
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		stop()
		return nil, fmt.Errorf("listen inside %s: %q, %w", vm, line, err)
	}
	return stop, nil
}
