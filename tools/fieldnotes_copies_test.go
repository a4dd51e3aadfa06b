package tools_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// TestField11CopiesStayUnderTheRoots is about copies in both directions: what
// lies outside the roots is neither read nor written, and the refusal doesn't
// tell whether there is something.
func TestField11CopiesStayUnderTheRoots(t *testing.T) {
	s, client, vm, root := fileSession(t)
	outside := t.TempDir()
	put(t, outside, map[string]string{"there.txt": "outside", "dir/x": "outside"})
	put(t, root, map[string]string{"real.txt": "x", "in/x": "x"})
	for link, target := range map[string]string{
		"out": outside, "file-out": filepath.Join(outside, "there.txt"), "gone-out": filepath.Join(outside, "gone"), "nowhere": "gone",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Skipf("no symlinks here: %v", err)
		}
	}
	if err := client.MkdirAll(t.Context(), vm, "/home/ubuntu/dir/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, client, vm, "/home/ubuntu/file", []byte("from the VM"))
	write(t, client, vm, "/home/ubuntu/dir/dir/x", []byte("from the VM"))
	texts := map[string]bool{}
	for _, path := range []string{
		filepath.Join(outside, "there.txt"), filepath.Join(outside, "gone"), outside, filepath.Join(outside, "gone", "further"),
		"../" + filepath.Base(outside) + "/there.txt", filepath.Join(root, "..", filepath.Base(outside), "gone"),
		filepath.Join(root, "out", "there.txt"), filepath.Join(root, "out", "gone"), "out", "out/", "file-out", "gone-out", "gone-out/x", "nowhere",
		"real.txt/x", "/", "~/x", "~", root + "-not",
	} {
		for _, from := range []string{"~/file", "~/dir"} {
			got := s.fail("cp_from_vm", args{"vm_path": from, "host_path": path})
			wantText(t, "cp_from_vm", got, "no place to copy to under an allowed host folder", root, "--root")
			texts[strings.ReplaceAll(got, fmt.Sprintf("%q", path), "PATH")] = true
		}
	}
	if len(texts) != 1 {
		t.Errorf("%d different refusals, want one: %v", len(texts), texts)
	}
	for name, want := range map[string]string{"there.txt": "outside", "dir/x": "outside"} {
		if data, err := os.ReadFile(filepath.Join(outside, name)); string(data) != want {
			t.Errorf("outside, %s = %q, %v; want it as it was", name, data, err)
		}
	}
	wantText(t, "cp_to_vm", s.fail("cp_to_vm", args{"host_path": filepath.Join(outside, "there.txt"), "vm_path": "/tmp/x"}), "is not a readable file or folder under an allowed host folder")

	// A folder that joins one in which a symlink leads out.
	if err := os.Symlink(filepath.Join(outside, "dir"), filepath.Join(root, "in/dir")); err != nil {
		t.Fatal(err)
	}
	wantText(t, "cp_from_vm through a symlink", s.fail("cp_from_vm", args{"vm_path": "~/dir", "host_path": "in"}), `"dir" is a file or symlink`, "nothing was copied")
	if data, err := os.ReadFile(filepath.Join(outside, "dir/x")); string(data) != "outside" {
		t.Errorf("outside, dir/x = %q, %v; want it as it was", data, err)
	}
}

// wire is a client of a server on stdio that keeps every byte which it gets.
type wire struct {
	t   testing.TB
	in  io.Writer
	out *json.Decoder
	got *bytes.Buffer
	id  int
}

// call calls a tool and returns its answer as it came.
func (w *wire) call(tool string, a args) string {
	w.t.Helper()
	w.id++
	w.send(map[string]any{"jsonrpc": "2.0", "id": w.id, "method": "tools/call", "params": map[string]any{
		"name": tool, "arguments": a, "_meta": map[string]any{"progressToken": w.id},
	}})
	return w.answer()
}

