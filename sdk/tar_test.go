package slicer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var then = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// makeTree writes files, by name and content, into a new folder. A name that
// ends in a slash is a folder, one that ends in * an executable, one that ends
// in @ a symlink to the content.
func makeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, strings.TrimRight(name, "*@"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch name[len(name)-1] {
		case '/':
			err = os.MkdirAll(path, 0o755)
		case '@':
			err = os.Symlink(content, path)
		case '*':
			err = os.WriteFile(path, []byte(content), 0o755)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "@") {
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// readTree is makeTree the other way round.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		info, err := entry.Info()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			files[name+"/"] = ""
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			files[name+"@"], err = os.Readlink(path)
			return err
		case info.Mode()&0o100 != 0:
			name += "*"
		}
		content, err := os.ReadFile(path)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func checkTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, readTree(t, dir)); diff != "" {
		t.Errorf("the tree (-want +got):\n%s", diff)
	}
}

// archive makes a tar archive. An entry's content is in its Linkname's place for
// all but links.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, header := range entries {
		content := ""
		if header.Typeflag == tar.TypeReg {
			content, header.Linkname = header.Linkname, ""
			header.Size = int64(len(content))
		}
		if header.Mode == 0 {
			header.Mode = 0o644
		}
		header.ModTime = then
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
}

func TestValidRelPath(t *testing.T) {
	for path, want := range map[string]bool{
		"a": true, "a/b": true, ".": true, "./a": true, "a//b": true, "a/": true, `a\b`: true, `a\..\b`: true, "..a": true, "a..b/...": true,
		"": false, "/": false, "/a": false, "..": false, "../a": false, "a/..": false, "a/../b": false, "a\x00": false,
	} {
		if got := slicer.ValidRelPath(path); got != want {
			t.Errorf("ValidRelPath(%q) = %v, want %v", path, got, want)
		}
	}
}

func TestTarRoundTrip(t *testing.T) {
	source := makeTree(t, map[string]string{
		"proj/main.c": "int main;", "proj/run.sh*": "#!/bin/sh", "proj/empty/": "", "proj/deep/er/file": strings.Repeat("x", 300<<10),
		"proj/" + strings.Repeat("long", 50): "long", "proj/zero": "", "proj/link@": "main.c", "proj/out@": "/etc/passwd", "other": "no",
	})
	content := map[string]string{
		"main.c": "int main;", "run.sh*": "#!/bin/sh", "empty/": "", "deep/": "", "deep/er/": "", "deep/er/file": strings.Repeat("x", 300<<10),
		strings.Repeat("long", 50): "long", "zero": "",
	}
	var whole, inside, single bytes.Buffer
	for _, tt := range []struct {
		w           io.Writer
		parent, one string
	}{
		{&whole, source, "proj"}, {&inside, filepath.Join(source, "proj"), "."}, {&single, filepath.Join(source, "proj"), "run.sh"},
	} {
		if err := slicer.StreamTarArchive(t.Context(), tt.w, tt.parent, tt.one); err != nil {
			t.Fatal(err)
		}
	}

	dest := filepath.Join(t.TempDir(), "new")
	if err := slicer.ExtractTarStream(t.Context(), &inside, dest, 0, 0); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dest, content)
	for _, name := range []string{"main.c", "empty", "deep/er/file"} {
		info, err := os.Stat(filepath.Join(dest, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != "deep/er/file" && !info.ModTime().Equal(then) {
			t.Errorf("%s was modified at %v, want %v", name, info.ModTime(), then)
		}
	}

	renamed := filepath.Join(t.TempDir(), "renamed")
	if err := slicer.ExtractTarToPath(t.Context(), bytes.NewReader(whole.Bytes()), renamed, 0, 0); err != nil {
		t.Fatal(err)
	}
	checkTree(t, renamed, content)

	existing := makeTree(t, map[string]string{"there": "before"})
	if err := slicer.ExtractTarToPath(t.Context(), bytes.NewReader(whole.Bytes()), existing, 0, 0, "deep", "long*", "/proj/*.sh"); err != nil {
		t.Fatal(err)
	}
	checkTree(t, existing, map[string]string{"there": "before", "proj/": "", "proj/main.c": "int main;", "proj/empty/": "", "proj/zero": ""})

	parent := makeTree(t, map[string]string{"there": "before", "run.sh": "kept"})
	if err := slicer.ExtractTarToPath(t.Context(), &single, filepath.Join(parent, "copy"), 0, 0); err != nil {
		t.Fatal(err)
	}
	checkTree(t, parent, map[string]string{"there": "before", "run.sh": "kept", "copy*": "#!/bin/sh"})
}

func TestStreamTarArchiveExcludes(t *testing.T) {
	source := makeTree(t, map[string]string{"a.c": "1", "a.o": "2", "node_modules/x/y": "3", "src/node_modules/z": "4", "src/b.c": "5"})
	var buf bytes.Buffer
	if err := slicer.StreamTarArchive(t.Context(), &buf, source, "", "*.o", "node_modules/"); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	if err := slicer.ExtractTarStream(t.Context(), &buf, dest, 0, 0); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dest, map[string]string{"a.c": "1", "src/": "", "src/b.c": "5"})
}

func TestStreamTarArchiveErrors(t *testing.T) {
	source := makeTree(t, map[string]string{"a": "1"})
	if err := slicer.StreamTarArchive(t.Context(), io.Discard, source, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("StreamTarArchive of a missing file = %v, want fs.ErrNotExist", err)
	}
	for _, name := range []string{"../x", "/etc"} {
		if err := slicer.StreamTarArchive(t.Context(), io.Discard, source, name); err == nil {
			t.Errorf("StreamTarArchive of %q = nil, want an error", name)
		}
	}
	if err := slicer.StreamTarArchive(t.Context(), io.Discard, source, "", "["); err == nil {
		t.Error("StreamTarArchive with a bad pattern = nil, want an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := slicer.StreamTarArchive(ctx, io.Discard, source, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("StreamTarArchive with a cancelled context = %v, want context.Canceled", err)
	}
}
