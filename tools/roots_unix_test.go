//go:build unix

package tools_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestNamedPipes is about files whose opening would wait for ever.
func TestNamedPipes(t *testing.T) {
	s, client, vm, root := fileSession(t)
	put(t, root, map[string]string{"dir/a.txt": "a"})
	for _, pipe := range []string{"pipe", "dir/pipe"} {
		if err := syscall.Mkfifo(filepath.Join(root, pipe), 0o600); err != nil {
			t.Skipf("no named pipes here: %v", err)
		}
	}
	wantText(t, "cp_to_vm of a pipe", s.fail("cp_to_vm", args{"host_path": "pipe", "vm_path": "/tmp/x"}), "is not a readable file or folder")
	wantText(t, "create_secret of a pipe", s.fail("create_secret", args{"name": "x", "from_file": "pipe"}), "is not a readable file or folder")
	var got copied
	s.record("cp_to_vm", args{"host_path": "dir", "vm_path": "/tmp/dir"}, &got)
	if got.Files != 1 || got.Skipped != 1 {
		t.Errorf("cp_to_vm of a folder with a pipe = %+v, want 1 file and 1 skipped", got)
	}
	wantFile(t, client, vm, "/tmp/dir/a.txt", "a")
}

// TestRootBehindSymlink is about a root that the operator names by a symlink.
func TestRootBehindSymlink(t *testing.T) {
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	put(t, real, map[string]string{"a.txt": "a"})
	s, client, vm := rootedSession(t, link)
	for i, path := range []string{filepath.Join(link, "a.txt"), filepath.Join(real, "a.txt"), "a.txt"} {
		to := "/tmp/" + string(rune('a'+i))
		s.call("cp_to_vm", args{"host_path": path, "vm_path": to})
		wantFile(t, client, vm, to, "a")
	}
}