func (w *wire) send(message any) {
	w.t.Helper()
	raw, err := json.Marshal(message)
	if err == nil {
		_, err = w.in.Write(append(raw, '\n'))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer reads up to the answer of the last request.
func (w *wire) answer() string {
	w.t.Helper()
	for {
		var m struct {
			ID     *int            `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := w.out.Decode(&m); err != nil {
			w.t.Fatal(err)
		}
		if m.ID != nil && *m.ID == w.id {
			return string(m.Result) + string(m.Error)
		}
	}
}

// safeBuffer is a buffer for several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serveStdio serves set on stdio as the program does, and is its client.
func serveStdio(t *testing.T, set *tools.Toolset, log *slog.Logger) *wire {
	t.Helper()
	srv := server.NewMCPServer("test", "1", server.WithToolCapabilities(false))
	set.Register(srv)
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	var served sync.WaitGroup
	served.Go(func() {
		out.CloseWithError(serve.Stdio(context.Background(), srv, in, out, serve.StdioOptions{Log: slog.New(set.RedactLog(log.Handler()))}))
	})
	t.Cleanup(func() {
		toServer.Close()
		_, _ = io.Copy(io.Discard, fromServer) // to its end
		served.Wait()
	})
	got := &bytes.Buffer{}
	w := &wire{t: t, in: toServer, out: json.NewDecoder(io.TeeReader(fromServer, got)), got: got}
	w.send(map[string]any{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": map[string]any{
		"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "test", "version": "1"},
	}})
	w.answer()
	return w
}

// TestField21SecretsStayOutOfTheTranscript looks at every byte that leaves the
// server while a secret's value turns up wherever it can.
func TestField21SecretsStayOutOfTheTranscript(t *testing.T) {
	const name, file = "canary", "/run/slicer/secrets/canary"
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(func(ctx context.Context, p *slicertest.Proc, script string) int {
		value, err := p.Files().ReadFile(file)
		if err != nil {
			value, err = p.Files().ReadFile("/srv/copy")
		}
		if err != nil {
			fmt.Fprintln(p.Stderr, err)
			return 1
		}
		switch script {
		case "env":
			fmt.Fprintf(p.Stdout, "HOME=/\nCANARY=%s\nPATH=/bin\n", value)
		case "base64":
			fmt.Fprint(p.Stdout, wrapped(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 70)+string(value)+"\n")), 76))
		case "piecemeal":
			for i := range value {
				fmt.Fprintf(p.Stderr, "%s", value[i:i+1])
			}
			return 3
		case "wait":
			fmt.Fprintf(p.Stdout, "%s\n", value)
			<-ctx.Done()
		}
		return 0
	})})
	var log safeBuffer
	base := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	root := t.TempDir()
	put(t, root, map[string]string{"copy": canary, ".slicerignore": "!" + canary})
	set, err := tools.New(tools.Config{
		Client: srv.Client(), Owner: testOwner, Roots: []string{root}, Log: base, SecretEnv: []string{"CANARY_FROM_ENV"},
		Getenv: func(name string) string {
			return map[string]string{"CANARY_FROM_ENV": canary, "HOME": "/home/me"}[name]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	w := serveStdio(t, set, base)
	w.call("create_vm", args{"name": "web"})
	wantText(t, "create_secret", w.call("create_secret", args{"name": name, "from_env": "CANARY_FROM_ENV"}), "is created from from_env")
	steps := []struct {
		tool string
		args args
	}{
		{"exec", args{"command": "env"}},
		{"exec", args{"command": "base64"}},
		{"exec", args{"command": "piecemeal"}},
		{"exec", args{"command": "wait", "yield_seconds": 2}},
		{"read_file", args{"file_path": file, "user": "root"}},
		{"read_file", args{"file_path": "/srv/" + canary}},
		{"cp_to_vm", args{"host_path": "copy", "vm_path": "/srv/copy"}},
		{"cp_to_vm", args{"host_path": ".", "vm_path": "/srv/all"}},
		{"read_file", args{"file_path": "/srv/copy"}},
		{"exec", args{"command": "x", "vm": canary}},
		{"list_vms", args{}},
		{"list_processes", args{"vm": "web"}},
		{"list_secrets", args{}},
		{"exec", args{canary: 1}},
		{"update_secret", args{"name": name, "generate": 40}},
		{"exec", args{"command": "env", "vm": "web"}},
		{"read_file", args{"file_path": "/srv/copy", "vm": "web"}},
		{"delete_secret", args{"name": name}},
		{"read_file", args{"file_path": "/srv/copy", "vm": "web"}},
	}
	shown := 0
	var generated string
	for _, step := range steps {
		answer := w.call(step.tool, step.args)
		shown += strings.Count(answer, "[redacted secret ")
		if step.tool == "update_secret" {
			vms, err := srv.Client().ListVMsWithOptions(t.Context(), slicer.ListOptions{Tag: "name=web"})
			if err != nil || len(vms) != 1 {
				t.Fatalf("the VM: %v, %v", vms, err)
			}
			data, err := srv.Files(vms[0].Hostname).ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			generated = string(data)
		}
	}
	srv.Fault("GET /secrets", slicertest.Fault{Status: http.StatusInternalServerError, Body: `{"error":"no room for ` + strings.ReplaceAll(canary, `"`, `\"`) + `"}`})
	shown += strings.Count(w.call("list_secrets", args{}), "[redacted secret ")
	slog.New(set.RedactLog(base.Handler())).Error("told "+canary, "err", fmt.Errorf("with %s", canary))
	if shown < 10 {
		t.Errorf("%d values were redacted, want 10 at least: the commands didn't print them", shown)
	}
	if len(generated) != 40 {
		t.Errorf("the generated value is %q, want 40 characters", generated)
	}
	for what, text := range map[string]string{"stdout": w.got.String(), "the log": log.String()} {
		for _, value := range []string{canary, generated} {
			wantHidden(t, what, text, value)
			raw, _ := json.Marshal(value)
			wantHidden(t, what+", as JSON", text, string(raw[1:len(raw)-1]))
		}
	}
	wantText(t, "the log", log.String(), "told [redacted secret")
}
