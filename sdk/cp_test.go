package slicer_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// upload is what an upload's request was like.
type upload struct {
	Query       url.Values
	ContentType string
	Length      int64
	Body        string
}

// recordUploads serves uploads and keeps the last one.
func recordUploads(t *testing.T) (*slicer.SlicerClient, *upload) {
	t.Helper()
	last := &upload{}
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/vm/vm-1/cp" || r.Method != http.MethodPost {
			t.Errorf("%s %s with the body's error %v", r.Method, r.URL.Path, err)
		}
		*last = upload{r.URL.Query(), r.Header.Get("Content-Type"), r.ContentLength, string(body)}
	}), last
}

func TestCpToVMBinary(t *testing.T) {
	client, got := recordUploads(t)
	source := makeTree(t, map[string]string{"run.sh*": "#!/bin/sh", "empty": "", "link@": "run.sh"})
	for _, tt := range []struct {
		name, permissions string
		uid, gid          uint32
		want              upload
	}{
		{
			"run.sh", "", 0, 0,
			upload{url.Values{"mode": {"binary"}, "path": {"/x y"}, "uid": {"0"}, "gid": {"0"}, "permissions": {"0755"}}, "application/octet-stream", 9, "#!/bin/sh"},
		},
		{
			"link", "0600", slicer.NonRootUser, slicer.NonRootUser,
			upload{url.Values{"mode": {"binary"}, "path": {"/x y"}, "permissions": {"0600"}}, "application/octet-stream", 9, "#!/bin/sh"},
		},
		{
			"empty", "", 1000, slicer.NonRootUser,
			upload{url.Values{"mode": {"binary"}, "path": {"/x y"}, "uid": {"1000"}, "permissions": {"0644"}}, "application/octet-stream", 0, ""},
		},
	} {
		if runtime.GOOS == "windows" && tt.permissions == "" {
			tt.want.Query.Del("permissions")
		}
		err := client.CpToVM(t.Context(), "vm-1", filepath.Join(source, tt.name), "/x y", tt.uid, tt.gid, tt.permissions, "binary")
		if err != nil {
			t.Errorf("CpToVM(%s) = %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, *got); diff != "" {
			t.Errorf("CpToVM(%s) (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestCpToVMTar(t *testing.T) {
	client, got := recordUploads(t)
	source := makeTree(t, map[string]string{"proj/main.c": "int main;", "proj/run.sh*": "#!", "proj/a.o": "obj", "proj/sub/x": "1", "other": "no"})
	for _, tt := range []struct {
		name string
		want map[string]string
	}{
		{"proj", map[string]string{"main.c": "int main;", "run.sh*": "#!", "sub/": "", "sub/x": "1"}},
		{"proj/run.sh", map[string]string{"run.sh*": "#!"}},
	} {
		err := client.CpToVM(t.Context(), "vm-1", filepath.Join(source, tt.name), "/dest", slicer.NonRootUser, slicer.NonRootUser, "", "tar", "*.o")
		if err != nil {
			t.Errorf("CpToVM(%s) = %v", tt.name, err)
		}
		dest := t.TempDir()
		if err := slicer.ExtractTarStream(t.Context(), strings.NewReader(got.Body), dest, 0, 0); err != nil {
			t.Error(err)
		}
		checkTree(t, dest, tt.want)
		got.Body = ""
		want := upload{url.Values{"mode": {"tar"}, "path": {"/dest"}}, "application/x-tar", -1, ""}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("CpToVM(%s) (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestCpToVMSendsSymlinks(t *testing.T) {
	client, got := recordUploads(t)
	source := makeTree(t, map[string]string{"a.txt": "a", "rel@": "a.txt", "bin/tool@": "../a.txt", "abs@": "/etc/hosts", "gone@": "no/where", "l.o@": "a.txt"})
	send := func(fsys fs.FS) map[string]string {
		t.Helper()
		if err := client.CpFSToVM(t.Context(), "vm-1", fsys, ".", "/x", 0, 0, "", "tar", "*.o"); err != nil {
			t.Fatalf("CpFSToVM = %v", err)
		}
		links := map[string]string{}
		for r := tar.NewReader(strings.NewReader(got.Body)); ; {
			header, err := r.Next()
			if err != nil {
				return links
			}
			if header.Typeflag == tar.TypeSymlink {
				links[header.Name] = header.Linkname
			}
		}
	}
	want := map[string]string{"rel": "a.txt", "bin/tool": "../a.txt", "abs": "/etc/hosts", "gone": "no/where"}
	if diff := cmp.Diff(want, send(os.DirFS(source))); diff != "" {
		t.Errorf("the symlinks that were sent (-want +got):\n%s", diff)
	}
	if links := send(struct{ fs.FS }{os.DirFS(source)}); len(links) > 0 {
		t.Errorf("of a file system that is no fs.ReadLinkFS the symlinks %v were sent, want none", links)
	}
}

func TestCpFSToVMStaysInItsRoot(t *testing.T) {
	client, got := recordUploads(t)
	source := makeTree(t, map[string]string{"root/dir/file": "in", "root/dir/escape@": "../../secret", "root/out@": "..", "secret": "out"})
	root, err := os.OpenRoot(filepath.Join(source, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, mode := range []string{"tar", "binary"} {
		if err := client.CpFSToVM(t.Context(), "vm-1", root.FS(), "out/secret", "/x", 0, 0, "", mode); err == nil {
			t.Errorf("CpFSToVM(out/secret, %s) = nil, want an error", mode)
		}
	}
	if err := client.CpFSToVM(t.Context(), "vm-1", root.FS(), "dir", "/x", 0, 0, "", "tar"); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	if err := slicer.ExtractTarStream(t.Context(), strings.NewReader(got.Body), dest, 0, 0); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dest, map[string]string{"file": "in"})
}

func TestCpRefusesBadArguments(t *testing.T) {
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was sent", r.Method, r.URL) })
	source := makeTree(t, map[string]string{"f": "1", "d/x": "2"})
	for _, tt := range []struct {
		name, local, vmPath, permissions, mode string
		exclude                                []string
	}{
		{"unknown mode", "f", "/x", "", "cp-v1-tar", nil},
		{"no mode", "f", "/x", "", "", nil},
		{"permissions", "f", "/x", "u+x", "binary", nil},
		{"large permissions", "f", "/x", "77777", "tar", nil},
		{"excludes of a single file", "f", "/x", "", "binary", []string{"*.o"}},
		{"malformed exclude", "d", "/x", "", "tar", []string{"["}},
		{"no path", "f", "", "", "binary", nil},
		{"no path for a folder", "d", "", "", "tar", nil},
	} {
		if err := client.CpToVM(t.Context(), "vm-1", filepath.Join(source, tt.local), tt.vmPath, 0, 0, tt.permissions, tt.mode, tt.exclude...); err == nil {
			t.Errorf("CpToVM with %s = nil, want an error", tt.name)
		}
		if err := client.CpFromVM(t.Context(), "vm-1", tt.vmPath, filepath.Join(source, "new"), tt.permissions, tt.mode, tt.exclude...); err == nil {
			t.Errorf("CpFromVM with %s = nil, want an error", tt.name)
		}
	}
	for local, mode := range map[string]string{"none": "tar", "none2": "binary", "d": "binary"} {
		err := client.CpToVM(t.Context(), "vm-1", filepath.Join(source, local), "/x", 0, 0, "", mode)
		if err == nil || local != "d" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("CpToVM(%s, %s) = %v, want an error about the local path", local, mode, err)
		}
	}
}

func TestCpToVMRefused(t *testing.T) {
	source := makeTree(t, map[string]string{"d/big": strings.Repeat("x", 4<<20), "d/more": strings.Repeat("x", 4<<20)})
	client := serve(t, answer(http.StatusConflict, "application/json", `{"error":"VM is paused"}`))
	for local, mode := range map[string]string{"d": "tar", "d/big": "binary"} {
		err := client.CpToVM(t.Context(), "vm-1", filepath.Join(source, local), "/x", 0, 0, "", mode)
		if !slicer.IsAPIStatus(err, http.StatusConflict) {
			t.Errorf("CpToVM(%s) = %v, want an APIError with the status 409", local, err)
		}
	}
}

func TestCpToVMAcceptedTooEarlyIsAnError(t *testing.T) {
	source := makeTree(t, map[string]string{"big": strings.Repeat("x", 8<<20)})
	client := serve(t, answer(http.StatusOK, "text/plain", "thanks"))
	if err := client.CpToVM(t.Context(), "vm-1", source, "/x", 0, 0, "", "tar"); err == nil {
		t.Error("CpToVM to a daemon that read nothing = nil, want an error")
	}
}

// failingFS fails to read one of its files midway.
type failingFS struct{ fs.FS }

func (f failingFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if name == "bad" {
		file = failingFile{file}
	}
	return file, err
}

type failingFile struct{ fs.File }

func (failingFile) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func TestCpToVMReportsWhatBrokeTheUpload(t *testing.T) {
	source := makeTree(t, map[string]string{"a": strings.Repeat("x", 1<<20), "bad": "1"})
	var received error
	done := make(chan struct{})
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		defer close(done)
		_, received = io.Copy(io.Discard, r.Body)
	})
	err := client.CpFSToVM(t.Context(), "vm-1", failingFS{os.DirFS(source)}, ".", "/x", 0, 0, "", "tar")
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("CpFSToVM = %v, want the file's error", err)
	}
	<-done
	if received == nil {
		t.Error("the daemon saw a whole upload, want a cut one")
	}
}

func TestCancelledUploadLeavesNothing(t *testing.T) {
	source := makeTree(t, map[string]string{"d/big": strings.Repeat("x", 4<<20)})
	synctest.Test(t, func(t *testing.T) {
		started, ended := make(chan struct{}), make(chan struct{})
		client, stop := pipeServe(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 1024))
			started <- struct{}{}
			<-ended
		})
		defer stop()
		defer close(ended)
		for local, mode := range map[string]string{"d": "tar", "d/big": "binary"} {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-started
				cancel()
			}()
			start := time.Now()
			err := client.CpToVM(ctx, "vm-1", filepath.Join(source, local), "/x", 0, 0, "", mode)
			if !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
				t.Errorf("CpToVM(%s) = %v after %s, want context.Canceled at once", local, err, time.Since(start))
			}
			cancel()
		}
	})
}
