package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// socket opens a WebSocket; header is name, value, name, value, ….
func (a *api) socket(path string, header ...string) *websocket.Conn {
	a.t.Helper()
	ws, got := a.dial(path, header...)
	if ws == nil {
		a.t.Fatalf("WebSocket %s = %d %s", path, got.status, got.body)
	}
	return ws
}

// dial opens a WebSocket, or returns the answer that refuses it.
func (a *api) dial(path string, header ...string) (*websocket.Conn, reply) {
	a.t.Helper()
	opts := &websocket.DialOptions{HTTPClient: a.srv.HTTPClient(), HTTPHeader: http.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		opts.HTTPHeader.Set(header[i], header[i+1])
	}
	ws, resp, err := websocket.Dial(a.t.Context(), a.srv.URL+path, opts) //nolint:bodyclose // Dial closes it
	if err == nil {
		a.t.Cleanup(func() { _ = ws.CloseNow() }) // it may be closed
		return ws, reply{}
	}
	if resp == nil {
		a.t.Fatalf("WebSocket %s: %v", path, err)
	}
	text, err := io.ReadAll(resp.Body)
	return nil, reply{resp.StatusCode, resp.Header, string(text), err}
}

// listen opens an address inside a VM.
func (a *api) listen(vm, network, address string) net.Listener {
	a.t.Helper()
	l, err := a.srv.Listen(vm, network, address)
	if err != nil {
		a.t.Fatalf("Listen(%q, %q) = %v", network, address, err)
	}
	return l
}

func TestForward(t *testing.T) {
	for _, tt := range []struct{ name, network, address, upstream string }{
		{"tcp", "tcp", "127.0.0.1:8080", "127.0.0.1:8080"},
		{"tcp by name", "tcp", ":8080", "localhost:8080"},
		{"tcp without a host", "tcp", "localhost:8080", ":8080"},
		{"IPv6", "tcp", "[::1]:8080", "[::1]:8080"},
		{"unix", "unix", "/run/app.sock", "unix:/run/app.sock"},
		{"unix with slashes", "unix", "/run/app.sock", "unix:///run/app.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
				defer a.srv.Close()
				vm := a.create(`{}`)
				l := a.listen(vm, tt.network, tt.address)
				go func() {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					defer conn.Close()
					_, _ = io.CopyN(conn, conn, 300_000) // the client's view is what counts
				}()
				ws := a.socket("/vm/"+vm+"/forward", "X-Inlets-Upstream", tt.upstream, "X-Inlets-Mode", "local", "X-Inlets-Client-ID", "test")
				conn := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
				data := bytes.Repeat([]byte("0123456789"), 30_000)
				go func() { _, _ = conn.Write(data) }()
				got, err := io.ReadAll(conn) // ends with a close in order
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("through the forward came %d bytes, %v, want the %d that were sent and an end in order", len(got), err, len(data))
				}
				conn.Close()
			})
		})
	}
}

