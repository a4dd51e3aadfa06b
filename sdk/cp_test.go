package slicer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
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

func TestCpFromVMKeepsSymlinksInside(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symlinks need a privilege here")
	}
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	for _, tt := range []struct {
		name    string
		entries []tar.Header
		want    map[string]string // in the new folder; nil is an error
	}{
		{
			"those that stay inside",
			[]tar.Header{
				file("a", "1"), link("rel", "a"), link("d/up", "../a"), link("d/e/top", "../../d/./up"), link("d/gone", "none//where"), link("dot", "."), link("d/root", ".."),
			},
			map[string]string{"a": "1", "rel@": "a", "d/": "", "d/up@": "../a", "d/e/": "", "d/e/top@": "../../d/./up", "d/gone@": "none//where", "dot@": ".", "d/root@": ".."},
		},
		{
			"not those that lead out, or might",
			[]tar.Header{
				file("a", "1"), link("abs", "/etc/passwd"), link("up", "../x"), link("d/up", "../../x"), link("middle", "d/../a"), link("long", strings.Repeat("x/", 3000)),
			},
			map[string]string{"a": "1"},
		},
		{"the last of a name counts", []tar.Header{link("a", "b"), file("a", "1"), file("b", "2"), link("b", "a")}, map[string]string{"a": "1", "b@": "a"}},
		{"a file below a symlink", []tar.Header{folder("d"), link("l", "d"), file("l/x", "1")}, nil},
		{"a symlink below a symlink", []tar.Header{folder("d"), link("l", "d"), link("l/x", "y")}, nil},
		{"a folder in a symlink's place", []tar.Header{folder("d"), link("l", "d"), folder("l")}, nil},
		{"a symlink in a folder's place", []tar.Header{folder("l"), link("l", "d")}, nil},
		{"a single symlink of the folder's name", []tar.Header{link("src", "secret")}, map[string]string{"src@": "secret"}},
		{"a file that becomes a symlink", []tar.Header{file("src", "1"), link("src", "secret")}, map[string]string{"src@": "secret"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/vm/vm-1/cp" {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				w.Header().Set("Content-Type", "application/x-tar")
				_, _ = w.Write(archive(t, tt.entries...))
			})
			dir := makeTree(t, map[string]string{"secret": "s"})
			err := client.CpFromVM(t.Context(), "vm-1", "/srv/src", filepath.Join(dir, "new"), "", "tar")
			if (err == nil) != (tt.want != nil) {
				t.Errorf("CpFromVM = %v", err)
			}
			want := map[string]string{"secret": "s"}
			if tt.want != nil {
				want["new/"] = ""
			}
			for name, content := range tt.want {
				want["new/"+name] = content
			}
			checkTree(t, dir, want)
		})
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

// download returns a handler for a file or archive.
func download(body []byte, mode string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if mode != "" {
			w.Header().Set("X-Slicer-File-Mode", mode)
		}
		_, _ = w.Write(body)
	}
}

func TestCpFromVMBinary(t *testing.T) {
	for _, tt := range []struct {
		name, dest, mode, permissions string
		want                          map[string]string
	}{
		{"new", "new", "0755", "", map[string]string{"f": "0", "d/": "", "new*": "data"}},
		{"over a file", "f", "0644", "", map[string]string{"f": "data", "d/": ""}},
		{"into a folder", "d", "100755", "", map[string]string{"f": "0", "d/": "", "d/app*": "data"}},
		{"permissions", "new", "0644", "0700", map[string]string{"f": "0", "d/": "", "new*": "data"}},
		{"no mode", "new", "", "", map[string]string{"f": "0", "d/": "", "new": "data"}},
		{"setuid", "new", "4644", "", map[string]string{"f": "0", "d/": "", "new": "data"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := makeTree(t, map[string]string{"f": "0", "d/": ""})
			query := ""
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.RawQuery
				download([]byte("data"), tt.mode)(w, r)
			})
			if err := client.CpFromVM(t.Context(), "vm-1", "/opt/app", filepath.Join(dir, tt.dest), tt.permissions, "binary"); err != nil {
				t.Fatal(err)
			}
			checkTree(t, dir, tt.want)
			if want := "mode=binary&path=%2Fopt%2Fapp"; query != want {
				t.Errorf("query %q, want %q", query, want)
			}
		})
	}
}

func TestCpFromVMTar(t *testing.T) {
	gnu := append(archive(t, file("app", "1")), make([]byte, 10240)...)
	for _, tt := range []struct {
		name    string
		body    []byte
		dest    string
		exclude []string
		want    map[string]string
	}{
		{"a folder to a new one", archive(t, file("a", "1"), folder("s"), file("s/b", "2")), "new", nil, map[string]string{"d/": "", "new/": "", "new/a": "1", "new/s/": "", "new/s/b": "2"}},
		{"a folder with one file", archive(t, file("a", "1")), "new", nil, map[string]string{"d/": "", "new/": "", "new/a": "1"}},
		{"a folder with one folder", archive(t, folder("s"), file("s/b", "2")), "new", nil, map[string]string{"d/": "", "new/": "", "new/s/": "", "new/s/b": "2"}},
		{"a folder into one that is there", archive(t, file("a", "1"), file("b", "2")), "d", []string{"b"}, map[string]string{"d/": "", "d/a": "1"}},
		{"a file", archive(t, file("app", "1")), "new", nil, map[string]string{"d/": "", "new": "1"}},
		{"a file into a folder", archive(t, file("app", "1")), "d", nil, map[string]string{"d/": "", "d/app": "1"}},
		{"with padding", gnu, "new", nil, map[string]string{"d/": "", "new": "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := makeTree(t, map[string]string{"d/": ""})
			client := serve(t, download(tt.body, ""))
			if err := client.CpFromVM(t.Context(), "vm-1", "/opt/app", filepath.Join(dir, tt.dest), "", "tar", tt.exclude...); err != nil {
				t.Fatal(err)
			}
			checkTree(t, dir, tt.want)
		})
	}

	dir := t.TempDir()
	client := serve(t, download(archive(t, file("a", "1"), tar755("b", "2")), ""))
	if err := client.CpFromVM(t.Context(), "vm-1", "/opt/app", filepath.Join(dir, "new"), "0700", "tar"); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, map[string]string{"new/": "", "new/a*": "1", "new/b*": "2"})
}

