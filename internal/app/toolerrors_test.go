package app_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// toolSession is a program whose tools are called one after the other.
type toolSession struct {
	t *testing.T
	p *program
	n int
}

// newToolSession starts the program with a VM called web.
func newToolSession(t *testing.T, w *world, args ...string) *toolSession {
	t.Helper()
	s := &toolSession{t: t, p: w.start(t, args...), n: 1}
	s.p.ask(t, hello)
	if text, failed := s.call("create_vm", map[string]any{"name": "web"}); failed {
		t.Fatalf("create_vm = %s", text)
	}
	return s
}

// call returns a tool's text, and whether it is an error.
func (s *toolSession) call(name string, args map[string]any) (text string, failed bool) {
	s.t.Helper()
	s.n++
	got := s.p.ask(s.t, tool(s.t, s.n, name, args))[s.n]
	if got.Error != nil || len(got.Result.Content) == 0 {
		s.t.Fatalf("%s(%v) was answered with %+v, want a result", name, args, got)
	}
	return got.Result.Content[0].Text, got.Result.IsError
}

// end closes the program's input, at which it ends.
func (s *toolSession) end() {
	s.t.Helper()
	s.p.stdin.Close()
	_, _ = io.Copy(io.Discard, s.p.stdout) // an error of it is Wait's too
	if err := s.p.Wait(); err != nil {
		s.t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, s.p.stderr.String())
	}
}

// TestToolErrors calls the file tools with what can't be done, on the fake and
// on real processes and files: the words must be the same.
func TestToolErrors(t *testing.T) {
	onFake := func(t *testing.T, w *world) *toolSession {
		return newToolSession(t, w, "--url", slicertest.NewServer(t).URL)
	}
	onSandbox := func(t *testing.T, w *world) *toolSession {
		requireSandbox(t)
		return newToolSession(t, w, "--embedded", "--state-dir", filepath.Join(w.root, "state"))
	}
	const (
		copied = "cp_to_vm"
		read   = "read_file"
	)
	into := func(path string) map[string]any { return map[string]any{"host_path": "f", "vm_path": path} }
	folder := func(path string) map[string]any { return map[string]any{"host_path": "dir", "vm_path": path} }
	file := func(path string) map[string]any { return map[string]any{"file_path": path} }
	tests := []struct {
		name   string
		tool   string
		args   map[string]any
		fails  bool
		real   bool // needs a real Linux
		want   []string
		before func(t *testing.T, s *toolSession)
	}{
		{name: "a file onto a folder", tool: copied, args: into("/tmp"), fails: true, want: []string{`vm_path "/tmp" is a folder in VM "web"`, `"/tmp/f"`}},
		{name: "a file into a missing folder", tool: copied, args: into("/tmp/newdir/x"), want: []string{"Copied 1 file", `to "/tmp/newdir/x"`, `Made the missing folder "/tmp/newdir"`}},
		{name: "a file into a missing folder that is named", tool: copied, args: into("/tmp/o/"), want: []string{`to "/tmp/o/f"`, `Made the missing folder "/tmp/o"`}},
		{name: "a file into missing folders at home", tool: copied, args: into("~/a/b/c"), want: []string{`Made the missing folder "~/a/b"`}},
		{name: "a file below a file", tool: copied, args: into("/etc/hostname/x"), fails: true, want: []string{"is a file and not a folder"}},
		{name: "a folder onto a file", tool: copied, args: folder("/etc/hostname"), fails: true, want: []string{"is a file and not a folder"}},
		{name: "a name with a line break", tool: copied, args: into("/tmp/a\nb"), want: []string{`to "/tmp/a\nb"`}},
		{name: "reading a name with a line break", tool: read, args: file("/tmp/a\nb"), want: []string{`"/tmp/a\nb", lines 1–1`}},
		{name: "reading a folder", tool: read, args: file("/tmp"), fails: true, want: []string{`"/tmp" is a folder in VM "web"`, `list_files(vm="web", path="/tmp")`}},
		{name: "reading a missing file", tool: read, args: file("/tmp/none"), fails: true, want: []string{`VM "web" has no "/tmp/none"`}},
		{name: "reading below a file", tool: read, args: file("/etc/hostname/x"), fails: true, want: []string{"is a file and not a folder"}},
		{name: "a secret of an id that is too large", tool: "create_secret", args: map[string]any{"name": "k", "from_file": "f", "user": "70000"}, fails: true, want: []string{`user "70000" can't own a secret`, "65535"}},

		{name: "a folder where nothing can be made", tool: copied, args: into("/proc/none/x"), fails: true, real: true, want: []string{`vm_path "/proc/none/x" can't be made in VM "web"`, "another path"}},
		{name: "a path that may not be written", tool: copied, args: into("/dev/pts/x"), fails: true, real: true, want: []string{`permission denied on "/dev/pts/x" in VM "web"`, `Use another path, or user="root"`}},
		{name: "a folder that may not be written", tool: copied, args: folder("/dev/pts/x"), fails: true, real: true, want: []string{`permission denied on "/dev/pts/x" in VM "web"`}},
		{name: "a device", tool: copied, args: into("/dev/null"), fails: true, real: true, want: []string{"is a device, a pipe or a socket"}},
		{name: "reading a device", tool: read, args: file("/dev/null"), fails: true, real: true, want: []string{"is a device, a pipe or a socket"}},
		{name: "reading what can't be read", tool: read, args: file("/proc/self/mem"), fails: true, real: true, want: []string{"/proc/self/mem: can't be read as a file", "Change the arguments"}},
		{name: "reading what may not be read", tool: read, args: file("/proc/sys/net/ipv4/route/flush"), fails: true, real: true, want: []string{`permission denied on "/proc/sys/net/ipv4/route/flush"`, `exec(vm="web", user="root"`}},
		{name: "a name that is too long", tool: copied, args: into("/tmp/" + strings.Repeat("n", 300)), fails: true, real: true, want: []string{"file name too long", "Change the arguments"}},
		{name: "a symlink to itself", tool: read, args: file("/tmp/loop"), fails: true, real: true, want: []string{"too many levels of symbolic links", "leads in a circle"}, before: func(t *testing.T, s *toolSession) {
			if text, failed := s.call("exec", map[string]any{"command": "ln -s /tmp/loop /tmp/loop"}); failed || !strings.HasPrefix(text, "exit 0") {
				t.Fatalf("exec = %s", text)
			}
		}},
	}
	for _, on := range []struct {
		name  string
		real  bool
		start func(t *testing.T, w *world) *toolSession
	}{{"the fake", false, onFake}, {"the sandbox", true, onSandbox}} {
		t.Run(on.name, func(t *testing.T) {
			w := newWorld(t)
			write(t, filepath.Join(w.dir, "f"), "x\n")
			write(t, filepath.Join(w.dir, "dir", "f"), "x\n")
			s := on.start(t, w)
			for _, tt := range tests {
				if tt.real && !on.real {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					s.t = t
					if tt.before != nil {
						tt.before(t, s)
					}
					got, failed := s.call(tt.tool, tt.args)
					if failed != tt.fails {
						t.Errorf("%s(%v) = %q, an error %v, want %v", tt.tool, tt.args, got, failed, tt.fails)
					}
					for _, want := range tt.want {
						if !strings.Contains(got, want) {
							t.Errorf("%s(%v) = %q, want %q in it", tt.tool, tt.args, got, want)
						}
					}
					for _, bad := range []string{"gone", "token", "error of its own", "EOF"} {
						if strings.Contains(got, bad) {
							t.Errorf("%s(%v) = %q, which has %q", tt.tool, tt.args, got, bad)
						}
					}
				})
			}
			s.t = t
			s.end()
		})
	}
}

