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
	"runtime"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestExtractRefusesHostileArchives(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []tar.Header
		setup   map[string]string
	}{
		{name: "climbing", entries: []tar.Header{file("../evil", "x")}},
		{name: "climbing in the middle", entries: []tar.Header{file("a/../../evil", "x")}},
		{name: "absolute", entries: []tar.Header{file("/evil", "x")}},
		{name: "the root as a file", entries: []tar.Header{file(".", "x")}},
		{name: "climbing folder", entries: []tar.Header{folder("../evil")}},
		{name: "through a symlink", entries: []tar.Header{file("link/evil", "x")}, setup: map[string]string{"dest/link@": ".."}},
		{name: "through a symlink that stays inside", entries: []tar.Header{file("link/evil", "x")}, setup: map[string]string{"dest/real/": "", "dest/link@": "real"}},
		{name: "a folder at a symlink's place", entries: []tar.Header{folder("link")}, setup: map[string]string{"dest/link@": ".."}},
		{name: "a folder at a file's place", entries: []tar.Header{file("f/x", "x")}, setup: map[string]string{"dest/f": "1"}},
		{name: "a file at a folder's place", entries: []tar.Header{file("f", "x")}, setup: map[string]string{"dest/f/x": "1"}},
		{name: "a very long name", entries: []tar.Header{file(strings.Repeat("a/", 5000)+"x", "x")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outside := makeTree(t, tt.setup)
			if err := os.MkdirAll(filepath.Join(outside, "dest"), 0o755); err != nil {
				t.Fatal(err)
			}
			before := readTree(t, outside)
			err := slicer.ExtractTarStream(t.Context(), bytes.NewReader(archive(t, tt.entries...)), filepath.Join(outside, "dest"), 0, 0)
			if err == nil {
				t.Error("ExtractTarStream = nil, want an error")
			}
			checkTree(t, outside, before)
		})
	}
}

func TestExtractSkipsAndReplaces(t *testing.T) {
	outside := makeTree(t, map[string]string{"target": "safe", "dest/link@": "../target", "dest/old": "old"})
	data := archive(
		t, folder("."), file("link", "replaced"), file("old", "new"), file("./a//b", "dotted"),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "sym", Linkname: "/etc"},
		tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "old"},
		tar.Header{Typeflag: tar.TypeChar, Name: "dev"}, tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"},
		tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Linkname: "x"},
		tar.Header{Typeflag: tar.TypeDir, Name: "sticky/", Mode: 0o1777},
	)
	if err := slicer.ExtractTarStream(t.Context(), bytes.NewReader(data), filepath.Join(outside, "dest"), 0, slicer.NonRootUser); err != nil {
		t.Fatal(err)
	}
	checkTree(t, outside, map[string]string{
		"target": "safe", "dest/": "", "dest/link": "replaced", "dest/old": "new", "dest/a/": "", "dest/a/b": "dotted", "dest/suid*": "x", "dest/sticky/": "",
	})
	for _, name := range []string{"suid", "sticky"} {
		info, err := os.Stat(filepath.Join(outside, "dest", name))
		if err != nil {
			t.Fatal(err)
		}
		if special := info.Mode() & (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); special != 0 {
			t.Errorf("%s has the bits %v, want none", name, special)
		}
	}
}

func TestExtractRefusesSparseFiles(t *testing.T) {
	// 1 TiB of holes in a few KiB, in the PAX 1.0 form: a map of the data, and
	// the data.
	holes := "1\n1099511627775\n1\n"
	content := holes + strings.Repeat("\x00", 512-len(holes)) + "x"
	data := archive(t, tar.Header{
		Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/bomb", Linkname: content,
		PAXRecords: map[string]string{
			"SLI.sparse.major": "1", "SLI.sparse.minor": "0", "SLI.sparse.name": "bomb", "SLI.sparse.realsize": "1099511627776",
		},
	})
	// archive/tar writes no sparse files, but it reads them.
	data = bytes.ReplaceAll(data, []byte("SLI.sparse"), []byte("GNU.sparse"))
	if header, err := tar.NewReader(bytes.NewReader(data)).Next(); err != nil || header.Size != 1<<40 {
		t.Fatalf("the archive's file = %+v, %v, want one of 1 TiB", header, err)
	}
	dest := t.TempDir()
	if err := slicer.ExtractTarStream(t.Context(), bytes.NewReader(data), dest, 0, 0); err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("ExtractTarStream of a sparse file = %v, want an error that says so", err)
	}
	checkTree(t, dest, map[string]string{})
}

