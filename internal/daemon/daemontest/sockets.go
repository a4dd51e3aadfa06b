package daemontest

import (
	"context"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// socket opens a WebSocket at path.
func (a *api) socket(path string, header ...string) *websocket.Conn {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	a.t.Cleanup(cancel)
	req := a.request(ctx, "GET", path, nil, header...)
	ws, resp, err := websocket.Dial(ctx, req.URL.String(), &websocket.DialOptions{HTTPClient: a.srv.Client, HTTPHeader: req.Header}) //nolint:bodyclose // the library's
	if err != nil {
		a.t.Fatalf("WebSocket %s = %v", path, err)
	}
	a.suite.note(req, resp.StatusCode)
	a.t.Cleanup(func() { _ = ws.CloseNow() }) // a second close says so
	ws.SetReadLimit(1 << 20)
	return ws
}

// readAll reads binary messages until the peer closes in order.
func (a *api) readAll(ws *websocket.Conn) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	defer cancel()
	var all strings.Builder
	for {
		kind, message, err := ws.Read(ctx)
		if status := websocket.CloseStatus(err); status == websocket.StatusNormalClosure || status == websocket.StatusGoingAway {
			return all.String()
		}
		if err != nil {
			a.t.Fatalf("after %q: %v, want a close in order", all.String(), err)
		}
		if kind != websocket.MessageBinary {
			a.t.Errorf("message %q isn't binary", message)
		}
		all.Write(message)
	}
}

// testForward tests connections to addresses inside a guest.
func testForward(a *api) {
	vm := a.furnishedVM()
	for _, tt := range []struct{ name, kind, listen, upstream string }{
		{"a port", "tcp", "127.0.0.1:8080", "127.0.0.1:8080"},
		{"a port by name", "tcp", "127.0.0.1:8081", "localhost:8081"},
		{"a Unix socket", "unix", "/tmp/service.sock", "unix:/tmp/service.sock"},
	} {
		a.run("to "+tt.name, func(a *api) {
			s := a.stream(vm, []string{"listen", tt.kind, tt.listen})
			s.want("ready\n")
			ws := a.socket(vm+"/forward", "X-Inlets-Upstream", tt.upstream, "X-Inlets-Mode", "local", "X-Inlets-Client-ID", "tests")
			for _, part := range []string{"hel", "lo\n"} { // messages have no meaning of their own
				if err := ws.Write(a.t.Context(), websocket.MessageBinary, []byte(part)); err != nil {
					a.t.Fatalf("write: %v", err)
				}
			}
			if got := a.readAll(ws); got != "back: hello\n" {
				a.t.Errorf("the service sent %q, want back: hello", got)
			}
			if _, _, exit := s.all(); exit["exit_code"] != 0.0 {
				a.t.Errorf("the service ended with %v", exit)
			}
		})
	}
	for _, tt := range []struct {
		name, upstream string
		status         int
	}{
		{"no address", "", 400},
		{"no port", "127.0.0.1", 400},
		{"the port 0", "127.0.0.1:0", 400},
		{"a port beyond 16 bits", "127.0.0.1:65536", 400},
		{"a relative socket", "unix:x.sock", 400},
		{"a host with a space", "a b:80", 400},
		{"a port that nobody has", "127.0.0.1:1", 502},
		{"a socket that isn't there", "unix:/tmp/none.sock", 502},
	} {
		a.run("refuses "+tt.name, func(a *api) {
			a.refused(tt.status, "", "GET", vm+"/forward", "", append(handshake(), "X-Inlets-Upstream", tt.upstream, "X-Inlets-Mode", "local")...)
		})
	}
	a.run("refuses another mode", func(a *api) {
		a.refused(400, "X-Inlets-Mode", "GET", vm+"/forward", "", append(handshake(), "X-Inlets-Upstream", "127.0.0.1:80", "X-Inlets-Mode", "remote")...)
	})
	for _, route := range []string{"forward", "shell"} {
		a.run(route+" wants an upgrade", func(a *api) { a.refused(426, "WebSocket", "GET", vm+"/"+route, "") })
		a.run(route+" refuses web pages of other sites", func(a *api) {
			a.refused(403, "web page", "GET", vm+"/"+route, "", append(handshake(), "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site")...)
		})
	}
}

// handshake are the headers of a WebSocket's request.
func handshake() []string {
	return []string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==",
	}
}

// The types of a shell's messages.
const (
	shellData      = 1
	shellSize      = 2
	shellShutdown  = 3
	shellHeartbeat = 4
	shellClose     = 5
)

