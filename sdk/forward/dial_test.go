package forward_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/forward"
)

func mustDial(t *testing.T, d *daemon) net.Conn {
	t.Helper()
	conn, err := forward.DialContext(t.Context(), d.client, "vm-1", "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatalf("DialContext(127.0.0.1:80) = %v", err)
	}
	return conn
}

func TestDialSendsTheHandshake(t *testing.T) {
	for _, tt := range []struct{ name, network, address, upstream string }{
		{"tcp", "tcp", "db:5432", "db:5432"},
		{"tcp without a host", "tcp", ":80", "127.0.0.1:80"},
		{"tcp over IPv6", "tcp", "[::1]:80", "[::1]:80"},
		{"unix", "unix", "/run/x.sock", "unix:/run/x.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requests := make(chan *http.Request, 1)
			handle := func(r *http.Request, ws *websocket.Conn) { requests <- r; echo(r, ws) }
			bubble(t, handle, func(t *testing.T, d *daemon) {
				conn, err := forward.DialContext(t.Context(), d.client, "a/b", tt.network, tt.address)
				if err != nil {
					t.Fatalf("DialContext(%q, %q) = %v", tt.network, tt.address, err)
				}
				defer conn.Close()
				r := <-requests
				got := []string{
					r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Authorization"),
					r.Header.Get("X-Inlets-Upstream"), r.Header.Get("X-Inlets-Mode"),
				}
				want := []string{"GET", "/prefix/vm/a%2Fb/forward", "", "Bearer t0ken", tt.upstream, "local"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
				if r.Header.Get("X-Inlets-Client-ID") == "" {
					t.Error("X-Inlets-Client-ID is empty, want an id")
				}
				if got := conn.RemoteAddr(); got.Network() != tt.network || !strings.HasSuffix(tt.upstream, got.String()) {
					t.Errorf("RemoteAddr() = %s %s, want %s %s", got.Network(), got, tt.network, tt.upstream)
				}
				if got := conn.LocalAddr().String(); got != "a/b" {
					t.Errorf("LocalAddr() = %q, want the VM's name", got)
				}
			})
		})
	}
}

func TestDialRefusesAddresses(t *testing.T) {
	client := slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)
	for _, tt := range []struct{ name, network, address, want string }{
		{"no port", "tcp", "localhost", "missing port"},
		{"the port 0", "tcp", "localhost:0", "from 1 to 65535"},
		{"a service's name", "tcp", "localhost:http", "from 1 to 65535"},
		{"a relative socket", "unix", "x.sock", "absolute"},
		{"another network", "udp", "localhost:53", "must be tcp or unix"},
		{"a header of one's own", "unix", "/x\r\nX-Y: z", "control characters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := forward.DialContext(t.Context(), client, "vm-1", tt.network, tt.address)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("DialContext(%q, %q) = %v, want an error with %q", tt.network, tt.address, err, tt.want)
			}
		})
	}
}

func TestDialReportsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, `{"error":"dial 127.0.0.1:80: connection refused"}`)
		}))
		defer d.stop()
		_, err := forward.DialContext(t.Context(), d.client, "vm-1", "tcp", "127.0.0.1:80")
		if !slicer.IsAPIStatus(err, http.StatusBadGateway) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("DialContext = %v, want an APIError with 502 and the daemon's words", err)
		}
	})
}

func TestDialWantsAChangeOfProtocol(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		handler    http.HandlerFunc
	}{
		{"an ordinary answer", "not with a change of protocol", func(http.ResponseWriter, *http.Request) {}},
		{"another protocol", "Upgrade", func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: spdy\r\n\r\n")
			_ = rw.Flush()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startHandler(tt.handler)
				defer d.stop()
				conn, err := forward.DialContext(t.Context(), d.client, "vm-1", "tcp", "127.0.0.1:80")
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("DialContext = %v, %v, want an error with %q", conn, err, tt.want)
				}
			})
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := forward.DialContext(ctx, d.client, "vm-1", "tcp", "127.0.0.1:80")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("DialContext = %v after %s, want the context's error after 3s", err, time.Since(start))
		}
		d.stop()
	})
}

func TestConnOutlivesTheDialsContextAndTheClientsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startDaemon(echo)
		client := slicer.NewSlicerClient("http://pipe", "", "", &http.Client{
			Timeout: time.Second, Transport: &http.Transport{DialContext: d.listener.dial},
		})
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := forward.DialContext(ctx, client, "vm-1", "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatalf("DialContext = %v", err)
		}
		cancel()
		time.Sleep(time.Hour)
		if got, err := exchange(conn, "still there"); err != nil || got != "still there" {
			t.Errorf("echo after an hour = %q, %v, want what was written", got, err)
		}
		conn.Close()
		client.CloseIdleConnections()
		d.stop()
	})
}

