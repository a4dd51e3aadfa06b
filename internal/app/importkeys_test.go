package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
)

const (
	edKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8xHwk7tq0m4mTqgP8mUQ0mCq4gQe0HhB5mOYQXq0aB"
	edKey2 = edKey + " somebody@somewhere"
)

func TestImportKeys(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/octocat.keys" {
				http.NotFound(w, r)
				return
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    []string
		err     string
	}{
		{"a key a line", answer(200, edKey+"\n"+edKey2+"\n"), []string{edKey, edKey2}, ""},
		{"empty lines and line ends of Windows", answer(200, "\r\n"+edKey+"\r\n\r\n"), []string{edKey}, ""},
		{"no key", answer(200, "\n"), nil, "the user has no SSH key there"},
		{"no user", answer(404, "Not Found"), nil, "there is no such user"},
		{"a failure", answer(503, ""), nil, "the answer is status 503"},
		{"a web page", answer(200, "<html>\n"), nil, "line 1 of the answer is no SSH key"},
		{"a key with options", answer(200, edKey+"\ncommand=\"sh\" "+edKey), nil, "line 2 of the answer is no SSH key"},
		{"a key of another type than it says", answer(200, "ssh-rsa "+strings.Fields(edKey)[1]), nil, "line 1 of the answer is no SSH key"},
		{"control characters", answer(200, edKey+" a\x1b[31mb"), nil, "line 1 of the answer is no SSH key"},
		{"more than any user has", answer(200, strings.Repeat(edKey+"\n", 1000)), nil, "more than 64 KiB"},
		{"a redirect to another host", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/octocat.keys", http.StatusFound)
		}, nil, "redirected to another host"},
		{"a redirect to another scheme", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+r.Host+"/octocat.keys", http.StatusFound)
		}, nil, "redirected to another host"},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, nil, "redirected too often"},
		{"a cut answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprintln(w, edKey)
		}, nil, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewTLSServer(tt.handler)
			defer srv.Close()
			got, err := app.ImportKeys(t.Context(), srv.URL, srv.Client().Transport, "octocat")
			if tt.err == "" {
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("ImportKeys() = %v (-want +got):\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("ImportKeys() = %v, %v, want an error with %q", got, err, tt.err)
			}
			if !strings.Contains(err.Error(), `"octocat"`) || strings.Contains(err.Error(), "://") {
				t.Errorf("ImportKeys() = %v, want the user's name and no address", err)
			}
		})
	}
}

func TestImportKeysOfHostileNamesStayOnePath(t *testing.T) {
	paths := make(chan string, 1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths <- r.URL.EscapedPath()
		http.NotFound(w, r)
	}))
	defer srv.Close()
	if _, err := app.ImportKeys(t.Context(), srv.URL, srv.Client().Transport, "../a?b#c"); err == nil {
		t.Error("ImportKeys() = nil, want an error")
	}
	if got, want := <-paths, "/..%2Fa%3Fb%23c.keys"; got != want {
		t.Errorf("ImportKeys() asks for %s, want %s", got, want)
	}
}

func TestImportKeysEndsWithItsContext(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := app.ImportKeys(ctx, srv.URL, srv.Client().Transport, "octocat"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ImportKeys() = %v, want the context's error", err)
	}
}
