package slicertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// sampleTree has a folder, files of two users, and symlinks of every kind.
func sampleTree(t *testing.T) *memTree {
	t.Helper()
	tree := newMemTree(1000)
	root := &Files{tree: tree, dir: "/"}
	for _, err := range []error{
		root.Mkdir("/dir/sub"),
		root.WriteFile("/dir/file", []byte("text"), 0o644),
		root.WriteFile("/private", []byte("root's"), 0o600),
		root.Symlink("file", "/dir/link"),
		root.Symlink("/dir", "/abs"),
		root.Symlink("../dir/sub/..", "/dir/dots"),
		root.Symlink("loop", "/loop"),
		root.Symlink("gone", "/dangling"),
		root.Symlink("../../../../dir/file", "/dir/up"),
	} {
		if err != nil {
			t.Fatalf("make the tree: %v", err)
		}
	}
	return tree
}

func TestTreeResolvesNames(t *testing.T) {
	tree := sampleTree(t)
	for _, tt := range []struct {
		name string
		want string
		err  error
	}{
		{"/", "folder", nil},
		{"/dir/file", "text", nil},
		{"/dir/link", "text", nil},
		{"/abs/link", "text", nil},
		{"/dir/dots/link", "text", nil},
		{"/abs/dots/dots/file", "text", nil},
		{"/dir/up", "text", nil},
		{"/abs", "folder", nil},
		{"/nope", "", fs.ErrNotExist},
		{"/nope/x", "", fs.ErrNotExist},
		{"/dangling", "", fs.ErrNotExist},
		{"/loop", "", syscall.ELOOP},
		{"/loop/x", "", syscall.ELOOP},
		{"/dir/file/x", "", syscall.ENOTDIR},
		{"/dir/link/x", "", syscall.ENOTDIR},
	} {
		info, err := tree.Stat(t.Context(), tt.name)
		if !errors.Is(err, tt.err) {
			t.Errorf("Stat(%q) = %v, want %v", tt.name, err, tt.err)
		}
		if err != nil {
			continue
		}
		got := "folder"
		if info.Mode.IsRegular() {
			got = readAll(t, tree, tt.name)
		}
		if got != tt.want {
			t.Errorf("%q is %q, want %q", tt.name, got, tt.want)
		}
	}
	info, err := tree.Lstat(t.Context(), "/dir/link")
	if err != nil || info.Mode&fs.ModeSymlink == 0 || info.Target != "file" || info.Name != "link" {
		t.Errorf("Lstat of a symlink = %+v, %v, want it as such", info, err)
	}
}

func readAll(t *testing.T, tree daemon.FileTree, name string) string {
	t.Helper()
	f, _, err := tree.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("Open(%q) = %v", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %q: %v", name, err)
	}
	return string(data)
}

