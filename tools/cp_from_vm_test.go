package tools_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// fill writes files of a VM as root, making the folders above.
func fill(t *testing.T, files *slicertest.Files, tree map[string]string) {
	t.Helper()
	for name, content := range tree {
		if err := files.Mkdir(name[:strings.LastIndexByte(name, '/')+1]); err != nil {
			t.Fatal(err)
		}
		if err := files.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// onHost is what is below dir: files by name, folders with a slash at the end
// where they are empty.
func onHost(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if e.IsDir() {
			inside, err := os.ReadDir(path)
			if err == nil && len(inside) == 0 {
				tree[name+"/"] = ""
			}
			return err
		}
		data, err := os.ReadFile(path)
		tree[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// outSession is a session with one VM, and one root.
func outSession(t *testing.T) (s *session, srv *slicertest.Server, vm, root string) {
	t.Helper()
	srv = slicertest.NewServer(t)
	root = t.TempDir()
	s = connect(t, tools.Config{Client: srv.Client(), Roots: []string{root}})
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	return s, srv, made.VM, root
}

func TestCopyFileOut(t *testing.T) {
	s, srv, vm, root := outSession(t)
	content := strings.Repeat("binary\x00\xff", 10_000)
	fill(t, srv.Files(vm), map[string]string{"/srv/data.bin": content, "/srv/empty": ""})
	put(t, root, map[string]string{"old.bin": "old, and longer than nothing", "folder/x": "x"})
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	for _, tc := range []struct {
		name, to, want string
		replaced       int
	}{
		{"to a new name", "new.bin", "new.bin", 0},
		{"by absolute path", filepath.Join(root, "abs.bin"), "abs.bin", 0},
		{"over a file", "old.bin", "old.bin", 1},
		{"into a folder", "folder/", "folder/data.bin", 0},
		{"into missing folders", "a/b/c/", "a/b/c/data.bin", 0},
		{"to a name in missing folders", "d/e/f.bin", "d/e/f.bin", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got copied
			text := s.record("cp_from_vm", args{"vm_path": "/srv/data.bin", "host_path": tc.to}, &got)
			if got.State != "done" || got.Files != 1 || got.Bytes != int64(len(content)) || got.SHA256 != sum || got.Replaced != tc.replaced || !strings.HasSuffix(got.HostPath, tc.want) {
				t.Errorf("cp_from_vm = %+v, want 1 file of %d bytes with SHA-256 %s", got, len(content), sum)
			}
			wantText(t, "cp_from_vm", text, "Copied 1 file", "80,000 bytes", `"/srv/data.bin" in VM`, tc.want, sum)
			if data, err := os.ReadFile(filepath.Join(root, tc.want)); string(data) != content {
				t.Errorf("on the host %.20q, %v", data, err)
			}
		})
	}
	s.call("cp_from_vm", args{"vm_path": "/srv/empty", "host_path": "empty"})
	before := onHost(t, root)
	for what, call := range map[string]struct {
		args args
		want []string
	}{
		"onto a folder":     {args{"vm_path": "/srv/data.bin", "host_path": "folder"}, []string{`host_path "folder" is a folder`, "folder/data.bin"}},
		"of what isn't":     {args{"vm_path": "/srv/gone", "host_path": "x"}, []string{`no "/srv/gone"`, "list_files"}},
		"with exclude":      {args{"vm_path": "/srv/data.bin", "host_path": "x", "exclude": []string{"a"}}, []string{"exclude is for folders"}},
		"from no path":      {args{"vm_path": "srv", "host_path": "x"}, []string{"vm_path"}},
		"a folder to files": {args{"vm_path": "/srv", "host_path": "old.bin"}, []string{`host_path "old.bin" is a file`}},
	} {
		wantText(t, "cp_from_vm "+what, s.fail("cp_from_vm", call.args), call.want...)
	}
	if diff := cmp.Diff(before, onHost(t, root)); diff != "" {
		t.Errorf("failures left something (-before +after):\n%s", diff)
	}
}

func TestCopyFolderOut(t *testing.T) {
	s, srv, vm, root := outSession(t)
	files := srv.Files(vm)
	fill(t, files, map[string]string{"/srv/p/a.txt": "new a", "/srv/p/sub/b.txt": "b", "/srv/p/skip/c.o": "c"})
	if err := files.Symlink("/etc", "/srv/p/link"); err != nil {
		t.Fatal(err)
	}
	put(t, root, map[string]string{"there/a.txt": "old a", "there/mine.txt": "mine", "there/sub/deep/x": "x"})
	want := map[string]string{"a.txt": "new a", "sub/b.txt": "b"}
	var fresh, merged copied
	s.record("cp_from_vm", args{"vm_path": "/srv/p", "host_path": "x/fresh", "exclude": []string{"skip"}}, &fresh)
	if diff := cmp.Diff(want, onHost(t, filepath.Join(root, "x/fresh"))); diff != "" {
		t.Errorf("a new folder (-want +got):\n%s", diff)
	}
	if fresh.Files != 2 || fresh.Bytes != 6 || fresh.Replaced != 0 || !fresh.Folder || fresh.SHA256 != listSum(want) {
		t.Errorf("cp_from_vm = %+v, want 2 files of 6 bytes with the list's SHA-256 %s", fresh, listSum(want))
	}
	text := s.record("cp_from_vm", args{"vm_path": "/srv/p/", "host_path": "there", "exclude": []string{"skip"}}, &merged)
	wantText(t, "cp_from_vm into a folder", text, "Copied 2 files", "Replaced 1 file that was there", "SHA-256 of the list of its files", listSum(want))
	if diff := cmp.Diff(map[string]string{"a.txt": "new a", "sub/b.txt": "b", "mine.txt": "mine", "sub/deep/x": "x"}, onHost(t, filepath.Join(root, "there"))); diff != "" {
		t.Errorf("a folder that was there (-want +got):\n%s", diff)
	}

	// There and back the checksum is the same.
	var back copied
	s.record("cp_to_vm", args{"host_path": "x/fresh", "vm_path": "/srv/back"}, &back)
	if back.SHA256 != fresh.SHA256 {
		t.Errorf("cp_to_vm's SHA-256 is %s, cp_from_vm's %s", back.SHA256, fresh.SHA256)
	}
}

// TestCopyOutLeavesNothing is about copies that go wrong midway.
func TestCopyOutLeavesNothing(t *testing.T) {
	big := strings.Repeat("x", 200_000)
	for _, tc := range []struct {
		name, from, to string
		fault          slicertest.Fault
		want           []string
	}{
		{"a file that is cut", "/srv/p/big", "new/file", slicertest.Fault{Cut: true, CutAfter: 100_000}, []string{"broke", "nothing of it is left"}},
		{"a file over another that is cut", "/srv/p/big", "there/a.txt", slicertest.Fault{Cut: true, CutAfter: 100_000}, []string{"nothing of it is left"}},
		{"a folder that is cut", "/srv/p", "new/folder", slicertest.Fault{Cut: true, CutAfter: 150_000}, []string{"broke", "nothing of it is left"}},
		{"a folder into another that is cut", "/srv/p", "there", slicertest.Fault{Cut: true, CutAfter: 150_000}, []string{"nothing of it is left"}},
		{"a folder where a file is", "/srv/p", "clash", slicertest.Fault{}, []string{`"a.txt" is a folder in host_path "clash", and a file in vm_path`, "nothing was copied"}},
		{"a file where a folder is", "/srv/p", "clash2", slicertest.Fault{}, []string{`"sub" is a file or symlink in host_path "clash2"`, "nothing was copied"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, srv, vm, root := outSession(t)
			fill(t, srv.Files(vm), map[string]string{"/srv/p/a.txt": "new", "/srv/p/big": big, "/srv/p/sub/z": big})
			put(t, root, map[string]string{"there/a.txt": "old", "clash/a.txt/x": "x", "clash2/sub": "x"})
			before := onHost(t, root)
			if tc.fault.Cut {
				srv.Fault("GET /vm/{vm}/cp", tc.fault)
			}
			wantText(t, "cp_from_vm", s.fail("cp_from_vm", args{"vm_path": tc.from, "host_path": tc.to}), tc.want...)
			if diff := cmp.Diff(before, onHost(t, root)); diff != "" {
				t.Errorf("something is left (-before +after):\n%s", diff)
			}
		})
	}
}

func TestCopyOutOutlastsCall(t *testing.T) {
	s, srv, vm, root, release := slowCopy(t, http.MethodGet)
	fill(t, srv.Files(vm), map[string]string{"/srv/p/a.txt": "a"})
	var got copied
	s.record("cp_from_vm", args{"vm_path": "/srv/p", "host_path": "p"}, &got)
	if got.State != "running" || !strings.HasPrefix(got.Process, "px_") {
		t.Fatalf("cp_from_vm = %+v, want a running process", got)
	}
	release()
	wantText(t, "read_process", readEnd(t, s, got.Process), "exit 0", "Copied 1 file")
	if diff := cmp.Diff(map[string]string{"p/a.txt": "a"}, onHost(t, root)); diff != "" {
		t.Errorf("on the host (-want +got):\n%s", diff)
	}
}

func TestEndCopyOut(t *testing.T) {
	_, srv, vm, root := outSession(t)
	fill(t, srv.Files(vm), map[string]string{"/srv/p/a": strings.Repeat("x", 1<<20)})
	stall := make(chan struct{})
	defer close(stall)
	s := connect(t, tools.Config{Client: srv.Client(), Roots: []string{root}, CallLimit: shortCall})
	srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Stall: stall, StallAfter: 200_000})
	var got copied
	text := s.record("cp_from_vm", args{"vm_path": "/srv/p", "host_path": "p"}, &got)
	if len(onHost(t, root)) == 0 {
		t.Errorf("nothing is being written while the copy runs: %s", text)
	}
	s.call("signal_process", args{"process": got.Process})
	wantText(t, "read_process", readEnd(t, s, got.Process), "killed by SIGKILL", "nothing of it is left")
	if left := onHost(t, root); len(left) > 0 {
		t.Errorf("a copy that was ended left %d files", len(left))
	}
}

// TestCancelCopyOut is about a client that takes its call back, and one that is
// merely gone, whose copy goes on.
func TestCancelCopyOut(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cause error
		want  map[string]string
	}{
		{"a call that was taken back", tools.ErrCancelled, map[string]string{}},
		{"a client that has gone", io.EOF, map[string]string{"p/a": strings.Repeat("x", 1<<20)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, srv, vm, root := outSession(t)
			fill(t, srv.Files(vm), map[string]string{"/srv/p/a": strings.Repeat("x", 1<<20)})
			stall := make(chan struct{})
			srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Stall: stall, StallAfter: 200_000})
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				begun := func(r slicertest.Request) bool { return r.Query.Get("mode") == "tar" }
				for !slices.ContainsFunc(srv.Requests(), begun) && ctx.Err() == nil {
					runtime.Gosched()
				}
				cancel(tc.cause)
			}()
			var req mcp.CallToolRequest
			req.Params.Name, req.Params.Arguments = "cp_from_vm", args{"vm_path": "/srv/p", "host_path": "p"}
			res, err := s.client.CallTool(ctx, req)
			if err == nil && !res.IsError {
				t.Errorf("a cancelled copy = %q, want an error", textOf(t, res))
			}
			if errors.Is(tc.cause, tools.ErrCancelled) {
				defer close(stall)
			} else {
				close(stall)
			}
			list := s.call("list_processes", args{})
			if i := strings.Index(list, "px_"); i >= 0 {
				process, _, _ := strings.Cut(list[i:], ":")
				readEnd(t, s, process)
			}
			if diff := cmp.Diff(tc.want, onHost(t, root)); diff != "" {
				t.Errorf("on the host (-want +got):\n%.300s", diff)
			}
		})
	}
}

