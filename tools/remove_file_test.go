package tools_test

import (
	"net/http"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestRemoveFile(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/f": "four", "/srv/full/a": "x", "/srv/full/sub/b": "x", "/srv/keep/a": "x", "/home/ubuntu/h": "x"})
	if err := files.Mkdir("/srv/empty"); err != nil {
		t.Fatal(err)
	}
	for target, name := range map[string]string{"/srv/keep": "/srv/to-folder", "/srv/none": "/srv/to-nothing"} {
		if err := files.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		args    args
		file    string
		kind    string
		entries int
		want    []string
	}{
		{"a file", args{"path": "/srv/f"}, "/srv/f", "file", 0, []string{`Removed "/srv/f"`, "file of 4 bytes"}},
		{"a file at home", args{"path": "~/h"}, "/home/ubuntu/h", "file", 0, []string{`Removed "~/h"`}},
		{"an empty folder", args{"path": "/srv/empty"}, "/srv/empty", "directory", 0, []string{"an empty folder"}},
		{"a folder with all in it", args{"path": "/srv/full", "recursive": true}, "/srv/full", "directory", 2, []string{"a folder with 2 entries and all below"}},
		{"a symlink to a folder", args{"path": "/srv/to-folder"}, "/srv/to-folder", "symlink", 0, []string{"a symlink"}},
		{"a symlink to nothing", args{"path": "/srv/to-nothing", "recursive": true}, "/srv/to-nothing", "symlink", 0, []string{"a symlink"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got struct {
				VM, Path, Type string
				Entries        int
			}
			text := s.record("remove_file", tc.args, &got)
			if got.Type != tc.kind || got.Entries != tc.entries || got.Path != tc.args["path"] {
				t.Errorf("remove_file = %+v, want %s with %d entries", got, tc.kind, tc.entries)
			}
			wantText(t, "remove_file", text, append(tc.want, got.VM)...)
			if _, err := files.Stat(tc.file); err == nil {
				t.Errorf("%s is still there", tc.file)
			}
		})
	}
	wantContent(t, files, "/srv/keep/a", "x")
}

func TestRemoveFileRefuses(t *testing.T) {
	s, srv, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/full/a": "x", "/srv/full/b": "x", "/srv/one/a": "x", "/etc/hosts": "x"})
	for _, p := range []string{"/", "//", "/etc", "/etc/", "/usr/../etc/.", "/home", "/home/ubuntu", "~", "~/", "~/..", "/usr/bin", "/var/lib", "/tmp", "/root", "/proc"} {
		wantText(t, "remove_file of "+p, s.fail("remove_file", args{"path": p, "recursive": true}), "is not removed", "delete_vm")
	}
	for _, r := range srv.Requests() {
		if r.Method == http.MethodDelete {
			t.Errorf("a protected folder was asked to be removed: %s", r.Path)
		}
	}
	wantText(t, "remove_file of a folder", s.fail("remove_file", args{"path": "/srv/full"}), `"/srv/full" in VM "web" is a folder with 2 entries`,
		`list_files(vm="web", path="/srv/full")`, `remove_file(vm="web", path="/srv/full", recursive=true)`)
	wantText(t, "remove_file of a folder with one file", s.fail("remove_file", args{"path": "/srv/one"}), "a folder with 1 entry:")
	wantText(t, "remove_file of nothing", s.fail("remove_file", args{"path": "/srv/none/x"}), `VM "web" has no "/srv/none/x"`, `list_files(vm="web", path="/srv/none")`)
	wantText(t, "remove_file of a relative path", s.fail("remove_file", args{"path": "x"}), "absolute")
	wantContent(t, files, "/srv/full/a", "x")

	srv.Fault("DELETE /vm/{vm}/fs/remove", slicertest.Fault{Status: 500, Body: `{"error":"/srv/one: remove: read-only file system"}`, Times: 1})
	wantText(t, "remove_file where nothing can be", s.fail("remove_file", args{"path": "/srv/one/a"}), "its file system is read-only", "Use another path")
	if err := files.Symlink("/srv/circle", "/srv/circle"); err != nil {
		t.Fatal(err)
	}
	wantText(t, "read_file of a circle", s.fail("read_file", args{"file_path": "/srv/circle"}), "a circle of symlinks")
	wantText(t, "remove_file of a circle", s.call("remove_file", args{"path": "/srv/circle"}), "a symlink")
	srv.Fault("DELETE /vm/{vm}/fs/remove", slicertest.Fault{Status: 403, Body: `{"error":"/srv/one/a: permission denied"}`})
	wantText(t, "remove_file without the right", s.fail("remove_file", args{"path": "/srv/one/a"}), `permission denied on "/srv/one/a"`, `exec(vm="web", user="root", command="rm -r -- /srv/one/a")`)
}
