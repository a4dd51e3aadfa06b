package daemon_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// The types of a shell's messages.
const (
	shellData, shellSize, shellShutdown, shellHeartbeat, shellClose = 1, 2, 3, 4, 5
)

// shellClient is a client's side of a shell.
type shellClient struct {
	t  *testing.T
	ws *websocket.Conn
}

func (a *api) shell(vm, query string) *shellClient {
	a.t.Helper()
	return &shellClient{a.t, a.socket("/vm/" + vm + "/shell" + query)}
}

func (c *shellClient) send(kind byte, payload string) {
	c.t.Helper()
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	if err := c.ws.Write(c.t.Context(), websocket.MessageBinary, append(message, payload...)); err != nil {
		c.t.Errorf("send message %d: %v", kind, err)
	}
}

// next is the next message; at the end its kind is 0 and the text the close's
// code.
func (c *shellClient) next() (kind byte, payload string) {
	c.t.Helper()
	_, message, err := c.ws.Read(context.WithoutCancel(c.t.Context()))
	if err != nil {
		return 0, fmt.Sprint(int(websocket.CloseStatus(err)))
	}
	if len(message) < 5 || int(binary.BigEndian.Uint32(message[1:])) != len(message)-5 {
		c.t.Fatalf("message %q, want a header and as much payload as it says", message)
	}
	return message[0], string(message[5:])
}

func (c *shellClient) want(kind byte, payload string) {
	c.t.Helper()
	if k, p := c.next(); k != kind || p != payload {
		c.t.Fatalf("message = %d %q, want %d %q", k, p, kind, payload)
	}
}

func TestShell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{
				"whoami": func(_ context.Context, p *slicertest.Proc) int {
					fmt.Fprintf(p.Stdout, "%d:%d %s TERM=%s", p.UID, p.GID, p.Dir, p.Getenv("TERM"))
					return 0
				},
				"size": func(_ context.Context, p *slicertest.Proc) int {
					rows, cols, _ := p.Terminal.Size()
					fmt.Fprintf(p.Stderr, "%dx%d", rows, cols)
					return 0
				},
			},
		})
		defer a.srv.Close()
		vm := a.create(`{}`)
		for _, tt := range []struct{ query, want string }{
			{"", "1000:1000 /home/ubuntu TERM=xterm-256color"},
			{"?uid=0&cwd=/tmp&shell=/bin/sh", "0:0 /tmp TERM=xterm-256color"},
			{"?uid=1001&gid=7&cwd=/", "1001:7 / TERM=xterm-256color"},
		} {
			c := a.shell(vm, tt.query)
			c.send(shellData, "whoami\n")
			c.want(shellData, tt.want)
			c.send(shellHeartbeat, "alive?")
			c.want(shellHeartbeat, "alive?")
			c.send(shellData, "size\n")
			c.want(shellData, "24x80")
			for _, payload := range []string{
				"\x00\x32\x00\x64",                 // 16 bits each
				"\x00\x00\x00\x32\x00\x00\x00\x64", // 32 bits each
				"\x00\x32\x00\x64\x03\x20\x02\x58", // a winsize
			} {
				c.send(shellSize, "\x00\x01\x00\x01")
				c.send(shellSize, payload)
				c.send(shellData, "size\n")
				c.want(shellData, "50x100")
			}
			c.send(shellData, "exit 3\n")
			c.want(shellClose, "")
			c.want(0, "1000")
		}
	})
}

func TestShellEndsWithItsClient(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(a *api, vm string, c *shellClient)
		want slicertest.Signal
	}{
		{"session close", func(_ *api, _ string, c *shellClient) { c.send(shellClose, "") }, "HUP"},
		{"shutdown", func(_ *api, _ string, c *shellClient) { c.send(shellShutdown, "") }, "HUP"},
		{"close", func(_ *api, _ string, c *shellClient) { _ = c.ws.Close(websocket.StatusNormalClosure, "") }, "HUP"},
		{"gone", func(_ *api, _ string, c *shellClient) { _ = c.ws.CloseNow() }, "HUP"},
		{"the VM is deleted", func(a *api, vm string, _ *shellClient) {
			a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		}, ""}, // HUP and KILL race
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				a := newAPI(t, slicertest.Options{
					Network: slicertest.Pipe,
					Programs: map[string]slicertest.Program{"bash": func(ctx context.Context, p *slicertest.Proc) int {
						fmt.Fprint(p.Stdout, "ready")
						// Neither what isn't read nor what isn't shown holds it up.
						_, _ = io.WriteString(p.Stdout, strings.Repeat("x", 1<<20))
						<-ctx.Done()
						ended <- context.Cause(ctx)
						return 0
					}},
				})
				defer a.srv.Close()
				vm := a.create(`{}`)
				c := a.shell(vm, "")
				c.want(shellData, "ready")
				begin := time.Now()
				go func() {
					for kind, _ := c.next(); kind != 0; kind, _ = c.next() {
						continue
					}
				}()
				tt.end(a, vm, c)
				if got := <-ended; tt.want != "" && !errors.Is(got, tt.want) {
					t.Errorf("the shell ended with %v, want %v", got, tt.want)
				}
				a.srv.Close()
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("the session ended after %s", took)
				}
			})
		})
	}
}

