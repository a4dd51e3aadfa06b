package tools_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// fileSession is a session with one VM and one root.
func fileSession(t *testing.T) (s *session, client *slicer.SlicerClient, vm, root string) {
	t.Helper()
	root = t.TempDir()
	s, client, vm = rootedSession(t, root)
	return s, client, vm, root
}

// rootedSession is a session with one VM and root for its root.
func rootedSession(t *testing.T, root string) (s *session, client *slicer.SlicerClient, vm string) {
	t.Helper()
	client = fakeDaemon(t)
	s = connect(t, tools.Config{Client: client, Roots: []string{root}})
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	return s, client, made.VM
}

// put writes host files below dir, making folders on the way.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, client *slicer.SlicerClient, vm, path string, data []byte) {
	t.Helper()
	if err := client.WriteFile(t.Context(), vm, path, data, 0o644, slicer.NonRootUser, slicer.NonRootUser); err != nil {
		t.Fatalf("WriteFile(%q): %v", path, err)
	}
}

func wantFile(t *testing.T, client *slicer.SlicerClient, vm, path, want string) {
	t.Helper()
	got, err := client.ReadFile(t.Context(), vm, path)
	if err != nil || string(got) != want {
		t.Errorf("in the VM %s = %.80q, %v; want %.80q", path, got, err, want)
	}
}

// TestRefusalTellsNothing is about host paths that may not be read: the same
// words for each, whether there is something or not.
func TestRefusalTellsNothing(t *testing.T) {
	s, _, _, root := fileSession(t)
	outside := t.TempDir()
	put(t, outside, map[string]string{"secret.txt": "secret"})
	put(t, root, map[string]string{"real.txt": "x"})
	for link, target := range map[string]string{
		"out": outside, "file-out": filepath.Join(outside, "secret.txt"), "gone-out": filepath.Join(outside, "gone"),
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Skipf("no symlinks here: %v", err)
		}
	}
	texts := map[string]bool{}
	for _, path := range []string{
		filepath.Join(outside, "secret.txt"), filepath.Join(outside, "gone"), outside,
		filepath.Join(root, "missing"), "missing", "../" + filepath.Base(outside) + "/secret.txt",
		filepath.Join(root, "..", filepath.Base(outside), "secret.txt"),
		filepath.Join(root, "out", "secret.txt"), filepath.Join(root, "file-out"), filepath.Join(root, "gone-out"),
		"out", "out/secret.txt", "real.txt/x", "/", "~/x", root + "-not",
	} {
		for tool, a := range map[string]args{
			"cp_to_vm":      {"host_path": path, "vm_path": "/tmp/x"},
			"create_secret": {"name": "x", "from_file": path},
		} {
			got := s.fail(tool, a)
			wantText(t, tool, got, "is not a readable file or folder under an allowed host folder", root, "--root")
			got = strings.ReplaceAll(got, fmt.Sprintf("%q", path), "PATH")
			got = strings.NewReplacer("host_path", "PARAM", "from_file", "PARAM").Replace(got)
			texts[got] = true
		}
	}
	if len(texts) != 1 {
		t.Errorf("%d different refusals, want one: %v", len(texts), texts)
	}
}

func TestNoRoots(t *testing.T) {
	s := connect(t, tools.Config{Client: fakeDaemon(t)})
	s.call("create_vm", args{})
	wantText(t, "cp_to_vm", s.fail("cp_to_vm", args{"host_path": "/etc/passwd", "vm_path": "/tmp/x"}), "may not read any host folder", "--root FOLDER")
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "x", "from_file": "/etc/passwd"}), "may not read any host folder", "--root FOLDER")
}
