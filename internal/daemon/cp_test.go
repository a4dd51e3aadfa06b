package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func cpPath(vm string, params ...string) string {
	return strings.Replace(execPath(vm, params...), "/exec?", "/cp?", 1)
}

// file describes a VM's file, in a form that reads well when a test fails.
func (a *api) file(vm, name string) string {
	a.t.Helper()
	info, err := a.srv.Files(vm).Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		a.t.Fatalf("Stat(%q) = %v", name, err)
	}
	owner := info.Sys().(slicertest.Owner)
	if info.IsDir() {
		return fmt.Sprintf("folder %o %d:%d", info.Mode().Perm(), owner.UID, owner.GID)
	}
	data, err := a.srv.Files(vm).ReadFile(name)
	if err != nil {
		a.t.Fatalf("ReadFile(%q) = %v", name, err)
	}
	return fmt.Sprintf("%q %o %d:%d", data, info.Mode().Perm(), owner.UID, owner.GID)
}

func TestCopyAFileIn(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for _, tt := range []struct {
		name   string
		params []string
		kind   string
		at     string
		want   string
	}{
		{"to an absolute path", []string{"path", "/tmp/a", "mode", "binary"}, "", "/tmp/a", `"text" 644 1000:1000`},
		{"without a mode", []string{"path", "/tmp/b"}, "application/octet-stream", "/tmp/b", `"text" 644 1000:1000`},
		{"to the home folder", []string{"path", "~/c"}, "", "/home/ubuntu/c", `"text" 644 1000:1000`},
		{"to root's home folder", []string{"path", "~/d", "uid", "0"}, "", "/root/d", `"text" 644 0:0`},
		{"with all attributes", []string{"path", "/tmp/e", "uid", "5", "gid", "6", "permissions", "0700"}, "", "/tmp/e", `"text" 700 5:6`},
		{"over dots", []string{"path", "/tmp/../tmp/./f"}, "", "/tmp/f", `"text" 644 1000:1000`},
		{"over an old file", []string{"path", "/tmp/e"}, "", "/tmp/e", `"text" 700 5:6`},
		{"over an old file with a new mode", []string{"path", "/tmp/e", "permissions", "640"}, "", "/tmp/e", `"text" 640 5:6`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.want(200, "POST", cpPath(vm, tt.params...), "text", "Content-Type", tt.kind)
			if got := a.file(vm, tt.at); got != tt.want {
				t.Errorf("%s after cp %q = %s, want %s", tt.at, tt.params, got, tt.want)
			}
		})
	}
}

func TestCopyAFileOut(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	data := strings.Repeat("\x00\xff data", 100_000)
	a.want(200, "POST", cpPath(vm, "path", "/tmp/x", "permissions", "0755"), data)
	for _, accept := range []string{"", "*/*", "application/octet-stream"} {
		got := a.want(200, "GET", cpPath(vm, "path", "/tmp/x"), "", "Accept", accept)
		if got.body != data {
			t.Errorf("file came back as %d bytes, want the %d that went in", len(got.body), len(data))
		}
		if mode, length := got.header.Get("X-Slicer-File-Mode"), got.header.Get("Content-Length"); mode != "0755" || length != fmt.Sprint(len(data)) {
			t.Errorf("mode, length = %s, %s, want 0755, %d", mode, length, len(data))
		}
	}
	a.want(200, "POST", cpPath(vm, "path", "/tmp/empty"), "")
	if got := a.want(200, "GET", cpPath(vm, "path", "/tmp/empty", "mode", "binary"), "").body; got != "" {
		t.Errorf("empty file = %q", got)
	}
}

