package tools_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

type copied struct {
	VM       string  `json:"vm"`
	VMPath   string  `json:"vm_path"`
	Files    int     `json:"files"`
	Bytes    int64   `json:"bytes"`
	Symlinks int     `json:"symlinks"`
	Skipped  int     `json:"skipped"`
	Seconds  float64 `json:"seconds"`
	SHA256   string  `json:"sha256"`

	State    string `json:"state"`
	HostPath string `json:"host_path"`
	Ignored  int    `json:"ignored"`
	Replaced int    `json:"replaced"`
	Folder   bool   `json:"folder"`
	Process  string `json:"process"`
	Next     string `json:"next"`
}

func TestCopyFile(t *testing.T) {
	s, client, vm, root := fileSession(t)
	content := strings.Repeat("binary\x00\xff", 10_000)
	put(t, root, map[string]string{"sub/data.bin": content, "empty": ""})
	sum := sha256.Sum256([]byte(content))
	for _, tc := range []struct{ name, host, to, want string }{
		{"by absolute path", filepath.Join(root, "sub/data.bin"), "/tmp/a.bin", "/tmp/a.bin"},
		{"by relative path", "sub/data.bin", "/tmp/b.bin", "/tmp/b.bin"},
		{"with dots inside the root", filepath.Join(root, "sub/../sub/./data.bin"), "/tmp/c.bin", "/tmp/c.bin"},
		{"into a folder", "sub/data.bin", "/tmp/", "/tmp/data.bin"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got copied
			text := s.record("cp_to_vm", args{"host_path": tc.host, "vm_path": tc.to}, &got)
			if got.Files != 1 || got.Bytes != int64(len(content)) || got.SHA256 != hex.EncodeToString(sum[:]) || got.VMPath != tc.want || got.VM != vm {
				t.Errorf("cp_to_vm = %+v, want 1 file of %d bytes at %s with SHA-256 %x", got, len(content), tc.want, sum)
			}
			wantText(t, "cp_to_vm", text, "Copied 1 file", tc.want, hex.EncodeToString(sum[:]))
			wantFile(t, client, vm, tc.want, content)
		})
	}
	var got copied
	s.record("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp/empty"}, &got)
	if got.Files != 1 || got.Bytes != 0 || got.SHA256 == "" {
		t.Errorf("cp_to_vm of an empty file = %+v, want 1 file of 0 bytes and its SHA-256", got)
	}
	wantFile(t, client, vm, "/tmp/empty", "")
	wantText(t, "cp_to_vm onto a folder", s.fail("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp"}), `"/tmp" is a folder in VM "web"`, `"/tmp/empty"`)
	wantText(t, "cp_to_vm of a file with exclude", s.fail("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp/x", "exclude": []string{"*.o"}}), "exclude is for folders")
}

func TestCopyFolder(t *testing.T) {
	s, client, vm, root := fileSession(t)
	put(t, root, map[string]string{
		"project/main.go": "package main", "project/sub/a.txt": "a", "project/empty.txt": "",
		"project/node_modules/x/y.js": "left out", "project/sub/b.o": "left out", "outside.txt": "outside",
	})
	if err := os.Symlink("../outside.txt", filepath.Join(root, "project/link")); err != nil {
		t.Skipf("no symlinks here: %v", err)
	}
	var got copied
	text := s.record("cp_to_vm", args{"host_path": "project", "vm_path": "/home/ubuntu/project", "exclude": []string{"node_modules", "**/*.o"}}, &got)
	if got.Files != 3 || got.Bytes != int64(len("package main")+1) || got.Symlinks != 1 || got.Skipped != 0 || got.SHA256 != listSum(map[string]string{"main.go": "package main", "sub/a.txt": "a", "empty.txt": ""}) || !got.Folder {
		t.Errorf("cp_to_vm = %+v, want 3 files of 13 bytes and 1 symlink, with the SHA-256 of their list", got)
	}
	wantText(t, "cp_to_vm", text, "Copied 3 files, 13 bytes", "1 symlink copied as such")
	wantFile(t, client, vm, "/home/ubuntu/project/main.go", "package main")
	wantFile(t, client, vm, "/home/ubuntu/project/sub/a.txt", "a")
	wantFile(t, client, vm, "/home/ubuntu/project/empty.txt", "")
	for _, absent := range []string{"node_modules/x/y.js", "sub/b.o", "link"} {
		if data, err := client.ReadFile(t.Context(), vm, "/home/ubuntu/project/"+absent); err == nil {
			t.Errorf("%s was copied: %q", absent, data)
		}
	}
	s.call("cp_to_vm", args{"host_path": root, "vm_path": "~/all"})
	wantFile(t, client, vm, "/home/ubuntu/all/outside.txt", "outside")
}

