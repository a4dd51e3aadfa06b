package forward_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/forward"
)

// start starts a forwarding on a real port or socket.
func start(t *testing.T, local, remote forward.Endpoint) *forward.Forwarder {
	t.Helper()
	d := startDaemon(echo)
	t.Cleanup(d.stop)
	f, err := forward.Start(t.Context(), d.client, "vm-1", forward.Spec{Local: local, Remote: remote}, forward.Options{})
	if err != nil {
		t.Fatalf("Start(%v, %v) = %v", local, remote, err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStart(t *testing.T) {
	path := filepath.Join(shortDir(t), "x.sock")
	for _, tt := range []struct {
		name  string
		local forward.Endpoint
	}{
		{"on a TCP port", forward.Endpoint{Network: "tcp", Address: "127.0.0.1:0"}},
		{"on a Unix socket", forward.Endpoint{Network: "unix", Address: path}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, tt.local, forward.Endpoint{Network: "tcp", Address: "127.0.0.1:80"})
			conn, err := new(net.Dialer).DialContext(t.Context(), f.Addr().Network(), f.Addr().String())
			if err != nil {
				t.Fatalf("Dial(%s) = %v", f.Addr(), err)
			}
			defer conn.Close()
			if got, err := exchange(conn, "hello"); err != nil || got != "hello" {
				t.Errorf("echo = %q, %v, want what was written", got, err)
			}
			select {
			case <-f.Done():
				t.Error("Done is closed while the forwarding runs")
			default:
			}
			if err := f.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			<-f.Done()
			if err := f.Close(); err != nil {
				t.Errorf("Close again = %v", err)
			}
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("Read after Close = %d bytes, want that the connection is cut", n)
			}
			if c, err := new(net.Dialer).DialContext(t.Context(), f.Addr().Network(), f.Addr().String()); err == nil {
				c.Close()
				t.Error("Dial after Close = nil, want that nobody listens")
			}
		})
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat(%s) = %v, want that Close has removed the socket", path, err)
	}
}

// shortDir is a temporary folder with a path short enough for a socket in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fwd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // what stays is a temporary file
	return dir
}

func TestAUnixSocketIsItsUsersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such permissions")
	}
	path := filepath.Join(shortDir(t), "x.sock")
	start(t, forward.Endpoint{Network: "unix", Address: path}, forward.Endpoint{Network: "unix", Address: "/run/x"})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat(%s) = %v, %v, want the permissions 0600", path, info, err)
	}
}

func TestStartRefuses(t *testing.T) {
	d := startDaemon(echo)
	t.Cleanup(d.stop)
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	tcp80 := forward.Endpoint{Network: "tcp", Address: "127.0.0.1:80"}
	for _, tt := range []struct {
		name          string
		local, remote forward.Endpoint
	}{
		{"a file in the socket's place", forward.Endpoint{Network: "unix", Address: file}, tcp80},
		{"another network on this side", forward.Endpoint{Network: "udp", Address: "127.0.0.1:0"}, tcp80},
		{"another network in the VM", forward.Endpoint{Network: "tcp", Address: "127.0.0.1:0"}, forward.Endpoint{Network: "udp", Address: "127.0.0.1:80"}},
		{"no side in the VM", forward.Endpoint{Network: "tcp", Address: "127.0.0.1:0"}, forward.Endpoint{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := forward.Start(t.Context(), d.client, "vm-1", forward.Spec{Local: tt.local, Remote: tt.remote}, forward.Options{})
			if err == nil {
				f.Close()
				t.Error("Start = nil, want an error")
			}
		})
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file holds %q, %v, want what it held", data, err)
	}
}

func TestAForwarderEndsWithItsContext(t *testing.T) {
	d := startDaemon(echo)
	t.Cleanup(d.stop)
	ctx, cancel := context.WithCancel(t.Context())
	spec, err := forward.ParseSpec("0:80")
	if err != nil {
		t.Fatal(err)
	}
	f, err := forward.Start(ctx, d.client, "vm-1", spec, forward.Options{})
	if err != nil {
		t.Fatalf("Start(%v) = %v", spec, err)
	}
	if host, _, _ := net.SplitHostPort(f.Addr().String()); host != "127.0.0.1" {
		t.Errorf("Addr() = %v, want an address of 127.0.0.1", f.Addr())
	}
	cancel()
	<-f.Done()
	if err := f.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close = %v, want the context's error", err)
	}
}
