package slicer_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestFSConforms(t *testing.T) {
	client, vm, files := vmWithFiles(t)
	for name, content := range map[string]string{
		"/srv/a.txt": "first", "/srv/dir/b.txt": "second", "/srv/dir/sub/c": "", "/srv/odd ?#%2f\n": "odd", "/srv/big": strings.Repeat("x", 100_000),
	} {
		if err := files.Mkdir(name[:strings.LastIndexByte(name, '/')]); err != nil {
			t.Fatal(err)
		}
		if err := files.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Mkdir("/srv/empty"); err != nil {
		t.Fatal(err)
	}
	if err := files.Symlink("dir/b.txt", "/srv/link"); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{"/srv", "/srv/"} {
		err := fstest.TestFS(client.FS(t.Context(), vm, root), "a.txt", "dir/b.txt", "dir/sub/c", "odd ?#%2f\n", "big", "empty", "link")
		if err != nil {
			t.Errorf("TestFS of %s: %v", root, err)
		}
	}
	if err := fstest.TestFS(client.FS(t.Context(), vm, "/"), "srv/a.txt", "etc/hostname"); err != nil {
		t.Errorf("TestFS of /: %v", err)
	}
}

func TestFSOfAVM(t *testing.T) {
	client, vm, files := vmWithFiles(t)
	if err := files.Mkdir("/srv/dir"); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteFile("/srv/dir/file", []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	fsys := client.FS(t.Context(), vm, "/srv")

	for _, name := range []string{"../etc/hostname", "/etc/hostname", "dir/../../etc/hostname", "", "dir/"} {
		if _, err := fsys.Open(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Open(%q) = %v, want fs.ErrInvalid", name, err)
		}
		if _, err := fs.ReadFile(fsys, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("ReadFile(%q) = %v, want fs.ErrInvalid", name, err)
		}
		if _, err := fs.ReadDir(fsys, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("ReadDir(%q) = %v, want fs.ErrInvalid", name, err)
		}
	}
	if _, err := fs.Sub(fsys, "../etc"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Sub(../etc) = %v, want fs.ErrInvalid", err)
	}
	if sub, err := fs.Sub(fsys, "dir"); err != nil {
		t.Errorf("Sub(dir) = %v, want nil", err)
	} else if content, err := fs.ReadFile(sub, "file"); err != nil || string(content) != "content" {
		t.Errorf("ReadFile of a Sub = %q, %v, want content", content, err)
	}
	for name, call := range map[string]func() error{
		"Open":     func() error { return errorOf(fsys.Open("none")) },
		"Stat":     func() error { return errorOf(fs.Stat(fsys, "none")) },
		"ReadFile": func() error { return errorOf(fs.ReadFile(fsys, "none")) },
		"ReadDir":  func() error { return errorOf(fs.ReadDir(fsys, "none")) },
	} {
		err := call()
		var pathError *fs.PathError
		if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &pathError) || pathError.Path != "none" {
			t.Errorf("%s of nothing = %v, want a PathError for none with fs.ErrNotExist", name, err)
		}
	}

	dir, err := fsys.Open("dir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Read(make([]byte, 1)); !errors.Is(err, slicer.ErrIsDirectory) {
		t.Errorf("Read of a folder = %v, want ErrIsDirectory", err)
	}
	file, err := fsys.Open("dir/file")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]fs.File{"folder": dir, "file": file} {
		if err := f.Close(); err != nil {
			t.Errorf("Close of a %s = %v, want nil", name, err)
		}
		if _, err := f.Stat(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Stat of a closed %s = %v, want fs.ErrClosed", name, err)
		}
		if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("the second Close of a %s = %v, want fs.ErrClosed", name, err)
		}
	}
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read of a closed file = %v, want fs.ErrClosed", err)
	}
	if _, err := dir.(fs.ReadDirFile).ReadDir(-1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("ReadDir of a closed folder = %v, want fs.ErrClosed", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.FS(ctx, vm, "/srv").Open("dir"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context = %v, want context.Canceled", err)
	}
	if _, err := client.FS(t.Context(), vm, "").Open("dir"); err == nil {
		t.Error("Open without a root = nil, want an error")
	}
}

// TestFSFollowsSymlinks has a daemon that describes a symlink, not its target.
func TestFSFollowsSymlinks(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Query().Get("path"); {
		case strings.HasSuffix(r.URL.Path, "/fs/stat"):
			_, _ = io.WriteString(w, `{"name":"x","type":"symlink","size":4,"mode":"0777"}`)
		case strings.HasSuffix(r.URL.Path, "/fs/readdir"):
			_, _ = io.WriteString(w, `[{"name":"b","type":"file"},{"name":"a","type":"file"}]`)
		case path == "/file":
			w.Header().Set("X-Slicer-File-Mode", "0600")
			_, _ = io.WriteString(w, "content")
		case path == "/dir":
			http.Error(w, "must specify a file not a directory", http.StatusBadRequest)
		default:
			http.Error(w, "no such file or directory", http.StatusNotFound)
		}
	})
	fsys := client.FS(t.Context(), "vm-1", "/")

	file, err := fsys.Open("file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Mode() != 0o600 || info.Size() != 7 || info.Name() != "file" {
		t.Errorf("Stat of a symlink to a file = %v, %v, want a file of 7 bytes with the mode 0600", info, err)
	}
	if content, err := io.ReadAll(file); err != nil || string(content) != "content" {
		t.Errorf("a symlink to a file has %q, %v, want content", content, err)
	}

	dir, err := fsys.Open("dir")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	entries, err := dir.(fs.ReadDirFile).ReadDir(1)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := dir.(fs.ReadDirFile).ReadDir(0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range append(entries, rest...) {
		names = append(names, entry.Name())
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Errorf("a symlink to a folder lists (-want +got):\n%s", diff)
	}
	if _, err := dir.(fs.ReadDirFile).ReadDir(1); !errors.Is(err, io.EOF) {
		t.Errorf("ReadDir at the end = %v, want io.EOF", err)
	}

	if _, err := fsys.Open("dangling"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a dangling symlink = %v, want fs.ErrNotExist", err)
	}
}

func TestFSReportsACutFile(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/fs/stat") {
			_, _ = io.WriteString(w, `{"name":"x","type":"file","size":100}`)
			return
		}
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	fsys := client.FS(t.Context(), "vm-1", "/")
	file, err := fsys.Open("x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if content, err := io.ReadAll(file); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut file reads as %q, %v, want io.ErrUnexpectedEOF", content, err)
	}
	if content, err := fs.ReadFile(fsys, "x"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadFile of a cut file = %q, %v, want io.ErrUnexpectedEOF", content, err)
	}
}