func TestShellOutputAtTheEndArrives(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"bash": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, strings.Repeat("0123456789", 50_000))
			return 0
		},
	}})
	c := a.shell(a.create(`{}`), "")
	var got strings.Builder
	kind, payload := c.next()
	for ; kind == shellData; kind, payload = c.next() {
		got.WriteString(payload)
	}
	if kind != shellClose || got.String() != strings.Repeat("0123456789", 50_000) {
		t.Errorf("the shell showed %d bytes, then message %d, want all 500000, then a close", got.Len(), kind)
	}
}

func TestBadShellMessagesEndTheSession(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    websocket.MessageType
		message string
		code    string
	}{
		{"empty", websocket.MessageBinary, "", "1002"},
		{"half a header", websocket.MessageBinary, "\x01\x00", "1002"},
		{"more payload than it says", websocket.MessageBinary, "\x01\x00\x00\x00\x01ab", "1002"},
		{"less payload than it says", websocket.MessageBinary, "\x01\xff\xff\xff\xffab", "1002"},
		{"unknown type", websocket.MessageBinary, "\x09\x00\x00\x00\x00", "1002"},
		{"a window of no size", websocket.MessageBinary, "\x02\x00\x00\x00\x04\x00\x00\x00\x00", "1002"},
		{"a window size that is cut", websocket.MessageBinary, "\x02\x00\x00\x00\x02\x00\x18", "1002"},
		{"text", websocket.MessageText, "\x01\x00\x00\x00\x01a", "1002"},
		{"more than 1 MiB", websocket.MessageBinary, "\x01\x00\x10\x00\x01" + strings.Repeat("a", 1<<20+1), "1009"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
				defer a.srv.Close()
				c := a.shell(a.create(`{}`), "")
				go func() { _ = c.ws.Write(t.Context(), tt.kind, []byte(tt.message)) }()
				kind, code := c.next()
				if kind == shellClose {
					kind, code = c.next()
				}
				if kind != 0 || code != tt.code {
					t.Errorf("after %q came message %d, close %s, want close %s", tt.name, kind, code, tt.code)
				}
			})
		})
	}
}

func TestShellOfAPausedVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		c := a.shell(vm, "")
		a.want(200, "POST", "/vm/"+vm+"/pause", "")
		c.send(shellHeartbeat, "")
		c.want(shellHeartbeat, "")
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
		c.send(shellData, "echo back\n")
		c.want(shellData, "back\n")
	})
}

// leftoverGuest is a guest whose shell ends at once and leaves something behind
// that holds the terminal open.
type leftoverGuest struct {
	*brokenGuest
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func (g *leftoverGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }

func (g *leftoverGuest) Terminal(context.Context, *daemon.Command, daemon.TerminalSize) (daemon.Terminal, error) {
	return g, nil
}

func (g *leftoverGuest) Wait() (daemon.ExitStatus, error) { return daemon.ExitStatus{}, nil }
func (g *leftoverGuest) Resize(daemon.TerminalSize) error { return nil }
func (g *leftoverGuest) Write(p []byte) (int, error)      { return len(p), nil }
func (g *leftoverGuest) Close() error                     { g.once.Do(func() { close(g.closed) }); return nil }
func (g *leftoverGuest) hold(_ []byte) (int, error)       { <-g.closed; return 0, io.EOF }

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestShellEndsThoughSomethingHoldsItsTerminal(t *testing.T) {
	g := &leftoverGuest{brokenGuest: &brokenGuest{done: make(chan struct{})}, closed: make(chan struct{})}
	g.Reader = io.MultiReader(strings.NewReader("logout"), readFunc(g.hold))
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	srv := httptest.NewServer(d)
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
		srv.Close()
	})
	(&api{t: t, handler: d}).create(`{}`)
	ws, _, err := websocket.Dial(t.Context(), srv.URL+"/vm/sbox-1/shell", nil) //nolint:bodyclose // Dial closes it
	if err != nil {
		t.Fatalf("shell = %v", err)
	}
	c := &shellClient{t, ws}
	begin := time.Now()
	c.want(shellData, "logout")
	c.want(shellClose, "")
	c.want(0, "1000")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the session ended after %s, want soon after the shell", took)
	}
}
