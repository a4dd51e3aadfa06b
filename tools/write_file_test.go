package tools_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// guestSession is a session with one VM, called web, and its files as root has
// them.
func guestSession(t *testing.T) (*session, *slicertest.Server, *slicertest.Files) {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)})
	s := connect(t, tools.Config{Client: srv.Client()})
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	return s, srv, srv.Files(made.VM)
}

// seed writes files into a VM, making folders on the way.
func seed(t *testing.T, files *slicertest.Files, contents map[string]string) {
	t.Helper()
	for name, content := range contents {
		if err := files.Mkdir(name[:strings.LastIndex(name, "/")+1]); err != nil {
			t.Fatal(err)
		}
		if err := files.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// wantStat holds a file's mode and owner against what is wanted.
func wantStat(t *testing.T, files *slicertest.Files, name string, mode fs.FileMode, uid uint32) {
	t.Helper()
	info, err := files.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(slicertest.Owner); info.Mode().Perm() != mode || owner.UID != uid {
		t.Errorf("%s has the mode %04o and belongs to %d, want %04o and %d", name, info.Mode().Perm(), owner.UID, mode, uid)
	}
}

// wantContent holds a file's content against what is wanted.
func wantContent(t *testing.T, files *slicertest.Files, name, want string) {
	t.Helper()
	if got, err := files.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("in the VM %s = %.200q, %v; want %.200q", name, got, err, want)
	}
}

type written struct {
	VM         string `json:"vm"`
	FilePath   string `json:"file_path"`
	Outcome    string `json:"outcome"`
	Bytes      int64  `json:"bytes"`
	Lines      int64  `json:"lines"`
	Mode       string `json:"mode"`
	SHA256     string `json:"sha256"`
	MadeFolder string `json:"made_folder"`
}

func TestWriteFile(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/old": "old and longer than what replaces it", "/srv/run.sh": "x", "/srv/taken": "x", "/etc/passwd": "root:x:0:0::/root:/bin/sh\nada:x:1234:1235::/home/ada:/bin/sh\n"})
	if err := files.Chmod("/srv/run.sh", 0o750); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		args    args
		file    string // where it is then
		outcome string
		lines   int64
		mode    fs.FileMode
		uid     uint32
		folder  string
	}{
		{"a new file", args{"file_path": "/tmp/new", "content": "a\nb\n"}, "/tmp/new", "created", 2, 0o644, 1000, ""},
		{"an empty file", args{"file_path": "/tmp/empty", "content": ""}, "/tmp/empty", "created", 0, 0o644, 1000, ""},
		{"no newline at the end", args{"file_path": "/tmp/bare", "content": "a\nb"}, "/tmp/bare", "created", 2, 0o644, 1000, ""},
		{"what only bytes can tell", args{"file_path": "/tmp/odd", "content": "\ufeffß\r\n\t\u202e$(x) `y` 'z' \\n"}, "/tmp/odd", "created", 2, 0o644, 1000, ""},
		{"a shorter file in place of another", args{"file_path": "/srv/old", "content": "new"}, "/srv/old", "overwritten", 1, 0o644, 0, ""},
		{"mode and owner are kept", args{"file_path": "/srv/run.sh", "content": "y"}, "/srv/run.sh", "overwritten", 1, 0o750, 0, ""},
		{"mode and owner are given", args{"file_path": "/srv/taken", "content": "y", "mode": "600", "user": "ubuntu"}, "/srv/taken", "overwritten", 1, 0o600, 1000, ""},
		{"a new file of root", args{"file_path": "/srv/root", "content": "y", "mode": "0755", "user": "root"}, "/srv/root", "created", 1, 0o755, 0, ""},
		{"a new file of a user by name", args{"file_path": "/srv/ada", "content": "y", "user": "ada"}, "/srv/ada", "created", 1, 0o644, 1234, ""},
		{"a home", args{"file_path": "~/x", "content": "y"}, "/home/ubuntu/x", "created", 1, 0o644, 1000, ""},
		{"root's home", args{"file_path": "~/x", "content": "y", "user": "root"}, "/root/x", "created", 1, 0o644, 0, ""},
		{"missing folders", args{"file_path": "/srv/a/b/c", "content": "y", "create_parents": true, "mode": "0640"}, "/srv/a/b/c", "created", 1, 0o640, 1000, "/srv/a/b"},
		{"missing folders of root", args{"file_path": "/opt/a/b", "content": "y", "create_parents": true, "user": "root"}, "/opt/a/b", "created", 1, 0o644, 0, "/opt/a"},
		{"folders that are there", args{"file_path": "/srv/a/d", "content": "y", "create_parents": true}, "/srv/a/d", "created", 1, 0o644, 1000, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := tc.args["content"].(string)
			sum := sha256.Sum256([]byte(content))
			var got written
			text := s.record("write_file", tc.args, &got)
			if got.Outcome != tc.outcome || got.Bytes != int64(len(content)) || got.Lines != tc.lines || got.SHA256 != hex.EncodeToString(sum[:]) || got.MadeFolder != tc.folder {
				t.Errorf("write_file = %+v, want %s, %d bytes, %d lines, SHA-256 %x, made folder %q", got, tc.outcome, len(content), tc.lines, sum, tc.folder)
			}
			for _, fact := range []string{got.VM, got.FilePath, got.Mode, got.SHA256, got.MadeFolder} {
				wantText(t, "write_file", text, fact)
			}
			if !strings.Contains(strings.ToLower(text), got.Outcome) {
				t.Errorf("write_file = %q, want it to say %s", text, got.Outcome)
			}
			wantContent(t, files, tc.file, content)
			wantStat(t, files, tc.file, tc.mode, tc.uid)
			if tc.folder != "" {
				wantStat(t, files, tc.folder, 0o755, tc.uid)
			}
		})
	}
}