// exchange writes text and reads as many bytes back.
func exchange(conn net.Conn, text string) (string, error) {
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	buf := make([]byte, len(text))
	n, err := io.ReadFull(conn, buf)
	return string(buf[:n]), err
}

func TestConnCarriesManyBytesBothWays(t *testing.T) {
	bubble(t, echo, func(t *testing.T, d *daemon) {
		conn := mustDial(t, d)
		defer conn.Close()
		sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB in one Write
		wrote := make(chan error, 1)
		go func() {
			n, err := conn.Write(sent)
			if n != len(sent) {
				err = errors.Join(err, fmt.Errorf("wrote %d bytes", n))
			}
			wrote <- err
		}()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Errorf("Read = %v", err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("Write of %d bytes = %v", len(sent), err)
		}
		if !bytes.Equal(sent, got) {
			t.Error("Read returned other bytes than were written")
		}
	})
}

// A daemon may take messages of 32 KiB and no longer ones.
func TestMessagesAreShort(t *testing.T) {
	var longest, total int
	handle := func(_ *http.Request, ws *websocket.Conn) {
		for {
			_, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			longest, total = max(longest, len(data)), total+len(data)
		}
	}
	bubble(t, handle, func(t *testing.T, d *daemon) {
		conn := mustDial(t, d)
		if n, err := conn.Write(make([]byte, 200_000)); n != 200_000 || err != nil {
			t.Errorf("Write = %d, %v, want 200000 bytes", n, err)
		}
		conn.Close()
		d.stop()
		if longest > 32<<10 || total != 200_000 {
			t.Errorf("the daemon received %d bytes in messages of up to %d, want 200000 in messages of up to 32768", total, longest)
		}
	})
}

// What a test's daemon does, and what Read then returns.
func TestReadTellsHowTheConnectionEnded(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(r *http.Request, ws *websocket.Conn)
		is   error
		text string
	}{
		{"a normal close", closeWith(websocket.StatusNormalClosure, ""), io.EOF, ""},
		{"going away", closeWith(websocket.StatusGoingAway, "bye"), io.EOF, ""},
		{"no close frame", func(*http.Request, *websocket.Conn) {}, io.ErrUnexpectedEOF, ""},
		{"a failure of the daemon", closeWith(websocket.StatusInternalError, "boom\x1b"), nil, `status 1011: "boom\x1b"`},
		{"a text message", func(_ *http.Request, ws *websocket.Conn) {
			_ = ws.Write(context.Background(), websocket.MessageText, []byte("hello"))
			_, _, _ = ws.Read(context.Background())
		}, nil, "not binary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handle := func(r *http.Request, ws *websocket.Conn) {
				_ = ws.Write(context.Background(), websocket.MessageBinary, []byte("last words"))
				tt.end(r, ws)
			}
			bubble(t, handle, func(t *testing.T, d *daemon) {
				conn := mustDial(t, d)
				defer conn.Close()
				got, err := io.ReadAll(conn)
				if string(got) != "last words" {
					t.Errorf("Read = %q before the end, want all that was sent", got)
				}
				_, err2 := conn.Read(make([]byte, 1))
				if errors.Is(tt.is, io.EOF) {
					if err != nil || !errors.Is(err2, io.EOF) {
						t.Errorf("Read = %v, then %v, want io.EOF", err, err2)
					}
					return
				}
				if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("Read = %v, want %v with %q", err, tt.is, tt.text)
				}
				if !errors.Is(err2, err) {
					t.Errorf("Read = %v, then %v, want the same again", err, err2)
				}
			})
		})
	}
}

func closeWith(code websocket.StatusCode, reason string) func(*http.Request, *websocket.Conn) {
	return func(_ *http.Request, ws *websocket.Conn) { _ = ws.Close(code, reason) }
}

func TestAMessageThatIsTooLongEndsTheConnection(t *testing.T) {
	handle := func(_ *http.Request, ws *websocket.Conn) {
		w, err := ws.Writer(context.Background(), websocket.MessageBinary)
		if err != nil {
			return
		}
		chunk := make([]byte, 1<<20)
		for range 32 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		_ = w.Close()
	}
	bubble(t, handle, func(t *testing.T, d *daemon) {
		conn := mustDial(t, d)
		defer conn.Close()
		n, err := io.Copy(io.Discard, conn)
		if err == nil || n > 17<<20 {
			t.Errorf("Read = %d bytes, %v, want an error after at most 16 MiB", n, err)
		}
	})
}

func TestAReaderThatPausesHoldsUpTheSender(t *testing.T) {
	written := make(chan int, 1000)
	handle := func(_ *http.Request, ws *websocket.Conn) {
		for range 100 {
			if ws.Write(context.Background(), websocket.MessageBinary, make([]byte, 32<<10)) != nil {
				return
			}
			written <- 32 << 10
		}
	}
	bubble(t, handle, func(t *testing.T, d *daemon) {
		conn := mustDial(t, d)
		synctest.Wait()
		// The pipe under HTTP holds nothing; what is on the way is in buffers.
		if got := len(written); got > 4 {
			t.Errorf("the daemon wrote %d messages to a reader that doesn't read, want at most 4", got)
		}
		conn.Close()
	})
}