func TestForwardEndsWithEitherSide(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(a *api, vm string, ws *websocket.Conn, inside net.Conn)
		code websocket.StatusCode // that the client sees; 0 when it has left
	}{
		{"the guest closes", func(_ *api, _ string, _ *websocket.Conn, inside net.Conn) { inside.Close() }, websocket.StatusNormalClosure},
		{"the client closes", func(_ *api, _ string, ws *websocket.Conn, _ net.Conn) {
			_ = ws.Close(websocket.StatusNormalClosure, "")
		}, 0},
		{"the client is gone", func(_ *api, _ string, ws *websocket.Conn, _ net.Conn) { _ = ws.CloseNow() }, 0},
		{"the VM is deleted", func(a *api, vm string, _ *websocket.Conn, _ net.Conn) {
			a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		}, websocket.StatusGoingAway},
		{"the guest ends", func(a *api, vm string, _ *websocket.Conn, _ net.Conn) { a.srv.End(vm) }, -2},
		{"the client sends text", func(a *api, _ string, ws *websocket.Conn, _ net.Conn) {
			_ = ws.Write(a.t.Context(), websocket.MessageText, []byte("hello"))
		}, websocket.StatusUnsupportedData},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
				defer a.srv.Close()
				vm := a.create(`{}`)
				l := a.listen(vm, "tcp", ":80")
				accepted := make(chan net.Conn, 1)
				go func() {
					if conn, err := l.Accept(); err == nil {
						accepted <- conn
					}
				}()
				ws := a.socket("/vm/"+vm+"/forward", "X-Inlets-Upstream", "localhost:80")
				inside := <-accepted
				ended := make(chan error, 1)
				if tt.code != 0 {
					go func() { _, _, err := ws.Read(context.WithoutCancel(t.Context())); ended <- err }()
				}
				tt.end(a, vm, ws, inside)
				if tt.code != 0 {
					err := <-ended
					got := websocket.CloseStatus(err)
					if tt.code == -2 { // the connection or the VM may be seen to end first
						if got != websocket.StatusNormalClosure && got != websocket.StatusGoingAway {
							t.Errorf("the client sees %v, want a close", err)
						}
					} else if got != tt.code {
						t.Errorf("the client sees %v, want close %d", err, tt.code)
					}
				}
				if _, err := inside.Read(make([]byte, 1)); err == nil {
					t.Error("the connection inside the VM is still open")
				}
				inside.Close()
			})
		})
	}
}

// A guest that reads nothing must slow the client down, not fill memory.
func TestForwardHasBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		l := a.listen(vm, "tcp", ":80")
		accepted := make(chan net.Conn, 1)
		go func() {
			if conn, err := l.Accept(); err == nil {
				accepted <- conn
			}
		}()
		ws := a.socket("/vm/"+vm+"/forward", "X-Inlets-Upstream", "localhost:80")
		inside := <-accepted
		defer inside.Close()
		sent := make(chan int)
		go func() {
			n := 0
			for range 100 {
				if ws.Write(t.Context(), websocket.MessageBinary, make([]byte, 32<<10)) != nil {
					break
				}
				n++
			}
			sent <- n
		}()
		synctest.Wait()
		select {
		case n := <-sent:
			t.Errorf("the client could send %d messages that nobody reads", n)
		default:
		}
		a.want(200, "POST", "/vm/"+vm+"/pause", "") // an open forward doesn't hold it up
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
		if n, err := io.CopyN(io.Discard, inside, 100*32<<10); err != nil {
			t.Errorf("the guest read %d bytes, %v, want all", n, err)
		}
		if n := <-sent; n != 100 {
			t.Errorf("the client sent %d messages, want 100", n)
		}
	})
}

func TestGuestThatReadsNoMoreIsHeardToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		l := a.listen(vm, "tcp", ":80")
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 1))
			_, _ = io.WriteString(conn, "refused")
			conn.Close()
		}()
		ws := a.socket("/vm/"+vm+"/forward", "X-Inlets-Upstream", "localhost:80")
		conn := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		go func() { _, _ = conn.Write(make([]byte, 1<<20)) }()
		if got, err := io.ReadAll(conn); string(got) != "refused" || err != nil {
			t.Errorf("the client read %q, %v, want all that the guest wrote", got, err)
		}
		conn.Close()
	})
}

