package slicer_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestReadFile(t *testing.T) {
	client := serve(t, download([]byte("a\x00b"), "0750"))
	data, err := client.ReadFile(t.Context(), "vm-1", "/f")
	check(t, "ReadFile", data, err, []byte("a\x00b"))

	opened, err := client.OpenFile(t.Context(), "vm-1", "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if opened.Mode != 0o750 || opened.Size != 3 {
		t.Errorf("OpenFile = mode %v, size %d, want 0750 and 3", opened.Mode, opened.Size)
	}
	data, err = io.ReadAll(opened)
	check(t, "reading an open file", data, err, []byte("a\x00b"))

	large := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for range 65 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	if _, err := large.ReadFile(t.Context(), "vm-1", "/f"); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("ReadFile of 65 MiB = %v, want that it is too large", err)
	}
	short := serve(t, cut(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "da")
		_ = http.NewResponseController(w).Flush()
	}))
	if data, err := short.ReadFile(t.Context(), "vm-1", "/f"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadFile of a cut stream = %q, %v, want io.ErrUnexpectedEOF", data, err)
	}
}

func TestWriteFile(t *testing.T) {
	client, got := recordUploads(t)
	if err := client.WriteFile(t.Context(), "vm-1", "/etc/x", []byte("a\x00b"), 0o4640, 0, slicer.NonRootUser); err != nil {
		t.Fatal(err)
	}
	want := upload{url.Values{"mode": {"binary"}, "path": {"/etc/x"}, "permissions": {"0640"}, "uid": {"0"}}, "application/octet-stream", 3, "a\x00b"}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("WriteFile (-want +got):\n%s", diff)
	}
	if err := client.WriteFile(t.Context(), "vm-1", "/etc/x", nil, 0, slicer.NonRootUser, slicer.NonRootUser); err != nil {
		t.Fatal(err)
	}
	want = upload{url.Values{"mode": {"binary"}, "path": {"/etc/x"}}, "application/octet-stream", 0, ""}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("WriteFile of nothing (-want +got):\n%s", diff)
	}
}
