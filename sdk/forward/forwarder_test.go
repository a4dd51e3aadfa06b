package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/forward"
)

// forwarding is a Serve under fake time, for a listener in memory.
type forwarding struct {
	*daemon
	local  *pipeListener
	cancel context.CancelFunc
	ended  chan error
	log    syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// forwardBubble runs a test of a forwarding to a daemon whose forward route is
// handle; a goroutine that is left at the end fails it.
func forwardBubble(t *testing.T, opts forward.Options, handle func(r *http.Request, ws *websocket.Conn), test func(t *testing.T, f *forwarding)) {
	t.Helper()
	bubble(t, handle, func(t *testing.T, d *daemon) {
		f := &forwarding{daemon: d, local: newPipeListener(), ended: make(chan error, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		f.cancel = cancel
		opts.Log = slog.New(slog.NewTextHandler(&f.log, nil))
		remote := forward.Endpoint{Network: "tcp", Address: "127.0.0.1:80"}
		go func() { f.ended <- forward.Serve(ctx, f.local, d.client, "vm-1", remote, opts) }()
		test(t, f)
		cancel()
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve = %v, want the context's error", err)
		}
		if _, err := f.local.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Serve = %v, want that Serve has closed the listener", err)
		}
	})
}

// connect returns the program's end of a new connection to the forwarding.
func (f *forwarding) connect(t *testing.T) *half {
	t.Helper()
	near, far := newHalves()
	if err := f.local.give(t.Context(), far); err != nil {
		t.Fatalf("connect to the forwarding: %v", err)
	}
	return near
}

func TestForwardingCarriesBothWays(t *testing.T) {
	forwardBubble(t, forward.Options{}, echo, func(t *testing.T, f *forwarding) {
		for range 3 {
			conn := f.connect(t)
			if got, err := exchange(conn, "hello"); err != nil || got != "hello" {
				t.Errorf("echo = %q, %v, want what was written", got, err)
			}
			conn.Close()
		}
	})
}

// answerLate answers each message after a pause, as often as it says.
func answerLate(pauses ...time.Duration) func(*http.Request, *websocket.Conn) {
	return func(_ *http.Request, ws *websocket.Conn) {
		if _, _, err := ws.Read(context.Background()); err != nil {
			return
		}
		ctx := ws.CloseRead(context.Background())
		for _, pause := range pauses {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			if ws.Write(ctx, websocket.MessageBinary, []byte("answer ")) != nil {
				return
			}
		}
		<-ctx.Done()
	}
}

func TestHalfCloseOfThisSide(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pauses []time.Duration
		want   string
		after  time.Duration
	}{
		{"answers that keep coming arrive", []time.Duration{8 * time.Second, 8 * time.Second, 8 * time.Second}, "answer answer answer ", 34 * time.Second},
		{"a silent other side is closed", nil, "", 10 * time.Second},
		{"an answer after the pause is lost", []time.Duration{time.Second, 11 * time.Second}, "answer ", 11 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forwardBubble(t, forward.Options{}, answerLate(tt.pauses...), func(t *testing.T, f *forwarding) {
				conn := f.connect(t)
				defer conn.Close()
				if _, err := conn.Write([]byte("question")); err != nil {
					t.Fatalf("Write = %v", err)
				}
				if err := conn.CloseWrite(); err != nil {
					t.Fatalf("CloseWrite = %v", err)
				}
				start := time.Now()
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != tt.want {
					t.Errorf("Read = %q, %v, want %q", got, err, tt.want)
				}
				if took := time.Since(start); took != tt.after {
					t.Errorf("the connection ended after %s, want %s", took, tt.after)
				}
			})
		})
	}
}

func TestLingerIsAnOption(t *testing.T) {
	forwardBubble(t, forward.Options{Linger: time.Minute}, answerLate(), func(t *testing.T, f *forwarding) {
		conn := f.connect(t)
		defer conn.Close()
		if err := conn.CloseWrite(); err != nil {
			t.Fatalf("CloseWrite = %v", err)
		}
		start := time.Now()
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("Read = %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the connection ended after %s, want 1m", took)
		}
	})
}