// TestHostileArchives is about a guest that sends what a copy must not take.
func TestHostileArchives(t *testing.T) {
	entries := func(n int, h tar.Header) func(w *tar.Writer) {
		return func(w *tar.Writer) {
			for range n {
				if w.WriteHeader(&h) != nil {
					return
				}
			}
		}
	}
	for _, tc := range []struct {
		name    string
		archive func(w *tar.Writer)
		want    []string
	}{
		{"a name that leads up", entries(1, tar.Header{Typeflag: tar.TypeReg, Name: "../x"}), []string{"unsafe name"}},
		{"an absolute name", entries(1, tar.Header{Typeflag: tar.TypeReg, Name: "/etc/x"}), []string{"unsafe name"}},
		{"too many bytes", entries(1, tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 17 << 30}), []string{"more than 16 GiB", "nothing of it is left"}},
		{"too many entries", entries(200_001, tar.Header{Typeflag: tar.TypeDir, Name: "x"}), []string{"200,000", "nothing of it is left"}},
		{"a symlink, and a file through it", func(w *tar.Writer) {
			entries(1, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/tmp"})(w)
			entries(1, tar.Header{Typeflag: tar.TypeReg, Name: "l/x"})(w)
			w.Close()
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			s := connect(t, tools.Config{Roots: []string{root}, Client: daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/nodes":
					answer(200, `[{"hostname":"sbox-1","status":"Running"}]`)(w, r)
				case r.URL.Query().Get("mode") == "tar":
					tc.archive(tar.NewWriter(w))
				default:
					answer(400, `{"error":"must specify a file not a directory"}`)(w, r)
				}
			})})
			call := args{"vm": "sbox-1", "vm_path": "/srv", "host_path": "p"}
			if tc.want == nil {
				s.call("cp_from_vm", call)
				if diff := cmp.Diff(map[string]string{"p/l/x": ""}, onHost(t, root)); diff != "" {
					t.Errorf("on the host (-want +got):\n%s", diff)
				}
				return
			}
			res := s.raw(t.Context(), "cp_from_vm", call)
			text, failed := textOf(t, res), res.IsError
			if rest, slow := strings.CutPrefix(text, "still copying (process "); slow { // on a busy machine
				process, _, _ := strings.Cut(rest, ")")
				text = readEnd(t, s, process)
				failed = !strings.HasPrefix(text, "exit 0")
			}
			if !failed {
				t.Errorf("cp_from_vm succeeded: %s", text)
			}
			wantText(t, "cp_from_vm", text, tc.want...)
			if left := onHost(t, root); len(left) > 0 {
				t.Errorf("%d files are left", len(left))
			}
		})
	}
}

// TestCopyOutModes is about permissions: those of the VM, without setuid.
func TestCopyOutModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permissions here")
	}
	s, srv, vm, root := outSession(t)
	fill(t, srv.Files(vm), map[string]string{"/srv/p/run": "x", "/srv/one": "x"})
	for _, name := range []string{"/srv/p/run", "/srv/one"} {
		if err := srv.Files(vm).Chmod(name, 0o700|fs.ModeSetuid); err != nil {
			t.Fatal(err)
		}
	}
	s.call("cp_from_vm", args{"vm_path": "/srv/p", "host_path": "p"})
	s.call("cp_from_vm", args{"vm_path": "/srv/one", "host_path": "one"})
	for _, name := range []string{"p/run", "one"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode() != 0o700 {
			t.Errorf("%s has the mode %v, %v; want 0700", name, info.Mode(), err)
		}
	}
}
