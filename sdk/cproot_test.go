package slicer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestCpFromVMToRoot(t *testing.T) {
	srv := slicertest.NewServer(t)
	client := srv.Client()
	vm, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	files := srv.Files(vm.Hostname)
	for name, content := range map[string]string{"/srv/p/a": "a", "/srv/p/sub/b": "bb", "/srv/p/skip/c": "c"} {
		if err := errors.Join(files.Mkdir(filepath.ToSlash(filepath.Dir(name))), files.WriteFile(name, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var seen []string
	var content bytes.Buffer
	err = client.CpFromVMToRoot(t.Context(), vm.Hostname, "/srv/p", root, slicer.CpRootOptions{
		Exclude: []string{"skip"},
		Entry: func(h *tar.Header) (io.Writer, error) {
			seen = append(seen, h.Name)
			return &content, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "sub/", "sub/b"}, seen); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if content.String() != "abb" {
		t.Errorf("the writer got %q, want %q", content.String(), "abb")
	}
	if diff := cmp.Diff(map[string]string{"a": "a", "sub/": "", "sub/b": "bb"}, readTree(t, dir)); diff != "" {
		t.Errorf("in the root (-want +got):\n%s", diff)
	}

	enough := errors.New("enough")
	err = client.CpFromVMToRoot(t.Context(), vm.Hostname, "/srv/p", root, slicer.CpRootOptions{
		Entry: func(*tar.Header) (io.Writer, error) { return nil, enough },
	})
	if !errors.Is(err, enough) {
		t.Errorf("CpFromVMToRoot = %v, want the error of Entry", err)
	}
	if err := client.CpFromVMToRoot(t.Context(), vm.Hostname, "/gone", root, slicer.CpRootOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CpFromVMToRoot of what isn't there = %v, want fs.ErrNotExist", err)
	}
	if err := client.CpFromVMToRoot(t.Context(), vm.Hostname, "/srv", root, slicer.CpRootOptions{Exclude: []string{"!x"}}); !errors.Is(err, slicer.ErrBadPattern) {
		t.Errorf("CpFromVMToRoot with a bad pattern = %v, want ErrBadPattern", err)
	}
}
