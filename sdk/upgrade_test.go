package slicer_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// shout takes a change of protocol to one that answers each byte in upper case.
func shout(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "shout" {
		http.Error(w, "ask for shout", http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	_ = rw.Flush()
	for {
		b, err := rw.ReadByte()
		if err != nil {
			return
		}
		_ = rw.WriteByte(strings.ToUpper(string(b))[0])
		_ = rw.Flush()
	}
}

var shoutHeader = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"shout"}}

func TestUpgradeOutlivesTheClientsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(shout)}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(listener)
		}()
		client := slicer.NewSlicerClient("http://pipe", "", "", &http.Client{
			Timeout: time.Second, Transport: &http.Transport{DialContext: listener.dial},
		})
		resp, err := client.UpgradeVM(t.Context(), "vm-1", "shout", nil, shoutHeader) //nolint:bodyclose // as stream
		if err != nil {
			t.Fatalf("UpgradeVM = %v", err)
		}
		time.Sleep(time.Hour)
		stream := resp.Body.(io.ReadWriteCloser)
		if _, err := io.WriteString(stream, "hi"); err != nil {
			t.Errorf("Write = %v", err)
		}
		got := make([]byte, 2)
		if _, err := io.ReadFull(stream, got); err != nil || string(got) != "HI" {
			t.Errorf("Read = %q, %v, want HI", got, err)
		}
		stream.Close()
		client.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
}

// wrapping is a transport whose answers can't be written to.
type wrapping struct{ http.RoundTripper }

func (w wrapping) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct{ io.ReadCloser }{resp.Body}
	}
	return resp, err
}

func TestUpgradeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		handler    http.HandlerFunc
		header     http.Header
		wrap       bool
	}{
		{"a refusal", "426 Upgrade Required: ask for shout", shout, nil, false},
		{"an ordinary answer", "answered 200, not with a change of protocol", answer(http.StatusOK, "text/plain", "OK"), shoutHeader, false},
		{"a transport that reads only", "lets nothing be written", shout, shoutHeader, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			var through http.RoundTripper = transport
			if tt.wrap {
				through = wrapping{transport}
			}
			client := slicer.NewSlicerClient(server.URL, "", "", &http.Client{Transport: through})
			resp, err := client.UpgradeVM(t.Context(), "vm-1", "shout", nil, tt.header)
			if err == nil {
				resp.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("UpgradeVM = %v, want an error with %q", err, tt.want)
			}
		})
	}
}