func TestCloseOfTheOtherSide(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*http.Request, *websocket.Conn)
	}{
		{"with a close frame", closeWith(websocket.StatusNormalClosure, "")},
		{"without one", func(*http.Request, *websocket.Conn) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handle := func(r *http.Request, ws *websocket.Conn) {
				_ = ws.Write(context.Background(), websocket.MessageBinary, []byte("bye"))
				tt.end(r, ws)
			}
			forwardBubble(t, forward.Options{}, handle, func(t *testing.T, f *forwarding) {
				conn := f.connect(t)
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != "bye" {
					t.Errorf("Read = %q, %v, want all that was sent and the end", got, err)
				}
				// This side may still be sending, and isn't cut at once.
				if _, err := conn.Write([]byte("too late")); err != nil {
					t.Errorf("Write after the other side's end = %v, want that it is dropped", err)
				}
				conn.Close()
			})
		})
	}
}

func TestTheEndOfTheContextCutsConnections(t *testing.T) {
	stall := func(_ *http.Request, ws *websocket.Conn) { <-ws.CloseRead(context.Background()).Done() }
	forwardBubble(t, forward.Options{}, stall, func(t *testing.T, f *forwarding) {
		conn := f.connect(t)
		defer conn.Close()
		synctest.Wait()
		start := time.Now()
		f.cancel()
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("Read = %v", err)
		}
		err := <-f.ended
		if took := time.Since(start); took != 0 {
			t.Errorf("Serve took %s to end, want no time", took)
		}
		f.ended <- err
	})
}

func TestTheEndOfTheContextDoesNotWaitForAStalledDaemon(t *testing.T) {
	stall := func(*http.Request, *websocket.Conn) { time.Sleep(time.Hour) }
	forwardBubble(t, forward.Options{}, stall, func(t *testing.T, f *forwarding) {
		conn := f.connect(t)
		defer conn.Close()
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = conn.Write(make([]byte, 1<<20)) // until the connection is cut
		}()
		synctest.Wait()
		start := time.Now()
		f.cancel()
		err := <-f.ended
		if took := time.Since(start); took != 0 {
			t.Errorf("Serve took %s to end, want no time", took)
		}
		f.ended <- err
		<-written
		time.Sleep(2 * time.Hour)
	})
}

// slowConn takes its time to close.
type slowConn struct{ *half }

func (c slowConn) Close() error {
	time.Sleep(time.Second)
	return c.half.Close()
}

func TestServeReturnsWhenNothingIsLeft(t *testing.T) {
	forwardBubble(t, forward.Options{}, echo, func(t *testing.T, f *forwarding) {
		near, far := newHalves()
		defer near.Close()
		if err := f.local.give(t.Context(), slowConn{far}); err != nil {
			t.Fatalf("connect: %v", err)
		}
		synctest.Wait()
		start := time.Now()
		f.cancel()
		err := <-f.ended
		if took := time.Since(start); took < time.Second {
			t.Errorf("Serve took %s to end, want that it waits for a connection that takes 1s to close", took)
		}
		f.ended <- err
	})
}

func TestAStarIsEveryInterface(t *testing.T) {
	f := start(t, forward.Endpoint{Network: "tcp", Address: "*:0"}, forward.Endpoint{Network: "tcp", Address: "127.0.0.1:80"})
	if addr, ok := f.Addr().(*net.TCPAddr); !ok || !addr.IP.IsUnspecified() {
		t.Errorf("Addr() = %v, want every interface's", f.Addr())
	}
}