func TestWriteFileRefuses(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/target": "kept", "/srv/dir/x": "x"})
	for target, name := range map[string]string{"/srv/target": "/srv/link", "/srv/none": "/srv/dangling"} {
		if err := files.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"a missing folder", args{"file_path": "/srv/no/where/x", "content": "y"}, []string{`there is no folder "/srv/no/where"`, "create_parents=true", `list_files(vm="web", path="/srv/no")`}},
		{"a folder", args{"file_path": "/srv/dir", "content": "y"}, []string{`"/srv/dir" in VM "web" is a folder`, `list_files(vm="web", path="/srv/dir")`}},
		{"a folder's name", args{"file_path": "/srv/new/", "content": "y"}, []string{"names a folder"}},
		{"a home", args{"file_path": "~", "content": "y"}, []string{"names a folder"}},
		{"a path that leads up", args{"file_path": "/srv/..", "content": "y"}, []string{"names a folder"}},
		{"a file on the way", args{"file_path": "/srv/target/x", "content": "y"}, []string{"a part of that path, is a file"}},
		{"a symlink", args{"file_path": "/srv/link", "content": "y"}, []string{`"/srv/link" in VM "web" is a symlink`, `exec(vm="web", command="readlink -f -- /srv/link")`, "remove_file("}},
		{"a symlink that leads nowhere", args{"file_path": "/srv/dangling", "content": "y"}, []string{"is a symlink"}},
		{"a relative path", args{"file_path": "x", "content": "y"}, []string{"absolute"}},
		{"a mode that is none", args{"file_path": "/srv/x", "content": "y", "mode": "rw"}, []string{`mode "rw" can't be used`}},
		{"a mode that lets nobody in", args{"file_path": "/srv/x", "content": "y", "mode": "0"}, []string{`mode "0" can't be used`, "chmod"}},
		{"a user that isn't there", args{"file_path": "/srv/x", "content": "y", "user": "bob"}, []string{"bob"}},
		{"a NUL character", args{"file_path": "/srv/x", "content": "a\x00b"}, []string{"content must not contain a NUL character"}},
		{"no content", args{"file_path": "/srv/x"}, []string{"content is required"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantText(t, "write_file", s.fail("write_file", tc.args), tc.want...)
		})
	}
	wantContent(t, files, "/srv/target", "kept")
	if _, err := files.Stat("/srv/x"); err == nil {
		t.Error("a refused write_file left a file")
	}
}

// TestWriteIsWholeOrNothing cuts the upload off.
func TestWriteIsWholeOrNothing(t *testing.T) {
	s, srv, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/x": "old"})
	srv.Fault("POST /vm/{vm}/cp", slicertest.Fault{Cut: true})
	s.raw(t.Context(), "write_file", args{"file_path": "/srv/x", "content": strings.Repeat("new", 1000)})
	got, err := files.ReadFile("/srv/x")
	if err != nil || string(got) != "old" && string(got) != strings.Repeat("new", 1000) {
		t.Errorf("after a cut write the file is %.40q, %v; want the old or the new one", got, err)
	}
	broken := turningDaemon(t, "Running", cutOff)
	wantText(t, "write_file on a connection that breaks",
		connect(t, tools.Config{Client: broken}).fail("write_file", args{"file_path": "/srv/x", "content": "y"}),
		"as it was or whole", "Call list_vms")
}
