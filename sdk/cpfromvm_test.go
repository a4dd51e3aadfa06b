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
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

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