func TestAConnectionThatCannotBeMadeIsClosedAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "vm-1") {
				http.Error(w, `{"error":"connection refused"}`, http.StatusBadGateway)
				return
			}
			<-r.Context().Done()
		}))
		var log syncBuffer
		for _, tt := range []struct {
			vm, logged string
			after      time.Duration
		}{
			{"vm-1", "connection refused", 0},
			{"stalled", "did not answer within 30s", 30 * time.Second},
		} {
			local := newPipeListener()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- forward.Serve(ctx, local, d.client, tt.vm, forward.Endpoint{Network: "unix", Address: "/run/x"}, forward.Options{
					Log: slog.New(slog.NewTextHandler(&log, nil)),
				})
			}()
			near, far := newHalves()
			if err := local.give(ctx, far); err != nil {
				t.Fatalf("connect: %v", err)
			}
			start := time.Now()
			got, err := io.ReadAll(near)
			if len(got) != 0 || time.Since(start) != tt.after {
				t.Errorf("Read = %q, %v after %s, want the end after %s", got, err, time.Since(start), tt.after)
			}
			near.Close()
			synctest.Wait()
			if !strings.Contains(log.String(), tt.logged) {
				t.Errorf("log = %q, want %q in it", log.String(), tt.logged)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Serve = %v, want the context's error", err)
			}
		}
		d.stop()
	})
}

func TestMaxConns(t *testing.T) {
	forwardBubble(t, forward.Options{MaxConns: 2}, echo, func(t *testing.T, f *forwarding) {
		first, second := f.connect(t), f.connect(t)
		defer second.Close()
		third := make(chan *half)
		go func() {
			near, far := newHalves()
			if err := f.local.give(context.Background(), far); err != nil {
				t.Errorf("connect: %v", err)
			}
			third <- near
		}()
		synctest.Wait()
		select {
		case <-third:
			t.Error("a third connection was accepted beside two, want that it waits")
		default:
		}
		first.Close()
		conn := <-third
		defer conn.Close()
		if got, err := exchange(conn, "x"); err != nil || got != "x" {
			t.Errorf("echo over the third connection = %q, %v, want what was written", got, err)
		}
	})
}

func TestServeEndsWithItsListener(t *testing.T) {
	bubble(t, echo, func(t *testing.T, d *daemon) {
		local := newPipeListener()
		local.Close()
		err := forward.Serve(t.Context(), local, d.client, "vm-1", forward.Endpoint{Network: "tcp", Address: "x:1"}, forward.Options{})
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve of a closed listener = %v, want net.ErrClosed", err)
		}
		err = forward.Serve(t.Context(), newPipeListener(), d.client, "vm-1", forward.Endpoint{Network: "udp", Address: "x:1"}, forward.Options{})
		if err == nil || !strings.Contains(err.Error(), "tcp or unix") {
			t.Errorf("Serve to udp = %v, want a refusal", err)
		}
	})
}

// The TCP connection of a program whose connection in the VM can't be made ends
// with an error, which a client can't take for an empty answer.
func TestAFailureResetsTCP(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.Handler
	}{
		{"no connection in the VM", http.NotFoundHandler()},
		{"a failure of the daemon", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err == nil {
				_ = ws.Close(websocket.StatusInternalError, "boom")
			}
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dialled := make(chan struct{})
			d := startHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-dialled
				tt.handler.ServeHTTP(w, r)
			}))
			t.Cleanup(d.stop)
			f, err := forward.Start(t.Context(), d.client, "vm-1", forward.Spec{
				Local: forward.Endpoint{Network: "tcp", Address: "127.0.0.1:0"}, Remote: forward.Endpoint{Network: "tcp", Address: "x:1"},
			}, forward.Options{})
			if err != nil {
				t.Fatalf("Start = %v", err)
			}
			defer f.Close()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.Addr().String())
			if err != nil {
				t.Fatalf("Dial(%s) = %v", f.Addr(), err)
			}
			defer conn.Close()
			close(dialled)
			if _, err := io.ReadAll(conn); err == nil {
				t.Error("Read = the end, want an error")
			}
		})
	}
}

func TestManyConnectionsAtOnce(t *testing.T) {
	forwardBubble(t, forward.Options{}, echo, func(t *testing.T, f *forwarding) {
		var group sync.WaitGroup
		for range 100 {
			conn := f.connect(t)
			group.Go(func() {
				defer conn.Close()
				text := strings.Repeat("x", 10_000)
				go func() { _, _ = io.WriteString(conn, text) }()
				got := make([]byte, len(text))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
					t.Errorf("echo = %d bytes, %v, want what was written", len(got), err)
				}
			})
		}
		group.Wait()
	})
}
