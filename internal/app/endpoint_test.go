package app_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindsTheDaemon(t *testing.T) {
	const token = "s3cret-token"
	tests := []struct {
		name  string
		setup func(t *testing.T, w *world, d http.Handler) (args []string)
		auth  string // what the daemon is asked with
	}{
		{"by --url", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = nowhere
			return []string{"--url", "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)}
		}, ""},
		{"by --url after serve", func(t *testing.T, _ *world, d http.Handler) []string {
			return []string{"serve", "--url", "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)}
		}, ""},
		{"by SLICER_URL", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN"] = token
			return nil
		}, "Bearer " + token},
		{"by SLICER_URL of a socket", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "unix://" + serveFake(t, "unix", filepath.Join(w.home, "x.sock"), d)
			return nil
		}, ""},
		{"with the token of a file", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN_FILE"] = "~/auth/token"
			write(t, filepath.Join(w.home, "auth", "token"), token+"\n")
			return nil
		}, "Bearer " + token},
		{"with SLICER_TOKEN rather than the file's", func(t *testing.T, w *world, d http.Handler) []string {
			w.env["SLICER_URL"] = "http://" + serveFake(t, "tcp", "127.0.0.1:0", d)
			w.env["SLICER_TOKEN"] = token
			w.env["SLICER_TOKEN_FILE"] = "~/none"
			return nil
		}, "Bearer " + token},
		{"at the system's socket, with its token", func(t *testing.T, w *world, d http.Handler) []string {
			serveFake(t, "unix", filepath.Join(w.root, "var/run/slicer/api.sock"), d)
			write(t, filepath.Join(w.root, "var/lib/slicer/auth/token"), token)
			return nil
		}, "Bearer " + token},
		{"at the system's socket, with the user's token", func(t *testing.T, w *world, d http.Handler) []string {
			serveFake(t, "unix", filepath.Join(w.root, "var/run/slicer/api.sock"), d)
			write(t, filepath.Join(w.root, "var/lib/slicer/auth/token"), "another")
			w.env["SLICER_TOKEN"] = token
			return nil
		}, "Bearer " + token},
		{"at the Mac's socket", func(t *testing.T, w *world, d http.Handler) []string {
			write(t, filepath.Join(w.root, "var/run/slicer/api.sock"), "a file, no socket")
			serveFake(t, "unix", filepath.Join(w.home, "slicer-mac/slicer.sock"), d)
			return nil
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, d := newWorld(t), newFake()
			args := append(tt.setup(t, w, d), "--log-level", "debug")
			got := w.run(hello+listVMs, args...)
			if r := replies(t, got.stdout)[2]; got.code != 0 || len(r.Result.Content) == 0 || r.Result.IsError {
				t.Errorf("list_vms = %+v (%+v), want a result", r, got)
			}
			if !d.asked(tt.auth) {
				t.Errorf("the daemon was asked with %v, want %q", d.auth, tt.auth)
			}
			if strings.Contains(got.stderr+got.stdout, token) {
				t.Errorf("the token came out: %+v", got)
			}
		})
	}
}