func TestFailedDownloadsLeaveNothing(t *testing.T) {
	whole := archive(t, folder("s"), file("s/a", strings.Repeat("x", 100<<10)), file("b", "2"))
	for _, tt := range []struct {
		name, mode string
		handler    http.HandlerFunc
	}{
		{"a cut file", "binary", cut(download([]byte("data"), ""))},
		{"a file shorter than announced", "binary", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "data")
		}},
		{"a cut archive", "tar", cut(download(whole[:50<<10], ""))},
		{"an archive without an end", "tar", download(whole[:len(whole)-1024], "")},
		{"an archive cut after its end", "tar", cut(download(whole, ""))},
		{"an archive that goes on", "tar", download(append(bytes.Clone(whole), make([]byte, 2<<20)...), "")},
		{"no archive", "tar", download([]byte("<html>not a tar archive</html>"), "")},
		{"a hostile archive", "tar", download(archive(t, file("a", "1"), file("../evil", "2")), "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := makeTree(t, map[string]string{"f": "0"})
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				// Past the server's buffer, so that a cut comes midway.
				defer func() { _ = http.NewResponseController(w).Flush() }()
				tt.handler(w, r)
			})
			for _, dest := range []string{"new", "f"} {
				if err := client.CpFromVM(t.Context(), "vm-1", "/opt/app", filepath.Join(dir, dest), "", tt.mode); err == nil {
					t.Errorf("CpFromVM to %s = nil, want an error", dest)
				}
				checkTree(t, dir, map[string]string{"f": "0"})
			}
		})
	}
}

func TestCancelledDownloadLeavesNothing(t *testing.T) {
	for _, mode := range []string{"binary", "tar"} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			client, stop := pipeServe(func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(archive(t, file("a", strings.Repeat("x", 100<<10)))[:50<<10])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
				cancel()
				<-r.Context().Done()
			})
			defer stop()
			if err := client.CpFromVM(ctx, "vm-1", "/x", filepath.Join(dir, "new"), "", mode); !errors.Is(err, context.Canceled) {
				t.Errorf("CpFromVM(%s) = %v, want context.Canceled", mode, err)
			}
		})
		checkTree(t, dir, map[string]string{})
	}
}

func TestMissingPathsAndFolders(t *testing.T) {
	for _, tt := range []struct {
		status          int
		message         string
		missing, isADir bool
	}{
		{404, "/opt/app not found", true, false},
		{404, "stat /opt/app: no such file or directory", true, false},
		{404, "open: no such file or directory", true, false},
		{404, "file not found", true, false},
		{404, `VM "vm-1": no such file or directory`, true, false},
		{404, "VM not found", false, false},
		{404, `no VM named "vm-1"`, false, false},
		{404, "node vm-1 not found in any host group", false, false},
		{404, "not found", false, false},
		{404, "404 page not found", false, false},
		{409, "file is busy", false, false},
		{400, "must specify a file not a directory", false, true},
		{400, "/opt/app is a directory; name a file in it", false, true},
		{400, "/etc/file/x: not a directory", false, false},
		{400, "invalid mode: binary", false, false},
	} {
		client := serve(t, answer(tt.status, "application/json", fmt.Sprintf(`{"error":%q}`, tt.message)))
		_, openErr := client.OpenFile(t.Context(), "vm-1", "/opt/app")
		for call, err := range map[string]error{
			"OpenFile":  openErr,
			"CpFromVM":  client.CpFromVM(t.Context(), "vm-1", "/opt/app", t.TempDir(), "", "tar"),
			"WriteFile": client.WriteFile(t.Context(), "vm-1", "/opt/app", []byte("x"), 0, 0, 0),
		} {
			if got := errors.Is(err, fs.ErrNotExist); got != tt.missing {
				t.Errorf("%s refused with %q: errors.Is(%v, fs.ErrNotExist) = %v, want %v", call, tt.message, err, got, tt.missing)
			}
			if got := errors.Is(err, slicer.ErrIsDirectory); got != tt.isADir {
				t.Errorf("%s refused with %q: errors.Is(%v, ErrIsDirectory) = %v, want %v", call, tt.message, err, got, tt.isADir)
			}
			if !slicer.IsAPIStatus(err, tt.status) {
				t.Errorf("%s refused with %q = %v, want an APIError with the status %d", call, tt.message, err, tt.status)
			}
		}
	}
}

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
