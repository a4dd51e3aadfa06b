package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

const secret = `{"token":"sk-very-secret"}`

// agent is the VM of a test: its shell installs nothing, makes folders, and works
// as an agent that writes its task into the project.
type agent struct {
	t         *testing.T
	installed bool
	found     string // mode, owner and content of the credentials
}

func (a *agent) shell(_ context.Context, p *slicertest.Proc, script string) int {
	files := p.Files()
	switch {
	case script == "install":
		if _, err := files.Stat(remoteCredentials); err == nil {
			a.t.Error("the credentials are there while the agent is installed")
		}
		a.installed = true
		fmt.Fprintln(p.Stdout, "installed")
	case strings.HasPrefix(script, "mkdir"):
		for _, folder := range []string{remoteFolder, remoteProject} {
			if err := files.Mkdir(folder); err != nil {
				a.t.Error(err)
				return 1
			}
		}
	case script == "work":
		info, err := files.Stat(remoteCredentials)
		if err != nil {
			a.t.Error(err)
			return 1
		}
		content, err := files.ReadFile(remoteCredentials)
		if err != nil {
			a.t.Error(err)
			return 1
		}
		a.found = fmt.Sprintf("%v %v %s", info.Mode(), info.Sys(), content)
		task, err := io.ReadAll(p.Stdin)
		if err == nil {
			err = files.WriteFile("done.txt", task, 0o644)
		}
		if err != nil {
			a.t.Error(err)
			return 1
		}
		fmt.Fprintln(p.Stdout, "done")
	default:
		a.t.Errorf("the shell was asked to run %q", script)
	}
	return 0
}

func TestRun(t *testing.T) {
	a := &agent{t: t}
	srv := slicertest.NewServer(t, slicertest.Options{Shell: a.shell})
	dir := t.TempDir()
	credentials, project, result := filepath.Join(dir, "credentials"), filepath.Join(dir, "project"), filepath.Join(dir, "result")
	if err := os.WriteFile(credentials, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(project, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(project, "main.c"), []byte("int main"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), srv.Client(), options{
		credentials: credentials, project: project, result: result,
		install: "install", agent: "work", task: strings.NewReader("the task"),
	}, &out)
	if err != nil {
		t.Fatalf("run = %v", err)
	}
	if !a.installed {
		t.Error("the agent was not installed")
	}
	if want := "-rw------- {1000 1000} " + secret; a.found != want {
		t.Errorf("the agent found credentials %q, want %q", a.found, want)
	}
	if got, want := out.String(), "installed\ndone\n"; got != want {
		t.Errorf("run printed %q, want %q", got, want)
	}
	for name, want := range map[string]string{"main.c": "int main", "done.txt": "the task"} {
		if got, err := os.ReadFile(filepath.Join(result, name)); err != nil || string(got) != want {
			t.Errorf("the result's %s holds %q, %v, want %q", name, got, err, want)
		}
	}
	for _, r := range srv.Requests() {
		if text := fmt.Sprint(r.Path, r.Query, r.Header); strings.Contains(text, "very-secret") || strings.Contains(text, "the task") {
			t.Errorf("%s %s has the credentials or the task in its URL or header", r.Method, r.Path)
		}
	}
	vms, err := srv.Client().ListVMs(t.Context())
	if err != nil || len(vms) != 0 {
		t.Errorf("ListVMs = %v, %v, want none left", vms, err)
	}
}

func TestRunRefusesCredentials(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such permissions")
	}
	srv := slicertest.NewServer(t)
	dir := t.TempDir()
	open, large := filepath.Join(dir, "open"), filepath.Join(dir, "large")
	for name, file := range map[string]struct {
		size int
		mode os.FileMode
	}{open: {10, 0o644}, large: {maxCredentials + 1, 0o600}} {
		if err := os.WriteFile(name, make([]byte, file.size), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, file, want string }{
		{"that others can read", open, "chmod 600"},
		{"that are too large", large, "too large"},
		{"that are a folder", dir, "not a file"},
		{"that aren't there", filepath.Join(dir, "nothing"), "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), srv.Client(), options{credentials: tt.file}, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run with credentials %s = %v, want an error with %q", tt.name, err, tt.want)
			}
		})
	}
	if got := srv.Requests(); len(got) > 0 {
		t.Errorf("%d requests were sent, want none", len(got))
	}
}
