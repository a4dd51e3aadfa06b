package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// requireSandbox skips the test where the sandbox can't work, unless
// SLICERVM_REQUIRE_SANDBOX=1 says that it has to.
func requireSandbox(t *testing.T) {
	t.Helper()
	h, err := sandbox.New(sandbox.Config{StateDir: t.TempDir()})
	if err == nil {
		if err := h.Close(); err != nil {
			t.Fatalf("close the sandbox: %v", err)
		}
		return
	}
	if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" {
		t.Fatalf("SLICERVM_REQUIRE_SANDBOX=1, but the sandbox can't start: %v", err)
	}
	t.Skipf("the sandbox can't start: %v", err)
}

// tool is a tools/call request.
func tool(t *testing.T, id int, name string, args map[string]any) string {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s}}`+"\n", id, name, text)
}

// text is a tool's answer. A tool error fails the test.
func (r reply) text(t *testing.T) string {
	t.Helper()
	if r.Error != nil || r.Result.IsError || len(r.Result.Content) == 0 {
		t.Fatalf("the call was answered with %+v, want a result", r)
	}
	return r.Result.Content[0].Text
}

// isEmptyDir fails the test if anything is left in a folder.
func isEmptyDir(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != dir {
			t.Errorf("%s is left", path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Errorf("look for what is left: %v", err)
	}
}

func TestEmbeddedAnswersAPipe(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	in := hello + strings.TrimSuffix(tool(t, 2, "create_vm", map[string]any{"name": "one"}), "\n")
	got := w.run(in, "--embedded", "--state-dir", state)
	if got.code != 0 {
		t.Fatalf("the pipe ended with %+v, want exit 0", got)
	}
	answers := replies(t, got.stdout)
	if len(answers) != 2 || answers[1].Result.ServerInfo.Name == "" {
		t.Errorf("the pipe was answered with %q, want both answers", got.stdout)
	}
	if text := answers[2].text(t); !strings.Contains(text, "one") {
		t.Errorf("create_vm = %q, want it to name the VM", text)
	}
	if !strings.Contains(got.stderr, "not a hypervisor") {
		t.Errorf("the log is %q, want it to say that namespaces are not a hypervisor", got.stderr)
	}
	isEmptyDir(t, state)
}

func TestEmbeddedRunsCommands(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	p := w.start(t, "--embedded", "--state-dir", state)
	p.ask(t, hello)
	vm := p.ask(t, tool(t, 2, "create_vm", map[string]any{"name": "one"}))[2].text(t)
	hostname := regexp.MustCompile(`[a-z]+-[0-9]+`).FindString(vm)
	if got := p.ask(t, tool(t, 3, "exec", map[string]any{"command": "hostname"}))[3].text(t); hostname == "" || !strings.Contains(got, hostname) {
		t.Errorf("exec(hostname) = %q, want %q in it", got, hostname)
	}
	if _, err := io.WriteString(p.stdin, tool(t, 4, "exec", map[string]any{"command": "sleep 1; echo late"})); err != nil {
		t.Fatal(err)
	}
	p.stdin.Close()
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if got := replies(t, string(rest))[4].text(t); !strings.Contains(got, "late") {
		t.Errorf("the exec that ran when the input ended = %q, want its output", got)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
	isEmptyDir(t, state)
}

func TestEmbeddedTakesTheDaemonsSettings(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	in := hello + strings.TrimSuffix(tool(t, 2, "create_vm", nil), "\n")
	got := w.run(in, "--embedded", "--embedded-net", "host", "--group", "name=tiny,cpus=1,ram=256MiB", "--state-dir", filepath.Join(w.root, "state"))
	if got.code != 0 {
		t.Fatalf("the pipe ended with %+v, want exit 0", got)
	}
	if text := replies(t, got.stdout)[2].text(t); !strings.Contains(text, "tiny-1") {
		t.Errorf("create_vm = %q, want a VM of the group tiny", text)
	}
	if !strings.Contains(got.stderr, "VMs share this machine's network") {
		t.Errorf("the log is %q, want a warning of the shared network", got.stderr)
	}
}

func TestEmbeddedSignalLeavesNothing(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	p := w.start(t, "--embedded", "--state-dir", state)
	p.ask(t, hello)
	p.ask(t, tool(t, 2, "create_vm", nil))[2].text(t)
	socket := regexp.MustCompile(regexp.QuoteMeta(state) + `\S+\.sock`).FindString(p.stderr.String())
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatalf("find the daemon's socket: %v", err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("the socket's mode is %v, want -rw-------", got)
	}
	if _, err := io.WriteString(p.stdin, tool(t, 3, "exec", map[string]any{"command": "sleep 40"})); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
	isEmptyDir(t, state)
}

func TestEmbeddedNeedsLinux(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Skip("this is Linux")
	}
	got := newWorld(t).run(hello, "--embedded")
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--url") {
		t.Errorf("--embedded = %+v, want exit 1 and one line that names --url", got)
	}
}

func TestEmbeddedThatCannotStart(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.root, "file")
	write(t, file, "")
	got := w.run(hello, "--embedded", "--state-dir", filepath.Join(file, "state"))
	if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--embedded") {
		t.Errorf("--embedded on a state folder that can't be made = %+v, want exit 1 and one line", got)
	}
}