// children are the processes that pid has started itself.
func children(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name, in brackets, may have anything in it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			list = append(list, child)
		}
	}
	return list
}

// TestEmbeddedVMThatEndsByItself is about a VM whose processes are killed from
// outside while a command runs in it.
func TestEmbeddedVMThatEndsByItself(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	s := newToolSession(t, w, "--embedded", "--state-dir", state)
	// The command says that it runs by a file, which another call waits for.
	if _, err := io.WriteString(s.p.stdin, tool(t, 100, "exec", map[string]any{"command": "touch /tmp/runs; sleep 40"})); err != nil {
		t.Fatal(err)
	}
	if text, failed := s.call("exec", map[string]any{"command": "until [ -e /tmp/runs ]; do sleep 0.05; done"}); failed {
		t.Fatalf("exec = %s", text)
	}
	vms := children(t, s.p.Process.Pid)
	if len(vms) == 0 {
		t.Fatal("the program has no child process, which the VM would be")
	}
	for _, pid := range vms {
		vm, err := os.FindProcess(pid)
		if err == nil {
			err = vm.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := s.p.ask(t, "")[100]
	if !got.Result.IsError || len(got.Result.Content) == 0 || !strings.Contains(got.Result.Content[0].Text, `VM "web" is gone`) {
		t.Errorf("exec in a VM that ends = %+v, want an error that says so", got)
	}
	if text, failed := s.call("list_vms", nil); failed || !strings.Contains(text, "0 VMs") {
		t.Errorf("list_vms after the VM's end = %q, want none", text)
	}
	if text, failed := s.call("exec", map[string]any{"vm": "web", "command": "true"}); !failed || !strings.Contains(text, `no VM named "web"`) {
		t.Errorf("exec after the VM's end = %q, want an error that there is no such VM", text)
	}
	if text, failed := s.call("create_vm", map[string]any{"name": "web"}); failed {
		t.Errorf("create_vm with the name of the VM that has ended = %q", text)
	}
	s.end()
	isEmptyDir(t, state)
}

// TestEmbeddedVMThatIsDeletedUnderACommand is about delete_vm while exec runs.
func TestEmbeddedVMThatIsDeletedUnderACommand(t *testing.T) {
	requireSandbox(t)
	w := newWorld(t)
	s := newToolSession(t, w, "--embedded", "--state-dir", filepath.Join(w.root, "state"))
	if _, err := io.WriteString(s.p.stdin, tool(t, 100, "exec", map[string]any{"command": "touch /tmp/runs; sleep 40"})); err != nil {
		t.Fatal(err)
	}
	if text, failed := s.call("exec", map[string]any{"command": "until [ -e /tmp/runs ]; do sleep 0.05; done"}); failed {
		t.Fatalf("exec = %s", text)
	}
	// The two answers come in either order.
	answers := s.p.ask(t, tool(t, 101, "delete_vm", map[string]any{"vm": "web"}))
	for id, answer := range s.p.ask(t, "") {
		answers[id] = answer
	}
	answers[101].text(t)
	got := answers[100]
	if !got.Result.IsError || len(got.Result.Content) == 0 || !strings.Contains(got.Result.Content[0].Text, `VM "web" is gone`) {
		t.Errorf("exec in a VM that is deleted = %+v, want an error that says so", got)
	}
	s.end()
}