func TestRefusedCopies(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for _, tt := range []struct {
		name, method string
		params       []string
		status       int
		says         string
	}{
		{"no path", "GET", nil, 400, "path is required"},
		{"relative path", "GET", []string{"path", "etc/hostname"}, 400, "absolute"},
		{"another user's home", "GET", []string{"path", "~root/x"}, 400, "absolute"},
		{"NUL in the path", "POST", []string{"path", "/a\x00b"}, 400, "NUL"},
		{"endless path", "GET", []string{"path", "/" + strings.Repeat("x", 4096)}, 400, "4096"},
		{"missing file", "GET", []string{"path", "/nope"}, 404, "/nope"},
		{"missing folder as tar", "GET", []string{"path", "/nope", "mode", "tar"}, 404, "/nope"},
		{"file below a file", "GET", []string{"path", "/etc/hostname/x"}, 400, "not a directory"},
		{"folder as a file", "GET", []string{"path", "/etc", "mode", "binary"}, 400, "must specify a file not a directory"},
		{"folder without a mode", "GET", []string{"path", "/etc"}, 400, "must specify a file not a directory"},
		{"file with a slash", "GET", []string{"path", "/etc/hostname/"}, 400, "not a directory"},
		{"file over a folder", "POST", []string{"path", "/etc"}, 400, "is a directory"},
		{"file with a slash in", "POST", []string{"path", "/tmp/new/"}, 400, "directory"},
		{"file into a missing folder", "POST", []string{"path", "/nope/x"}, 404, "/nope"},
		{"tar over a file", "POST", []string{"path", "/etc/hostname", "mode", "tar"}, 400, "not a directory"},
		{"bad uid", "POST", []string{"path", "/tmp/x", "uid", "ubuntu"}, 400, "uid"},
		{"bad gid", "POST", []string{"path", "/tmp/x", "gid", "-1"}, 400, "gid"},
		{"permissions that aren't octal", "POST", []string{"path", "/tmp/x", "permissions", "0888"}, 400, "permissions"},
		{"setuid", "POST", []string{"path", "/tmp/x", "permissions", "4755"}, 400, "permissions"},
		{"malformed exclude", "GET", []string{"path", "/etc", "mode", "tar", "exclude", "["}, 400, "exclude"},
		{"empty exclude", "GET", []string{"path", "/etc", "mode", "tar", "exclude", "/"}, 400, "exclude"},
		{"newer parameters in an older mode", "GET", []string{"path", "/etc", "mode", "tar", "copy_semantics", "cp-v1"}, 400, `"copy_semantics"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, cpPath(vm, tt.params...), "x")
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("%s cp %q = %d %s, want %d and %q", tt.method, tt.params, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	if got := a.file(vm, "/tmp/x"); got != "absent" {
		t.Errorf("/tmp/x after refused copies = %s, want it absent", got)
	}
}

func TestSymlinkToItselfIsTheCallersFault(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	if err := a.srv.Files(vm).Symlink("/tmp/loop", "/tmp/loop"); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "POST"} {
		got := a.call(method, cpPath(vm, "path", "/tmp/loop/x"), "x")
		if got.status != 400 || !strings.Contains(got.message(t), "too many levels of symbolic links") {
			t.Errorf("%s of a symlink to itself = %d %s, want 400 that says so", method, got.status, got.body)
		}
	}
}

func TestCutUploadLeavesTheOldFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		a.want(200, "POST", cpPath(vm, "path", "/tmp/x"), "old")
		for _, length := range []int64{-1, 1000} {
			req := a.request(t.Context(), "POST", cpPath(vm, "path", "/tmp/x"), io.MultiReader(strings.NewReader("new"), brokenReader{}))
			req.ContentLength = length
			if resp, err := a.srv.HTTPClient().Do(req); err == nil {
				resp.Body.Close()
				t.Fatalf("the broken upload was answered %d", resp.StatusCode)
			}
			synctest.Wait()
			if got := a.file(vm, "/tmp/x"); got != `"old" 644 1000:1000` {
				t.Errorf("file after a cut upload = %s, want the old one", got)
			}
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

func TestGuestDiskIsFull(t *testing.T) {
	a := newAPI(t, slicertest.Options{DiskBytes: 1 << 20})
	vm := a.create(`{}`)
	if got := a.call("POST", cpPath(vm, "path", "/tmp/x"), strings.Repeat("x", 1<<20)); got.status != 500 || !strings.Contains(got.message(t), "no space") {
		t.Errorf("copy of 1 MiB = %d %s, want 500 that says no space", got.status, got.body)
	}
	if got := a.file(vm, "/tmp/x"); got != "absent" {
		t.Errorf("file after the failed copy = %s, want it absent", got)
	}
	a.want(200, "POST", cpPath(vm, "path", "/tmp/x"), "small")
}

func TestFS(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", "/vm/"+vm+"/fs/mkdir", `{"path":"/tmp/a/b","recursive":true,"mode":"0700"}`)
	a.want(200, "POST", cpPath(vm, "path", "/tmp/a/f"), "text")
	if err := a.srv.Files(vm).Symlink("f", "/tmp/a/l"); err != nil {
		t.Fatalf("Symlink = %v", err)
	}
	var list []map[string]any
	decode(t, a.want(200, "GET", "/vm/"+vm+"/fs/readdir?path=/tmp/a", "").body, &list)
	for _, e := range list {
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(e["mtime"])); err != nil {
			t.Errorf("mtime of %v is not RFC 3339: %v", e, err)
		}
		delete(e, "mtime")
	}
	want := []map[string]any{
		{"name": "b", "type": "directory", "size": 0.0, "mode": "0700"},
		{"name": "f", "type": "file", "size": 4.0, "mode": "0644"},
		{"name": "l", "type": "symlink", "size": 1.0, "mode": "0777"},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("readdir (-want +got):\n%s", diff)
	}
	var stat map[string]any
	decode(t, a.want(200, "GET", "/vm/"+vm+"/fs/stat?path=/tmp/a/l", "").body, &stat)
	if stat["type"] != "file" || stat["size"] != 4.0 || stat["name"] != "l" {
		t.Errorf("stat of a symlink = %v, want the file that it leads to", stat)
	}

	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"stat of nothing", "GET", "/fs/stat?path=/nope", "", 404, "/nope"},
		{"stat without a path", "GET", "/fs/stat", "", 400, "path"},
		{"readdir of nothing", "GET", "/fs/readdir?path=/nope", "", 404, "/nope"},
		{"readdir of a file", "GET", "/fs/readdir?path=/tmp/a/f", "", 400, "not a directory"},
		{"mkdir of what is there", "POST", "/fs/mkdir", `{"path":"/tmp/a"}`, 409, "exists"},
		{"mkdir in nothing", "POST", "/fs/mkdir", `{"path":"/nope/x"}`, 404, "/nope"},
		{"mkdir with a bad mode", "POST", "/fs/mkdir", `{"path":"/tmp/n","mode":"rwx"}`, 400, "mode"},
		{"mkdir with an unknown field", "POST", "/fs/mkdir", `{"path":"/tmp/n","parents":true}`, 400, "parents"},
		{"remove of a full folder", "DELETE", "/fs/remove?path=/tmp/a", "", 400, "not empty"},
		{"remove of nothing", "DELETE", "/fs/remove?path=/nope", "", 404, "/nope"},
		{"remove of everything", "DELETE", "/fs/remove?path=/tmp/..&recursive=true", "", 400, "root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, "/vm/"+vm+tt.path, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("%s %s = %d %s, want %d and %q", tt.method, tt.path, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	a.want(200, "DELETE", "/vm/"+vm+"/fs/remove?path=/tmp/a/f", "")
	a.want(200, "DELETE", "/vm/"+vm+"/fs/remove?recursive=true&path="+url.QueryEscape("/tmp/a"), "")
	if got := a.file(vm, "/tmp/a"); got != "absent" {
		t.Errorf("folder after remove = %s, want it absent", got)
	}
}