// shellSession is a shell at a terminal.
type shellSession struct {
	a    *api
	ws   *websocket.Conn
	seen strings.Builder // of the terminal
}

func (a *api) shell(vm string, query ...string) *shellSession {
	a.t.Helper()
	return &shellSession{a: a, ws: a.socket(vm + "/shell" + params(query...))}
}

func (s *shellSession) send(kind byte, payload string) {
	s.a.t.Helper()
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	if err := s.ws.Write(s.a.t.Context(), websocket.MessageBinary, append(message, payload...)); err != nil {
		s.a.t.Fatalf("shell: send %d %q: %v", kind, payload, err)
	}
}

// next reads one message; ok is false when the socket was closed in order.
func (s *shellSession) next() (kind byte, payload string, ok bool) {
	s.a.t.Helper()
	ctx, cancel := context.WithTimeout(s.a.t.Context(), callLimit)
	defer cancel()
	of, message, err := s.ws.Read(ctx)
	if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
		return 0, "", false
	}
	if err != nil || of != websocket.MessageBinary || len(message) < 5 || int(binary.BigEndian.Uint32(message[1:])) != len(message)-5 {
		s.a.t.Fatalf("shell: message %q, %v after %q, want 5 bytes of header and as much payload as they say", message, err, s.seen.String())
	}
	return message[0], string(message[5:]), true
}

// want reads until the terminal has shown text.
func (s *shellSession) want(text string) {
	s.a.t.Helper()
	for !strings.Contains(s.seen.String(), text) {
		kind, payload, ok := s.next()
		if !ok || kind != shellData {
			s.a.t.Fatalf("shell: message %d %q, %v with %q on the terminal, want %q", kind, payload, ok, s.seen.String(), text)
		}
		s.seen.WriteString(payload)
	}
	s.seen.Reset()
}

// testShell tests shells at a terminal.
func testShell(a *api) {
	vm := a.furnishedVM()
	a.run("has a terminal whose size the client sets", func(a *api) {
		s := a.shell(vm)
		s.send(shellData, "tty\n")
		s.want("/dev/pts/")
		s.send(shellData, "stty size\n")
		s.want("24 80")
		s.send(shellSize, "\x00\x21\x00\x4d")
		s.send(shellData, "stty size\n")
		s.want("33 77")
		s.send(shellSize, "\x00\x00\x00\x0b\x00\x00\x00\x16")
		s.send(shellData, "stty size\n")
		s.want("11 22")
	})
	a.run("answers a heartbeat with its payload", func(a *api) {
		s := a.shell(vm)
		s.send(shellHeartbeat, "beat")
		for {
			kind, payload, ok := s.next()
			if !ok {
				a.t.Fatal("the session ended without an answer to the heartbeat")
			}
			if kind == shellHeartbeat {
				if payload != "beat" {
					a.t.Errorf("heartbeat = %q, want its payload", payload)
				}
				return
			}
		}
	})
	for _, kind := range []byte{shellShutdown, shellClose} {
		a.run("ends with the client's message of type "+string('0'+kind), func(a *api) {
			s := a.shell(vm)
			s.send(kind, "")
			s.wantClose()
		})
	}
	a.run("ends with its shell", func(a *api) {
		s := a.shell(vm)
		s.send(shellData, "exit\n")
		s.wantClose()
	})
	a.run("is of the user, in the folder and of the shell that are asked for", func(a *api) {
		s := a.shell(vm, "uid", "0", "gid", "0", "cwd", "/tmp", "shell", "/bin/sh")
		s.send(shellData, "where\n")
		s.want("0 0 /tmp")
	})
	a.run("refused shells", func(a *api) {
		for query, says := range map[string]string{
			"?shell=/no/such/shell": "could not be started", "?uid=root": "uid", "?gid=-1": "gid", "?cwd=tmp": "cwd", "?shell=a%00b": "NUL",
		} {
			a.refused(http.StatusBadRequest, says, "GET", vm+"/shell"+query, "", handshake()...)
		}
	})
}

// wantClose reads until the session is over: a message says so, and then the
// socket is closed.
func (s *shellSession) wantClose() {
	s.a.t.Helper()
	closed := false
	for {
		kind, payload, ok := s.next()
		if !ok {
			break
		}
		if closed {
			s.a.t.Errorf("shell: message %d %q after the session's end", kind, payload)
		}
		closed = kind == shellClose
	}
	if !closed {
		s.a.t.Error("shell: the socket is closed without a message that the session is over")
	}
}
