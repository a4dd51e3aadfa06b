package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

// dial is a connection to w, for what an http.Client doesn't do.
func (w *web) dial() net.Conn {
	w.t.Helper()
	conn, err := w.client.Transport.(*http.Transport).DialContext(context.Background(), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func TestHTTPBodyThatDoesNotComeHoldsNothing(t *testing.T) {
	const token = "0123456789abcdef"
	const auth = "Authorization: Bearer " + token + "\r\n"
	tests := []struct {
		name, head, headers string
		want                int
	}{
		{"of a caller without a token", "POST /mcp", "", 401},
		{"of a foreign page", "POST /mcp", "Origin: https://evil.example\r\n", 403},
		{"at a path that isn't there", "POST /nothing", auth, 404},
		{"of a method that isn't taken", "PUT /mcp", auth, 405},
		{"of another content type", "POST /mcp", auth + "Content-Type: text/plain\r\n", 415},
		{"of a stream", "GET /sse", auth, 400},
		{"of a page", "GET /healthz", auth, 400},
	}
	for _, tt := range tests {
		for name, length := range map[string]string{"announced": "Content-Length: 9\r\n", "in chunks": "Transfer-Encoding: chunked\r\n"} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{Token: token})
					conn := w.dial()
					defer conn.Close()
					began := time.Now()
					if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", tt.head, tt.headers, length); err != nil {
						t.Fatal(err)
					}
					conn.SetReadDeadline(began.Add(time.Hour)) //nolint:errcheck // a pipe's
					got, err := io.ReadAll(conn)
					if want := fmt.Sprintf("HTTP/1.1 %d ", tt.want); !bytes.HasPrefix(got, []byte(want)) {
						t.Errorf("the answer is %.40q, want %q", got, want)
					}
					if took := time.Since(began); err != nil || took > time.Minute {
						t.Errorf("the connection ended after %s with %v, want a minute at most", took, err)
					}
					w.close()
				})
			})
		}
	}
}

func TestHTTPCloseDoesNotWaitForABody(t *testing.T) {
	for name, head := range map[string]string{
		"of a message": "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
		"of a page":    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{})
				conn := w.dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, head); err != nil {
					t.Fatal(err)
				}
				got := make(chan string)
				go func() {
					line, _ := bufio.NewReader(conn).ReadString('\n') // its end shows in what it is
					got <- line
				}()
				synctest.Wait()
				began := time.Now()
				closed := make(chan error)
				go func() { closed <- w.h.Close(t.Context()) }()
				if line := <-got; !strings.HasPrefix(line, "HTTP/1.1 ") {
					t.Errorf("the answer is %q, want a status", line)
				}
				if err := <-closed; err != nil {
					t.Errorf("Close() = %v", err)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("Close() took %s, want that it doesn't wait", took)
				}
				w.close()
			})
		})
	}
}

func TestHTTPBodyNobodyWantsIsTaken(t *testing.T) {
	w := newWeb(t, newWebFixture(), serve.HTTPOptions{})
	if a := w.do("GET", "/healthz", "hello"); a.status != http.StatusOK {
		t.Errorf("GET /healthz with a body = %d, want 200", a.status)
	}
}

func TestHTTPAnswerThatIsNotReadHoldsNothing(t *testing.T) {
	long := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 1<<20)) //nolint:errcheck // it fails
	})
	tests := []struct{ name, request string }{
		{"a refusal", "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"a page", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"a long page", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"the end of an answer", fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(initialize), initialize)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWeb(t, newWebFixture(), serve.HTTPOptions{Metrics: long})
				conn := w.dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, tt.request); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				conn.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // a pipe's
				if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
					t.Errorf("after two minutes there came %d bytes and %v, want the connection's end", len(got), err)
				}
				w.close()
			})
		})
	}
}