func TestExtractReportsCutArchives(t *testing.T) {
	zeros := strings.Repeat("\x00", 2048)
	data := archive(t, folder("d"), file("d/zeros", zeros), file("z", "end"))
	for _, length := range []int{0, 1, 511, 512, 700, 1024, 512 + 512 + 2048, len(data) - 2560, len(data) - 1536, len(data) - 1024, len(data) - 512, len(data) - 1} {
		dest := t.TempDir()
		err := slicer.ExtractTarToPath(t.Context(), bytes.NewReader(data[:length]), filepath.Join(dest, "new"), 0, 0)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ExtractTarToPath of %d of %d bytes = %v, want io.ErrUnexpectedEOF", length, len(data), err)
		}
		checkTree(t, dest, map[string]string{})
		if err := slicer.ExtractTarStream(t.Context(), bytes.NewReader(data[:length]), dest, 0, 0); err == nil {
			t.Errorf("ExtractTarStream of %d of %d bytes = nil, want an error", length, len(data))
		}
		for name, content := range readTree(t, dest) {
			if whole := map[string]string{"d/": "", "d/zeros": zeros, "z": "end"}; content != whole[name] {
				t.Errorf("after %d bytes there is a partial %s", length, name)
			}
		}
	}
}

func TestExtractToPathKinds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []tar.Header
		dest    string
		want    map[string]string // nil is an error that changes nothing
	}{
		{"several names to a new folder", []tar.Header{file("a", "1"), file("b", "2")}, "new", map[string]string{"f": "0", "d/": "", "new/": "", "new/a": "1", "new/b": "2"}},
		{"one folder renamed", []tar.Header{folder("a"), file("a/b", "2")}, "new", map[string]string{"f": "0", "d/": "", "new/": "", "new/b": "2"}},
		{"one file renamed", []tar.Header{file("a", "1")}, "new", map[string]string{"f": "0", "d/": "", "new": "1"}},
		{"one file over a file", []tar.Header{file("a", "1")}, "f", map[string]string{"f": "1", "d/": ""}},
		{"one file into a folder", []tar.Header{file("a", "1")}, "d", map[string]string{"f": "0", "d/": "", "d/a": "1"}},
		{"nothing", nil, "new", map[string]string{"f": "0", "d/": "", "new/": ""}},
		{"a folder over a file", []tar.Header{folder("a")}, "f", nil},
		{"no parent", []tar.Header{file("a", "1")}, "none/new", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := makeTree(t, map[string]string{"f": "0", "d/": ""})
			err := slicer.ExtractTarToPath(t.Context(), bytes.NewReader(archive(t, tt.entries...)), filepath.Join(dir, tt.dest), 0, 0)
			if (err == nil) != (tt.want != nil) {
				t.Errorf("ExtractTarToPath = %v", err)
			}
			if tt.want == nil {
				tt.want = map[string]string{"f": "0", "d/": ""}
			}
			checkTree(t, dir, tt.want)
		})
	}
}

func TestExtractChowns(t *testing.T) {
	if os.Getuid() != 0 || runtime.GOOS == "windows" {
		t.Skip("only root gives files away")
	}
	dest := t.TempDir()
	data := archive(t, folder("d"), file("d/f", "1"))
	if err := slicer.ExtractTarStream(t.Context(), bytes.NewReader(data), dest, 1234, 2345); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "d/f"} {
		if uid, gid := owner(t, filepath.Join(dest, name)); uid != 1234 || gid != 2345 {
			t.Errorf("%s belongs to %d:%d, want 1234:2345", name, uid, gid)
		}
	}
}

func TestExtractEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dest := t.TempDir()
	reader := io.MultiReader(
		bytes.NewReader(archive(t, file("a", "1"), file("b", strings.Repeat("x", 1<<20)))[:4096]),
		readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }),
	)
	if err := slicer.ExtractTarStream(ctx, reader, dest, 0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ExtractTarStream = %v, want context.Canceled", err)
	}
	checkTree(t, dest, map[string]string{"a": "1"})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzExtractTarStream(f *testing.F) {
	f.Add(archive(f, folder("d"), file("d/f", "1"), file("../x", "2")))
	f.Add(archive(f, file("a", strings.Repeat("x", 2000)), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, file("l/x", "2")))
	f.Add([]byte{})
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		dest := filepath.Join(outside, "dest")
		// Whatever it says, nothing may come to be outside of dest.
		_ = slicer.ExtractTarStream(t.Context(), bytes.NewReader(data), dest, 0, 0)
		entries, err := os.ReadDir(outside)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || entries[0].Name() != "dest" {
			t.Errorf("outside of dest there is %v", entries)
		}
		err = filepath.WalkDir(dest, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && !entry.Type().IsRegular() {
				t.Errorf("%s is %v, want files and folders only", path, entry.Type())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func tar755(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content, Mode: 0o755}
}
