package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDaemonTokens(t *testing.T) {
	const secret = "env-s3cret"
	tests := []struct {
		name  string
		setup func(t *testing.T, w *world) (args []string)
		token func(t *testing.T, w *world) string
	}{
		{
			"a file that is made",
			func(_ *testing.T, w *world) []string { return []string{"--token-file", w.root + "/token"} },
			func(t *testing.T, w *world) string { return readFile(t, w.root+"/token") },
		},
		{
			"a file that is there",
			func(t *testing.T, w *world) []string {
				write(t, w.dir+"/token", "  mine \n")
				return []string{"--token-file", "token"}
			},
			func(*testing.T, *world) string { return "mine" },
		},
		{
			"the environment",
			func(_ *testing.T, w *world) []string { w.env["SLICER_TOKEN"] = secret; return nil },
			func(*testing.T, *world) string { return secret },
		},
		{
			"the file that the environment names",
			func(t *testing.T, w *world) []string {
				write(t, w.home+"/t", secret)
				w.env["SLICER_TOKEN_FILE"] = "~/t"
				return nil
			},
			func(*testing.T, *world) string { return secret },
		},
		{
			"the flag's file rather than the environment",
			func(t *testing.T, w *world) []string {
				write(t, w.root+"/token", "mine")
				w.env["SLICER_TOKEN"] = secret
				return []string{"--token-file", w.root + "/token"}
			},
			func(*testing.T, *world) string { return "mine" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			p, url := w.startDaemon(t, append(tt.setup(t, w), "--listen", "0.0.0.0:0", "--state-dir", filepath.Join(w.root, "state"))...)
			url = strings.Replace(strings.Replace(url, "[::]", "127.0.0.1", 1), "0.0.0.0", "127.0.0.1", 1)
			token := strings.TrimSpace(tt.token(t, w))
			if len(token) < 4 {
				t.Errorf("the token is %q, want a longer one", token)
			}
			if status, _ := call(t, url, "/info", nil); status != http.StatusUnauthorized {
				t.Errorf("GET /info without a token = %d, want 401", status)
			}
			if status, _ := call(t, url, "/info", bearer(token+"x")); status != http.StatusUnauthorized {
				t.Errorf("GET /info with a wrong token = %d, want 401", status)
			}
			if status, _ := call(t, url, "/info", bearer(token)); status != http.StatusOK {
				t.Errorf("GET /info with the token = %d, want 200", status)
			}
			p.end(t)
			if strings.Contains(p.stderr.String(), token) {
				t.Errorf("the log tells the token:\n%s", p.stderr.String())
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDaemonMakesATokenForItsUserAlone(t *testing.T) {
	w := newWorld(t)
	name := filepath.Join(w.root, "token")
	args := []string{"--token-file", name, "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(w.root, "state")}
	p, _ := w.startDaemon(t, args...)
	p.end(t)
	first := readFile(t, name)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 || len(strings.TrimSpace(first)) < 20 {
		t.Errorf("the token's file is %v with %d bytes (%v), want -rw------- and a long token", info.Mode(), len(first), err)
	}
	p, _ = w.startDaemon(t, args...)
	p.end(t)
	if readFile(t, name) != first {
		t.Error("the second start made another token, want the same")
	}
}

func TestDaemonTokenFilesThatCannotWork(t *testing.T) {
	w := newWorld(t)
	write(t, filepath.Join(w.root, "empty"), "\n")
	for _, name := range []string{filepath.Join(w.root, "empty"), filepath.Join(w.root, "none", "token"), w.root} {
		got := w.run("", "daemon", "--token-file", name)
		if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--token-file: ") {
			t.Errorf("--token-file %s = %+v, want exit 1 and one line", name, got)
		}
	}
}
