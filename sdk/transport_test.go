package slicer_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestNamesAreEscapedOnceOrRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		want string // "" is refused
	}{
		{"plain-1", "/secrets/plain-1"},
		{"../secrets", "/secrets/..%2Fsecrets"},
		{"../hostgroup/g/nodes/vm", "/secrets/..%2Fhostgroup%2Fg%2Fnodes%2Fvm"},
		{"a/b?c#d", "/secrets/a%2Fb%3Fc%23d"},
		{"%2f", "/secrets/%252f"},
		{"%2e%2e", "/secrets/%252e%252e"},
		{"line\nbreak", "/secrets/line%0Abreak"},
		{"nul\x00", "/secrets/nul%00"},
		{"sp ace+plus", "/secrets/sp%20ace+plus"},
		{"..a", "/secrets/..a"},
		{`back\slash`, "/secrets/back%5Cslash"},
		{"ü", "/secrets/%C3%BC"},
		{"\xff", "/secrets/%FF"},
		{"", ""},
		{".", ""},
		{"..", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			client := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
			err := client.DeleteSecret(t.Context(), tt.name)
			if (err == nil) != (tt.want != "") {
				t.Errorf("DeleteSecret(%q) = %v", tt.name, err)
			}
			if got != tt.want {
				t.Errorf("DeleteSecret(%q) sent %q, want %q", tt.name, got, tt.want)
			}
		})
	}
}

func TestBasePathIsKept(t *testing.T) {
	for _, tt := range []struct{ prefix, want string }{
		{"", "/vm/a%2Fb/pause"},
		{"/", "/vm/a%2Fb/pause"},
		{"/slicer/v1", "/slicer/v1/vm/a%2Fb/pause"},
		{"/slicer/v1/", "/slicer/v1/vm/a%2Fb/pause"},
		{"/sl%2Ficer", "/sl%2Ficer/vm/a%2Fb/pause"},
		{"/sl%2F", "/sl%2F/vm/a%2Fb/pause"},
	} {
		got := ""
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
		client := slicer.NewSlicerClient(server.URL+tt.prefix, "", "", server.Client())
		if err := client.PauseVM(t.Context(), "a/b"); err != nil {
			t.Errorf("PauseVM with the prefix %q: %v", tt.prefix, err)
		}
		if got != tt.want {
			t.Errorf("PauseVM with the prefix %q sent %q, want %q", tt.prefix, got, tt.want)
		}
		server.Close()
	}
}

func TestBadBaseURLsAreReportedByCallsWithoutRepeatingThem(t *testing.T) {
	for _, url := range []string{
		"", "localhost:8080", "ftp://user:hunter2@host", "http://user:hunter2@ho st", "http://user:hunter2@h/?x=1",
		"http://user:hunter2@h/#f", "unix://", "http://%zz:hunter2", "user:hunter2@host",
	} {
		_, err := slicer.NewSlicerClient(url, "", "", nil).GetInfo(t.Context())
		if err == nil {
			t.Errorf("GetInfo of %q = nil, want an error", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("GetInfo of %q = %q, which repeats the password", url, err)
		}
	}
}

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener: listener,
		Config:   &http.Server{Handler: answer(http.StatusOK, "application/json", `{"version":"7"}`)},
	}
	server.Start()
	t.Cleanup(server.Close)

	for _, url := range []string{
		filepath.Join(dir, "api.sock"), "./api.sock", "../" + filepath.Base(dir) + "/api.sock",
		"~/api.sock", "unix://" + filepath.Join(dir, "api.sock"), "unix://~/api.sock", "api.sock",
	} {
		client := slicer.NewSlicerClient(url, "", "", nil)
		info, err := client.GetInfo(t.Context())
		if err != nil || info.Version != "7" {
			t.Errorf("GetInfo over %q = %v, %v, want version 7", url, info, err)
		}
		client.CloseIdleConnections()
	}

	given := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	client := slicer.NewSlicerClient("./api.sock", "", "", given)
	if _, err := client.GetInfo(t.Context()); err != nil {
		t.Errorf("GetInfo with a custom client = %v, want nil", err)
	}
	client.CloseIdleConnections()
	if transport := given.Transport.(*http.Transport); transport.DialContext != nil || given.CheckRedirect != nil {
		t.Error("NewSlicerClient changed the client that it was given")
	}

	odd := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no") })}
	if _, err := slicer.NewSlicerClient("./api.sock", "", "", odd).GetInfo(t.Context()); err == nil {
		t.Error("GetInfo over a socket with a foreign transport = nil, want an error")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSocketDialHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := slicer.NewSlicerClient(filepath.Join(t.TempDir(), "none.sock"), "", "", nil).GetInfo(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("GetInfo with a cancelled context = %v, want context.Canceled", err)
	}
}