// listSum is the checksum of a folder's files: that of sha256sum's list.
func listSum(files map[string]string) string {
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(list.String())))
}

func TestCopyModeAndOwner(t *testing.T) {
	srv := slicertest.NewServer(t)
	root := t.TempDir()
	s := connect(t, tools.Config{Client: srv.Client(), Roots: []string{root}})
	var made vmRecord
	s.record("create_vm", args{}, &made)
	files := srv.Files(made.VM)
	if err := files.WriteFile("/etc/passwd", []byte("web:x:1234:1235::/srv:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, root, map[string]string{"d/a": "a", "d/sub/b": "b", "f": "f"})
	s.call("cp_to_vm", args{"host_path": "d", "vm_path": "/srv/d", "mode": "640", "user": "root"})
	s.call("cp_to_vm", args{"host_path": "f", "vm_path": "/srv/f", "mode": "0751", "user": "web"})
	for _, want := range []struct {
		path     string
		mode     fs.FileMode
		uid, gid uint32
	}{{"/srv/d/a", 0o640, 0, 0}, {"/srv/d/sub/b", 0o640, 0, 0}, {"/srv/f", 0o751, 1234, 1235}} {
		info, err := files.Stat(want.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(slicertest.Owner); info.Mode().Perm() != want.mode || got.UID != want.uid || got.GID != want.gid {
			t.Errorf("%s = %v of %v, want %v of %d:%d", want.path, info.Mode(), got, want.mode, want.uid, want.gid)
		}
	}
	wantText(t, "cp_to_vm with a bad mode", s.fail("cp_to_vm", args{"host_path": "f", "vm_path": "/x", "mode": "rwx"}), `mode "rwx" can't be used`)
	wantText(t, "cp_to_vm for nobody", s.fail("cp_to_vm", args{"host_path": "f", "vm_path": "/x", "user": "gone"}), `there is no user "gone"`)
}

func TestSlicerignore(t *testing.T) {
	const spaced = "with space "
	tree := map[string]string{
		"keep.txt": "k", "a.log": "l", "sub/b.log": "l", "sub/keep.txt": "k", "build/out": "o", "sub/build/out": "o",
		"docs/draft/x": "x", "docs/final/x": "x", "sub/docs/draft/x": "x", "#hash": "h", spaced: "w", "tmp": "a file",
		"sub/tmp/y": "y",
	}
	for _, tc := range []struct {
		name, ignore string
		left         []string // behind
		lines        int
	}{
		{"nothing", "", nil, 0},
		{"comments and blank lines", "# a comment\n\n   \n\r\n", nil, 0},
		{"a name at every depth", "*.log\n", []string{"a.log", "sub/b.log"}, 1},
		{"from the root only", "/build\r\n", []string{"build/out"}, 1},
		{"with a slash in the middle", "docs/draft", []string{"docs/draft/x"}, 1},
		{"across folders", "**/draft\n", []string{"docs/draft/x", "sub/docs/draft/x"}, 1},
		{"folders only", "tmp/\n", []string{"sub/tmp/y"}, 1},
		{"escaped", "\\#hash\nwith space\\ \n", []string{"#hash", spaced}, 2},
		{"after a byte order mark", "\ufeff*.log", []string{"a.log", "sub/b.log"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, client, vm, root := fileSession(t)
			put(t, root, tree)
			put(t, root, map[string]string{".slicerignore": tc.ignore})
			var got copied
			text := s.record("cp_to_vm", args{"host_path": root, "vm_path": "/srv/tree"}, &got)
			if got.Files != len(tree)+1-len(tc.left) || got.Ignored != tc.lines {
				t.Errorf("cp_to_vm = %+v, want %d files and %d globs", got, len(tree)+1-len(tc.left), tc.lines)
			}
			if tc.lines > 0 {
				wantText(t, "cp_to_vm", text, ".slicerignore")
			}
			for name := range tree {
				there, err := client.Exists(t.Context(), vm, "/srv/tree/"+name)
				if err != nil || there == slices.Contains(tc.left, name) {
					t.Errorf("%s is in the VM: %v, %v; left behind should be %q", name, there, err, tc.left)
				}
			}
		})
	}
	for _, tc := range []struct {
		name, ignore string
		want         []string
	}{
		{"a negation", "*.log\n!a.log\n", []string{"line 2", `"!a.log"`, "can't take back another one", "nothing was copied"}},
		{"no glob", "[a\n", []string{"line 1", "not a well-formed glob"}},
		{"what leads out", "../x", []string{"line 1", "without .. in them"}},
		{"too long", strings.Repeat("# comment\n", 10_000), []string{".slicerignore", "larger than"}},
		{"too many lines", strings.Repeat("a\n", 1001), []string{"more than 1,000 globs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, client, vm, root := fileSession(t)
			put(t, root, map[string]string{"a.log": "l", ".slicerignore": tc.ignore})
			wantText(t, "cp_to_vm", s.fail("cp_to_vm", args{"host_path": root, "vm_path": "/srv/tree"}), tc.want...)
			if there, err := client.Exists(t.Context(), vm, "/srv/tree"); there || err != nil {
				t.Errorf("the folder is in the VM: %v, %v", there, err)
			}
		})
	}
}

// TestSlicerignoreOutside is about one that is a symlink out of the folder: what
// it names isn't known, so nothing is copied.
func TestSlicerignoreOutside(t *testing.T) {
	s, _, _, root := fileSession(t)
	put(t, root, map[string]string{"ignore": "*.key", "d/a.key": "k"})
	if err := os.Symlink("../ignore", filepath.Join(root, "d/.slicerignore")); err != nil {
		t.Skipf("no symlinks here: %v", err)
	}
	wantText(t, "cp_to_vm", s.fail("cp_to_vm", args{"host_path": "d", "vm_path": "/srv/d"}), "nothing was copied", ".slicerignore")
}

// shortCall is a limit of calls that a copy can outlast.
const shortCall = 500 * time.Millisecond

// slowCopy is a session whose calls are short, and a server whose copies stand
// still until release.
func slowCopy(t *testing.T, route string) (s *session, srv *slicertest.Server, vm, root string, release func()) {
	t.Helper()
	srv = slicertest.NewServer(t)
	root = t.TempDir()
	s = connect(t, tools.Config{Client: srv.Client(), Roots: []string{root}, CallLimit: shortCall})
	var made vmRecord
	s.record("create_vm", args{}, &made)
	stall := make(chan struct{})
	srv.Fault(route+" /vm/{vm}/cp", slicertest.Fault{Stall: stall, Times: 1})
	return s, srv, made.VM, root, func() { close(stall) }
}

// readEnd reads a process until it has ended.
func readEnd(t *testing.T, s *session, process string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		text := s.call("read_process", args{"process": process})
		if !strings.HasPrefix(text, "still running") {
			return text
		}
	}
	t.Fatalf("process %s doesn't end", process)
	return ""
}

func TestCopyOutlastsCall(t *testing.T) {
	s, srv, vm, root, release := slowCopy(t, http.MethodPost)
	put(t, root, map[string]string{"d/a.txt": "a"})
	var got copied
	text := s.record("cp_to_vm", args{"host_path": "d", "vm_path": "/srv/d"}, &got)
	if got.State != "running" || !strings.HasPrefix(got.Process, "px_") || got.HostPath != "d" || got.VMPath != "/srv/d" {
		t.Errorf("cp_to_vm = %+v, want a running process", got)
	}
	wantText(t, "cp_to_vm", text, "still copying (process "+got.Process+")", fmt.Sprintf("read_process(process=%q)", got.Process), fmt.Sprintf("signal_process(process=%q)", got.Process))
	wantText(t, "list_processes", s.call("list_processes", args{}), got.Process+": running", "cp_to_vm")
	release()
	wantText(t, "read_process", readEnd(t, s, got.Process), "exit 0", "Copied 1 file", listSum(map[string]string{"a.txt": "a"}))
	if data, err := srv.Files(vm).ReadFile("/srv/d/a.txt"); string(data) != "a" {
		t.Errorf("in the VM: %q, %v", data, err)
	}
	wantText(t, "list_processes of a copy within its call", s.call("cp_to_vm", args{"host_path": "d", "vm_path": "/srv/e"}), "Copied")
	if list := s.call("list_processes", args{}); strings.Contains(list, "/srv/e") {
		t.Errorf("list_processes has a copy whose end was told: %s", list)
	}
}

func TestEndCopy(t *testing.T) {
	s, _, _, root, release := slowCopy(t, http.MethodPost)
	defer release()
	put(t, root, map[string]string{"a.txt": "a"})
	var got copied
	s.record("cp_to_vm", args{"host_path": "a.txt", "vm_path": "/srv/a"}, &got)
	wantText(t, "signal_process", s.call("signal_process", args{"process": got.Process}), "SIGTERM sent", "killed by SIGKILL")
	wantText(t, "read_process", readEnd(t, s, got.Process), "killed by SIGKILL", "the copy was ended before it was done")
}
