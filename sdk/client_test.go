package slicer_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestClientFromEnv(t *testing.T) {
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	home := t.TempDir()
	for name, content := range map[string]string{
		"token": "\n from-file \n", "empty": " \n", "huge": strings.Repeat("x", 1<<20),
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		name     string
		env      map[string]string
		agent    string
		wantAuth string
		want     string // User-Agent; "" is an error
	}{
		{"token", map[string]string{"SLICER_TOKEN": "tok"}, "", "Bearer tok", "slicer-sdk-go/1.0"},
		{
			"token wins over file",
			map[string]string{"SLICER_TOKEN": "tok", "SLICER_TOKEN_FILE": "/none"},
			"", "Bearer tok", "slicer-sdk-go/1.0",
		},
		{"file", map[string]string{"SLICER_TOKEN_FILE": filepath.Join(home, "token")}, "", "Bearer from-file", "slicer-sdk-go/1.0"},
		{"file at home", map[string]string{"SLICER_TOKEN_FILE": "~/token"}, "", "Bearer from-file", "slicer-sdk-go/1.0"},
		{"user agent", map[string]string{"SLICER_TOKEN": "t", "SLICER_USER_AGENT": "env/1"}, "", "Bearer t", "env/1"},
		{"given user agent wins", map[string]string{"SLICER_TOKEN": "t", "SLICER_USER_AGENT": "env/1"}, "arg/1", "Bearer t", "arg/1"},
		{"no token", nil, "", "", ""},
		{"missing file", map[string]string{"SLICER_TOKEN_FILE": "~/none"}, "", "", ""},
		{"empty file", map[string]string{"SLICER_TOKEN_FILE": "~/empty"}, "", "", ""},
		{"huge file", map[string]string{"SLICER_TOKEN_FILE": "~/huge"}, "", "", ""},
		{"no URL", map[string]string{"SLICER_TOKEN": "t", "SLICER_URL": ""}, "", "", ""},
		{"bad URL", map[string]string{"SLICER_TOKEN": "t", "SLICER_URL": "nonsense"}, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("HOME", home)
			for _, key := range []string{"SLICER_TOKEN", "SLICER_TOKEN_FILE", "SLICER_USER_AGENT"} {
				t.Setenv(key, "")
			}
			t.Setenv("SLICER_URL", server.URL)
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			client, err := slicer.NewClientFromEnv("", tt.agent, nil)
			if tt.want == "" {
				if err == nil {
					t.Fatal("NewClientFromEnv = nil, want an error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.GetInfo(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := header.Get("Authorization"); got != tt.wantAuth {
				t.Errorf("Authorization = %q, want %q", got, tt.wantAuth)
			}
			if got := header.Get("User-Agent"); got != tt.want {
				t.Errorf("User-Agent = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSocketNeedsNoToken(t *testing.T) {
	t.Setenv("SLICER_TOKEN", "")
	t.Setenv("SLICER_TOKEN_FILE", "")
	t.Setenv("SLICER_URL", "/run/slicer.sock")
	if _, err := slicer.NewSlicerClientFromEnv(); err != nil {
		t.Errorf("NewSlicerClientFromEnv with a socket = %v, want nil", err)
	}
}

func TestUnits(t *testing.T) {
	if got := slicer.GiB(4); got != 4294967296 {
		t.Errorf("GiB(4) = %d, want 4294967296", got)
	}
	if got := slicer.MiB(512); got != 536870912 {
		t.Errorf("MiB(512) = %d, want 536870912", got)
	}
}