func TestCustomClientIsUsed(t *testing.T) {
	calls := 0
	given := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		calls++
		return nil, errors.New("broken")
	})}
	_, err := slicer.NewSlicerClient("http://daemon/", "", "", given).GetInfo(t.Context())
	if err == nil || !strings.Contains(err.Error(), "broken") || calls != 1 {
		t.Errorf("GetInfo = %v after %d round trips, want the transport's error after 1", err, calls)
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name, token, agent  string
		wantAuth, wantAgent string
	}{
		{"token", "abc", "my/1", "Bearer abc", "my/1"},
		{"token with white space", " abc\n", "my/1", "Bearer abc", "my/1"},
		{"no token", "", "", "", "slicer-sdk-go/1.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header http.Header
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				header = r.Header
				_, _ = w.Write([]byte("[]"))
			}))
			defer server.Close()
			if _, err := slicer.NewSlicerClient(server.URL, tt.token, tt.agent, nil).ListVMs(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := header.Get("Authorization"); got != tt.wantAuth {
				t.Errorf("Authorization = %q, want %q", got, tt.wantAuth)
			}
			if _, ok := header["Authorization"]; ok != (tt.wantAuth != "") {
				t.Errorf("Authorization present = %v, want %v", ok, tt.wantAuth != "")
			}
			if got := header.Get("User-Agent"); got != tt.wantAgent {
				t.Errorf("User-Agent = %q, want %q", got, tt.wantAgent)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name        string
		status      int
		contentType string
		body        string
		want        slicer.APIError
	}{
		{
			"JSON", 409, "application/json", `{"error":"VM is paused","code":"paused"}`,
			slicer.APIError{StatusCode: 409, Code: "paused", Message: "VM is paused"},
		},
		{"text", 500, "text/plain", "it broke\n", slicer.APIError{StatusCode: 500, Message: "it broke"}},
		{"JSON of another shape", 400, "application/json", `{"detail":1}`, slicer.APIError{StatusCode: 400, Message: `{"detail":1}`}},
		{"empty", 403, "", "", slicer.APIError{StatusCode: 403}},
		{
			"HTML", 502, "text/html", "<html><body>Bad gateway</body></html>",
			slicer.APIError{StatusCode: 502, Message: "the answer is an HTML page, not the Slicer API's"},
		},
		{
			"HTML that says it is text", 502, "text/plain", " <!DOCTYPE html><p>",
			slicer.APIError{StatusCode: 502, Message: "the answer is an HTML page, not the Slicer API's"},
		},
		{"control characters", 400, "text/plain", "a\x1b[31m\r\nb\xff", slicer.APIError{StatusCode: 400, Message: "a [31m  b\uFFFD"}},
		{"the token", 401, "application/json", `{"error":"bad s3cret-token"}`, slicer.APIError{StatusCode: 401, Message: "bad [token]"}},
		{"huge", 500, "text/plain", strings.Repeat("ü", 1<<20), slicer.APIError{StatusCode: 500, Message: strings.Repeat("ü", 512) + "…"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, answer(tt.status, tt.contentType, tt.body))
			err := client.ResumeVM(t.Context(), "vm 1")
			var got *slicer.APIError
			if !errors.As(err, &got) {
				t.Fatalf("ResumeVM = %v, want an APIError", err)
			}
			tt.want.Method, tt.want.Path = "POST", "/vm/vm%201/resume"
			if *got != tt.want {
				t.Errorf("ResumeVM = %#v, want %#v", *got, tt.want)
			}
			if !slicer.IsAPIStatus(err, tt.status) || slicer.IsAPIStatus(err, 418) || slicer.IsAPIStatus(nil, tt.status) {
				t.Errorf("IsAPIStatus(%v, %d) is wrong", err, tt.status)
			}
			if strings.Contains(err.Error(), "s3cret-token") {
				t.Errorf("ResumeVM = %q, which holds the token", err)
			}
		})
	}
}

func TestErrorsHoldNoQuery(t *testing.T) {
	req := slicer.SlicerExecRequest{Command: "deploy", Env: []string{"PASSWORD=hunter2"}}
	refused := serve(t, answer(http.StatusNotFound, "application/json", `{"error":"no VM"}`))
	gone := slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)
	for name, client := range map[string]*slicer.SlicerClient{"refused": refused, "unreachable": gone} {
		_, err := client.Exec(t.Context(), "vm-1", req)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Exec = %v, want an error without the environment", name, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen.Store(true) }))
	defer thief.Close()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	if err := client.PauseVM(t.Context(), "vm-1"); !slicer.IsAPIStatus(err, http.StatusTemporaryRedirect) {
		t.Errorf("PauseVM = %v, want an APIError with the status 307", err)
	}
	if stolen.Load() {
		t.Error("PauseVM followed a redirect")
	}
}

func TestAnswersMustBeOneJSONValue(t *testing.T) {
	for name, body := range map[string]string{
		"cut": `[{"hostname":"a"`, "two values": `[] []`, "text": "OK", "empty": "", "wrong type": `{"hostname":1}`,
		"HTML": "<html></html>", "too large": "[" + strings.Repeat(" ", 33<<20) + "]",
	} {
		client := serve(t, answer(http.StatusOK, "application/json", body))
		if nodes, err := client.ListVMs(t.Context()); err == nil {
			t.Errorf("%s: ListVMs = %v, want an error", name, nodes)
		}
	}
}

func TestCutAnswerIsAnError(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("paus"))
	})
	if err := client.PauseVM(t.Context(), "vm-1"); err == nil {
		t.Error("PauseVM with a cut answer = nil, want an error")
	}
}

func TestStalledDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server notices that a client left once it has its request
			<-r.Context().Done()
		})
		defer stop()
		start := time.Now()
		_, err := client.GetInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "did not answer") {
			t.Errorf("GetInfo = %v, want that the daemon did not answer", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("GetInfo took %s, want 1m", took)
		}

		// A call that may wait long ends with its context alone.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start = time.Now()
		_, err = client.CreateVMWithOptions(ctx, "g", slicer.SlicerCreateNodeRequest{}, slicer.CreateVMOptions{Wait: "userdata"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("CreateVMWithOptions = %v after %s, want a deadline after 1h", err, time.Since(start))
		}
	})
}

func TestContextCauseDoesNotHideTheContextsError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(errors.New("enough"))
		<-r.Context().Done()
	})
	if err := client.PauseVM(ctx, "vm-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("PauseVM = %v, want context.Canceled", err)
	}
}