func TestDeadlines(t *testing.T) {
	t.Run("a read that runs into its deadline can be tried again", func(t *testing.T) {
		bubble(t, echo, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			defer conn.Close()
			for range 2 {
				if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
					t.Fatalf("SetReadDeadline = %v", err)
				}
				start := time.Now()
				_, err := conn.Read(make([]byte, 1))
				var timeout net.Error
				if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("Read = %v, want a time-out", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("Read took %s, want 1s", took)
				}
			}
			if err := conn.SetDeadline(time.Time{}); err != nil {
				t.Fatalf("SetDeadline = %v", err)
			}
			if got, err := exchange(conn, "again"); err != nil || got != "again" {
				t.Errorf("echo after the deadline = %q, %v, want what was written", got, err)
			}
		})
	})
	t.Run("a write that is stuck ends at its deadline", func(t *testing.T) {
		stall := func(r *http.Request, _ *websocket.Conn) { time.Sleep(time.Hour) }
		bubble(t, stall, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			defer conn.Close()
			if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatalf("SetWriteDeadline = %v", err)
			}
			start := time.Now()
			if _, err := conn.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write to a daemon that doesn't read = %v, want a time-out", err)
			}
			if took := time.Since(start); took != time.Second {
				t.Errorf("Write took %s, want 1s", took)
			}
			time.Sleep(2 * time.Hour)
		})
	})
	t.Run("a deadline can be moved", func(t *testing.T) {
		bubble(t, echo, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			defer conn.Close()
			if err := conn.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
				t.Fatalf("SetWriteDeadline = %v", err)
			}
			if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write after its deadline = %v, want a time-out", err)
			}
			for _, at := range []time.Time{time.Now().Add(time.Second), time.Now().Add(time.Hour)} {
				if err := conn.SetWriteDeadline(at); err != nil {
					t.Fatalf("SetWriteDeadline = %v", err)
				}
			}
			time.Sleep(time.Minute)
			if got, err := exchange(conn, "moved"); err != nil || got != "moved" {
				t.Errorf("echo before the moved deadline = %q, %v, want what was written", got, err)
			}
			time.Sleep(2 * time.Hour)
			if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write after the moved deadline = %v, want a time-out", err)
			}
		})
	})
}

func TestClose(t *testing.T) {
	t.Run("lets what was written arrive", func(t *testing.T) {
		arrived := make(chan string, 1)
		handle := func(_ *http.Request, ws *websocket.Conn) {
			conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
			data, err := io.ReadAll(conn)
			arrived <- fmt.Sprintf("%d bytes, %v", len(data), err)
		}
		bubble(t, handle, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			if _, err := conn.Write(make([]byte, 100_000)); err != nil {
				t.Errorf("Write = %v", err)
			}
			if err := conn.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			if got, want := <-arrived, "100000 bytes, <nil>"; got != want {
				t.Errorf("the daemon received %s, want %s", got, want)
			}
		})
	})
	t.Run("ends blocked calls and later ones", func(t *testing.T) {
		bubble(t, echo, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			read := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				read <- err
			}()
			synctest.Wait()
			conn.Close()
			_, again := conn.Read(make([]byte, 1))
			_, wrote := conn.Write([]byte("x"))
			for call, err := range map[string]error{
				"blocked Read": <-read, "Read": again, "Write": wrote, "SetDeadline": conn.SetDeadline(time.Time{}),
			} {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s after Close = %v, want net.ErrClosed", call, err)
				}
			}
		})
	})
	t.Run("gives up on a daemon that stalls", func(t *testing.T) {
		stall := func(r *http.Request, _ *websocket.Conn) { time.Sleep(time.Hour) }
		bubble(t, stall, func(t *testing.T, d *daemon) {
			conn := mustDial(t, d)
			wrote := make(chan error, 1)
			go func() {
				_, err := conn.Write(make([]byte, 1<<20))
				wrote <- err
			}()
			synctest.Wait()
			start := time.Now()
			if err := conn.Close(); err == nil {
				t.Error("Close = nil, want an error that tells of the daemon")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("Close took %s, want at most 5s", took)
			}
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write = %v, want net.ErrClosed", err)
			}
			time.Sleep(2 * time.Hour)
		})
	})
}

func TestWriteToASideThatHasClosed(t *testing.T) {
	bubble(t, closeWith(websocket.StatusNormalClosure, ""), func(t *testing.T, d *daemon) {
		conn := mustDial(t, d)
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read = %v, want io.EOF", err)
		}
		if n, err := conn.Write([]byte("x")); err == nil {
			t.Errorf("Write = %d, nil, want an error", n)
		}
	})
}
