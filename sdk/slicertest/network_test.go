package slicertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// A service that a program of the VM plays, reached by another program.
func TestProgramsThatListenAndDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{
				"serve": func(_ context.Context, p *slicertest.Proc) int {
					l, err := p.Listen("unix", "/run/app.sock")
					if err != nil {
						return 1
					}
					defer l.Close()
					fmt.Fprintln(p.Stdout, l.Addr().Network(), l.Addr())
					conn, err := l.Accept()
					if err != nil {
						return 2
					}
					defer conn.Close()
					fmt.Fprint(conn, "hello")
					return 0
				},
				"curl": func(ctx context.Context, p *slicertest.Proc) int {
					conn, err := p.Dial(ctx, p.Args[1], p.Args[2])
					if err != nil {
						fmt.Fprint(p.Stderr, err)
						return 7
					}
					defer conn.Close()
					if _, err := io.Copy(p.Stdout, conn); err != nil {
						return 1
					}
					return 0
				},
			},
		})
		defer srv.Close()
		hostname := vm(t, srv)
		served := make(chan string, 1)
		go func() { served <- run(t, srv, hostname, slicer.SlicerExecRequest{Command: "serve"}, nil) }()
		synctest.Wait()
		for _, tt := range []struct{ network, address, want string }{
			{"unix", "/run/../run/app.sock", `"hello" "" 0`},
			{"unix", "/run/app.sock", `"" "dial unix: no such file or directory" 7`},
			{"tcp", "localhost:80", `"" "dial tcp: connection refused" 7`},
			{"tcp", "10.0.0.1:80", `"" "dial tcp: network is unreachable" 7`},
			{"tcp", "example.com:80", `"" "dial tcp: lookup example.com: no such host" 7`},
			{"udp", "localhost:80", `"" "dial udp: unknown network udp" 7`},
		} {
			got := run(t, srv, hostname, slicer.SlicerExecRequest{Command: "curl", Args: []string{tt.network, tt.address}}, nil)
			if got != tt.want {
				t.Errorf("curl %s %s = %s, want %s", tt.network, tt.address, got, tt.want)
			}
			synctest.Wait()
		}
		if got := <-served; got != `"unix /run/app.sock\n" "" 0` {
			t.Errorf("serve = %s", got)
		}
	})
}

func TestListenRefusals(t *testing.T) {
	srv := slicertest.NewServer(t)
	hostname := vm(t, srv)
	for _, tt := range []struct{ hostname, network, address string }{
		{"nope", "tcp", ":80"},
		{hostname, "udp", ":80"},
		{hostname, "tcp", "80"},
		{hostname, "tcp", "example.com:80"},
		{hostname, "unix", "app.sock"},
	} {
		if _, err := srv.Listen(tt.hostname, tt.network, tt.address); err == nil {
			t.Errorf("Listen(%q, %q, %q) = nil, want an error", tt.hostname, tt.network, tt.address)
		}
	}
	l, err := srv.Listen(hostname, "tcp", ":80")
	if err != nil {
		t.Fatalf("Listen = %v", err)
	}
	srv.End(hostname)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the VM's end = %v, want net.ErrClosed", err)
	}
}

// A program that follows the size of its window.
func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{"bash": func(ctx context.Context, p *slicertest.Proc) int {
				for {
					rows, cols, changed := p.Terminal.Size()
					fmt.Fprintf(p.Stdout, "%dx%d", rows, cols)
					select {
					case <-changed:
					case <-ctx.Done():
						return 0
					}
				}
			}},
		})
		defer srv.Close()
		hostname := vm(t, srv)
		if got := run(t, srv, hostname, slicer.SlicerExecRequest{Command: "sh"}, nil); got != `"" "" 0` {
			t.Errorf("a shell without a terminal = %s", got)
		}
		ws, _, err := websocket.Dial(t.Context(), srv.URL+"/vm/"+hostname+"/shell", &websocket.DialOptions{HTTPClient: srv.HTTPClient()}) //nolint:bodyclose // Dial closes it
		if err != nil {
			t.Fatalf("shell = %v", err)
		}
		defer func() { _ = ws.CloseNow() }()
		for _, want := range []string{"24x80", "2x3"} {
			_, message, err := ws.Read(t.Context())
			if err != nil || string(message[5:]) != want {
				t.Fatalf("the program says %q, %v, want %s", message, err, want)
			}
			if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("\x02\x00\x00\x00\x04\x00\x02\x00\x03")); err != nil {
				t.Fatalf("resize = %v", err)
			}
		}
	})
}