func TestRefusedSockets(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	paused := a.create(`{}`)
	a.want(200, "POST", "/vm/"+paused+"/pause", "")
	forward, shell := "/vm/"+vm+"/forward", "/vm/"+vm+"/shell"
	for _, tt := range []struct {
		name, path string
		header     []string
		status     int
		says       string
	}{
		{"no upstream", forward, nil, 400, "X-Inlets-Upstream"},
		{"no port", forward, []string{"X-Inlets-Upstream", "localhost"}, 400, "host:port"},
		{"port 0", forward, []string{"X-Inlets-Upstream", "localhost:0"}, 400, "port"},
		{"a large port", forward, []string{"X-Inlets-Upstream", "localhost:65536"}, 400, "port"},
		{"a service's name", forward, []string{"X-Inlets-Upstream", "localhost:http"}, 400, "port"},
		{"a URL", forward, []string{"X-Inlets-Upstream", "http://localhost:80"}, 400, "host:port"},
		{"no host name", forward, []string{"X-Inlets-Upstream", "a b:80"}, 400, "no host"},
		{"a relative socket", forward, []string{"X-Inlets-Upstream", "unix:app.sock"}, 400, "absolute"},
		{"a long upstream", forward, []string{"X-Inlets-Upstream", strings.Repeat("a", 600) + ":1"}, 400, "512"},
		{"another mode", forward, []string{"X-Inlets-Upstream", "localhost:80", "X-Inlets-Mode", "remote"}, 400, "X-Inlets-Mode"},
		{"nobody listens", forward, []string{"X-Inlets-Upstream", "localhost:81"}, 502, "refused"},
		{"no such socket", forward, []string{"X-Inlets-Upstream", "unix:/nope"}, 502, "no such file"},
		{"no such host", forward, []string{"X-Inlets-Upstream", "nope.example:80"}, 502, "no such host"},
		{"another site", forward, []string{"X-Inlets-Upstream", "localhost:80", "Origin", "https://evil.example"}, 403, "another site"},
		{"unknown parameter", forward + "?x=1", nil, 400, `"x"`},
		{"no such VM", "/vm/sbox-9/forward", nil, 404, `"sbox-9"`},
		{"a paused VM", "/vm/" + paused + "/forward", []string{"X-Inlets-Upstream", "localhost:80"}, 409, "paused"},
		{"shell: bad uid", shell + "?uid=root", nil, 400, "uid"},
		{"shell: bad gid", shell + "?gid=-1", nil, 400, "gid"},
		{"shell: relative folder", shell + "?cwd=src", nil, 400, "cwd"},
		{"shell: no such folder", shell + "?cwd=/nope", nil, 400, "not be started"},
		{"shell: no such program", shell + "?shell=/bin/nope", nil, 400, "not be started"},
		{"shell: NUL", shell + "?shell=%00", nil, 400, "NUL"},
		{"shell: unknown parameter", shell + "?rows=1", nil, 400, `"rows"`},
		{"shell: another site", shell, []string{"Origin", "https://evil.example"}, 403, "another site"},
		{"shell: no such VM", "/vm/sbox-9/shell", nil, 404, `"sbox-9"`},
		{"shell: a paused VM", "/vm/" + paused + "/shell", nil, 409, "paused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ws, got := a.dial(tt.path, tt.header...)
			if ws != nil || got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("WebSocket %s %q = %d %s, want %d and %q", tt.path, tt.header, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	l := a.listen(vm, "tcp", ":80")
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
	}()
	for _, path := range []string{forward, shell} {
		got := a.want(426, "GET", path, "", "X-Inlets-Upstream", "localhost:80")
		if !strings.Contains(got.message(t), "WebSocket") {
			t.Errorf("GET %s without an upgrade says %s", path, got.body)
		}
		got = a.want(400, "GET", path, "", "X-Inlets-Upstream", "localhost:80", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "8")
		_ = got.message(t) // a JSON error
	}
}

func TestForwardWaitsForAnOpenGateOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		a.listen(vm, "tcp", ":80") // accepts nothing
		_, got := a.dial("/vm/"+vm+"/forward", "X-Inlets-Upstream", "localhost:80")
		if got.status != 502 || !strings.Contains(got.message(t), context.DeadlineExceeded.Error()) {
			t.Errorf("forward to one who doesn't accept = %d %s, want 502 after the time-out", got.status, got.body)
		}
	})
}

func TestListenInAVM(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	l := a.listen(vm, "tcp", ":80")
	for _, address := range []string{"localhost:80", "127.0.0.1:80", vm + ":80"} {
		if _, err := a.srv.Listen(vm, "tcp", address); err == nil {
			t.Errorf("Listen(%q) twice = nil, want an error", address)
		}
	}
	l.Close()
	l = a.listen(vm, "tcp", ":80")
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the VM's end = %v, want net.ErrClosed", err)
	}
	if _, err := a.srv.Listen(vm, "tcp", ":80"); err == nil {
		t.Error("Listen in no VM = nil, want an error")
	}
}