func TestTreeListsByName(t *testing.T) {
	tree := sampleTree(t)
	for limit, want := range map[int][]string{0: {"dots", "file", "link", "sub", "up"}, 2: {"dots", "file"}} {
		list, err := tree.ReadDir(t.Context(), "/dir", limit)
		if err != nil {
			t.Fatalf("ReadDir = %v", err)
		}
		var got []string
		for _, info := range list {
			got = append(got, info.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ReadDir with limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if _, err := tree.ReadDir(t.Context(), "/dir/file", 0); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("ReadDir of a file = %v, want ENOTDIR", err)
	}
}

func TestTreeWriterTakesEffectAtCommit(t *testing.T) {
	tree := sampleTree(t)
	uid := uint32(7)
	write := func(name string) daemon.FileWriter {
		t.Helper()
		w, err := tree.Create(t.Context(), name, daemon.FileAttr{Mode: 0o751, UID: &uid})
		if err != nil {
			t.Fatalf("Create(%q) = %v", name, err)
		}
		if _, err := io.WriteString(w, "new"); err != nil {
			t.Fatalf("write %q: %v", name, err)
		}
		return w
	}
	aborted := write("/dir/file")
	aborted.Abort()
	if got := readAll(t, tree, "/dir/file"); got != "text" {
		t.Errorf("file after Abort = %q, want the old text", got)
	}
	if err := aborted.Commit(); err == nil {
		t.Error("Commit after Abort = nil, want an error")
	}
	w := write("/dir/link")
	if got := readAll(t, tree, "/dir/link"); got != "text" {
		t.Errorf("file before Commit = %q, want the old text", got)
	}
	if err := w.Commit(); err != nil {
		t.Fatalf("Commit = %v", err)
	}
	w.Abort()
	info, err := tree.Lstat(t.Context(), "/dir/link")
	if err != nil || info.Mode != 0o751 || info.UID != 7 || info.Size != 3 {
		t.Errorf("file after Commit = %+v, %v, want a regular one of 3 bytes, mode 0751, uid 7", info, err)
	}
	if got := readAll(t, tree, "/dir/file"); got != "text" {
		t.Errorf("what the symlink led to = %q, want it untouched", got)
	}
	for name, want := range map[string]error{"/nope/x": fs.ErrNotExist, "/dir": syscall.EISDIR, "/dir/file/x": syscall.ENOTDIR} {
		if _, err := tree.Create(t.Context(), name, daemon.FileAttr{}); !errors.Is(err, want) {
			t.Errorf("Create(%q) = %v, want %v", name, err, want)
		}
	}
}

func TestTreeIsBounded(t *testing.T) {
	tree := newMemTree(10)
	files := &Files{tree: tree, dir: "/"}
	for range 3 { // what is replaced, removed or aborted makes room again
		if err := files.WriteFile("/a", []byte("12345678"), 0o644); err != nil {
			t.Fatalf("WriteFile = %v", err)
		}
		if err := files.WriteFile("/b", []byte("123"), 0o644); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("WriteFile beyond the limit = %v, want ENOSPC", err)
		}
		w, err := tree.Create(t.Context(), "/c", daemon.FileAttr{})
		if err != nil {
			t.Fatalf("Create = %v", err)
		}
		if _, err := io.WriteString(w, "12"); err != nil {
			t.Errorf("write within the limit = %v", err)
		}
		if _, err := io.WriteString(w, "3"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("write beyond the limit = %v, want ENOSPC", err)
		}
		w.Abort()
		if err := files.Remove("/a"); err != nil {
			t.Fatalf("Remove = %v", err)
		}
	}
}

func TestTreeMakesAndRemovesFolders(t *testing.T) {
	tree := sampleTree(t)
	ctx := context.Background()
	for _, tt := range []struct {
		what string
		err  error
		want error
	}{
		{"mkdir", tree.Mkdir(ctx, "/new", daemon.FileAttr{}, false), nil},
		{"mkdir of what is there", tree.Mkdir(ctx, "/new", daemon.FileAttr{}, false), fs.ErrExist},
		{"mkdir with parents of what is there", tree.Mkdir(ctx, "/new", daemon.FileAttr{}, true), nil},
		{"mkdir in nothing", tree.Mkdir(ctx, "/a/b", daemon.FileAttr{}, false), fs.ErrNotExist},
		{"mkdir with parents", tree.Mkdir(ctx, "/a/b/c", daemon.FileAttr{}, true), nil},
		{"mkdir with parents over a symlink", tree.Mkdir(ctx, "/abs/x/y", daemon.FileAttr{}, true), nil},
		{"mkdir below a file", tree.Mkdir(ctx, "/dir/file/x", daemon.FileAttr{}, true), syscall.ENOTDIR},
		{"mkdir with parents over a file", tree.Mkdir(ctx, "/dir/file", daemon.FileAttr{}, true), syscall.ENOTDIR},
		{"remove of a full folder", tree.Remove(ctx, "/a", false), syscall.ENOTEMPTY},
		{"remove of an empty folder", tree.Remove(ctx, "/a/b/c", false), nil},
		{"remove of a symlink", tree.Remove(ctx, "/abs", true), nil},
		{"recursive remove", tree.Remove(ctx, "/a", true), nil},
		{"remove of nothing", tree.Remove(ctx, "/a", true), fs.ErrNotExist},
		{"remove of the root", tree.Remove(ctx, "/", true), fs.ErrInvalid},
	} {
		if !errors.Is(tt.err, tt.want) || (tt.err == nil) != (tt.want == nil) {
			t.Errorf("%s = %v, want %v", tt.what, tt.err, tt.want)
		}
	}
	if _, err := tree.Stat(ctx, "/dir/x/y"); err != nil {
		t.Errorf("the folder behind the symlink is gone: %v", err)
	}
}

func TestTreeKeepsUsersApart(t *testing.T) {
	tree := sampleTree(t)
	ubuntu := &Files{tree: tree, dir: "/dir", user: &owner{1000, 1000}}
	if data, err := ubuntu.ReadFile("file"); err != nil || string(data) != "text" {
		t.Errorf("ReadFile of a public file = %q, %v", data, err)
	}
	for what, err := range map[string]error{
		"read":    second(ubuntu.ReadFile("/private")),
		"write":   ubuntu.WriteFile("/private", nil, 0o644),
		"create":  ubuntu.WriteFile("new", nil, 0o644),
		"mkdir":   ubuntu.Mkdir("new"),
		"symlink": ubuntu.Symlink("x", "new"),
		"remove":  ubuntu.Remove("file"),
	} {
		var at *fs.PathError
		if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at) {
			t.Errorf("%s of root's things by ubuntu = %v, want a path error of permission", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzTreeNames(f *testing.F) {
	for _, seed := range []string{"/dir/../abs/link", "/loop/..", "//", "/dir/dots/../..", ".."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		tree := sampleTree(t)
		info, err := tree.Stat(t.Context(), name)
		again, errAgain := tree.Stat(t.Context(), name)
		if fmt.Sprint(info, err) != fmt.Sprint(again, errAgain) {
			t.Errorf("Stat(%q) = %v, %v, then %v, %v", name, info, err, again, errAgain)
		}
		if err == nil && strings.Contains(info.Name, "/") && info.Name != "/" {
			t.Errorf("Stat(%q) has the name %q", name, info.Name)
		}
	})
}
