package tools_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// rowNames are the names that a listing shows, in its order.
func rowNames(text string) []string {
	var names []string
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > 44 && strings.ContainsAny(line[:1], "-dl?") && line[10] == ' ' {
			names = append(names, line[44:])
		}
	}
	return names
}

func tree(t *testing.T, files *slicertest.Files) {
	t.Helper()
	seed(t, files, map[string]string{
		"/srv/app/b.txt": "twelve bytes", "/srv/app/.hidden": "", "/srv/app/src/main.go": "package main\n// TODO one\n", "/srv/app/src/deep/x.go": "// todo two\n// TODO three\n",
		"/srv/app/src/deep/x.ts": "// TODO four\n", "/srv/app/.git/config": "TODO git", "/srv/app/web/node_modules/m/i.js": "TODO modules", "/srv/app/web/node_modules/m/node_modules/n.js": "TODO inner", "/srv/app/web/p.js": "no match here\n",
		"/srv/app/line\nbreak": "TODO odd name\n", "/srv/app/a.bin": "TODO\x00binary",
	})
	for target, name := range map[string]string{"/srv/app": "/srv/app/src/loop", "/srv/none": "/srv/app/z-link"} {
		if err := files.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Chmod("/srv/app/b.txt", 0o750); err != nil {
		t.Fatal(err)
	}
}

func TestListFiles(t *testing.T) {
	s, _, files := guestSession(t)
	tree(t, files)
	if err := files.Mkdir("/srv/empty"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args args
		want string // the names, in order
		says []string
	}{
		{"a folder", args{"path": "/srv/app"}, `.git/|src/|web/|.hidden|a.bin|b.txt|"line\nbreak"|z-link (symlink)`, []string{`"/srv/app" in VM "web": 3 folders and 5 files; size in bytes, time in UTC`}},
		{"a slash at the end", args{"path": "/srv/app/src/"}, `deep/|loop (symlink)|main.go`, nil},
		{"two levels", args{"path": "/srv/app/src", "depth": 2}, `deep/|loop (symlink)|main.go|deep/x.go|deep/x.ts`, nil},
		{"what is seldom meant is passed over", args{"path": "/srv/app", "depth": 5, "glob": "*.js"}, `web/p.js`, []string{"Not looked into: /srv/app/.git, /srv/app/web/node_modules. Name one as path", `0 folders and 1 file that match "*.js"`}},
		{"and looked into if it is named", args{"path": "/srv/app/web/node_modules", "glob": "*.js"}, `m/i.js|m/node_modules/n.js`, nil},
		{"a glob for names", args{"path": "/srv/app", "glob": "*.{go,ts}"}, `src/main.go|src/deep/x.go|src/deep/x.ts`, nil},
		{"a glob for paths", args{"path": "/srv/app", "glob": "src/*.go"}, `src/main.go`, nil},
		{"a glob across folders", args{"path": "/srv/app", "glob": "**/deep/**"}, `src/deep/x.go|src/deep/x.ts`, nil},
		{"a glob with less depth", args{"path": "/srv/app", "glob": "*.go", "depth": 2}, `src/main.go`, nil},
		{"a glob that matches nothing", args{"path": "/srv/app", "glob": "*.rs"}, ``, []string{`nothing below "/srv/app" in VM "web" matches "*.rs"`}},
		{"an empty folder", args{"path": "/srv/empty"}, ``, []string{`"/srv/empty" in VM "web" is an empty folder.`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.call("list_files", tc.args)
			if names := strings.Join(rowNames(got), "|"); names != tc.want {
				t.Errorf("list_files shows %q, want %q, in %q", names, tc.want, got)
			}
			wantText(t, "list_files", got, tc.says...)
		})
	}
	wantText(t, "list_files", s.call("list_files", args{"path": "/srv/app"}), "-rwxr-x---            12  20", "  b.txt\n", "drwxr-xr-x             -  20", "  src/\n", "lrwxrwxrwx             -  20")
	wantText(t, "list_files of a home", s.call("list_files", args{"path": "~"}), `"~" in VM "web"`)
}

func TestListFilesRefuses(t *testing.T) {
	s, srv, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/f": "x"})
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"a file", args{"path": "/srv/f"}, []string{`"/srv/f" in VM "web" is a file`, `read_file(vm="web", file_path="/srv/f")`}},
		{"a missing folder", args{"path": "/srv/no/where"}, []string{`VM "web" has no "/srv/no/where"`, `list_files(vm="web", path="/srv/no")`}},
		{"a relative path", args{"path": "srv"}, []string{"absolute"}},
		{"a glob that doesn't close", args{"path": "/srv", "glob": "*.{go"}, []string{"is not well-formed"}},
		{"a class that doesn't close", args{"path": "/srv", "glob": "[a-"}, []string{"is not well-formed"}},
		{"a glob that takes back", args{"path": "/srv", "glob": "!*.go"}, []string{"takes nothing back"}},
		{"a glob with a folder in front", args{"path": "/srv", "glob": "/srv/*.go"}, []string{"matched below path"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantText(t, "list_files", s.fail("list_files", tc.args), tc.want...)
		})
	}
	srv.Fault("GET /vm/{vm}/fs/readdir", slicertest.Fault{Status: 403, Body: `{"error":"/srv: permission denied"}`})
	wantText(t, "list_files without the right", s.fail("list_files", args{"path": "/srv"}), `permission denied on "/srv"`, `exec(vm="web", user="root", command="ls -la -- /srv")`)
}

// TestLargeFolderIsListedInPart bounds the answer, and names what is left.
func TestLargeFolderIsListedInPart(t *testing.T) {
	s, _, files := guestSession(t)
	all := map[string]string{}
	for i := range 1500 {
		all[fmt.Sprintf("/srv/many/%04d", i)] = ""
	}
	for i := range 200 {
		all[fmt.Sprintf("/srv/long/%03d%s", i, strings.Repeat("x", 240))] = ""
	}
	seed(t, files, all)
	many := s.call("list_files", args{"path": "/srv/many"})
	wantText(t, "list_files of many", many, "0 folders and 1,500 files", `more, from the folder "/srv/many" on`, `list_files(vm="web", path="/srv/many", glob="*.x")`)
	long := s.call("list_files", args{"path": "/srv/long"})
	for _, text := range []string{many, long} {
		shown := len(rowNames(text))
		if n := utf8.RuneCountInString(text); n > 30_600 || shown < 100 {
			t.Errorf("list_files answered %d characters and %d entries", n, shown)
		}
	}
}

// TestEndlessTreeIsListedInPart is about a daemon whose folders never end.
func TestEndlessTreeIsListedInPart(t *testing.T) {
	var folders []map[string]any
	for i := range 500 {
		folders = append(folders, map[string]any{"name": fmt.Sprintf("d%d", i), "type": "directory", "mode": "0755"})
	}
	list, err := json.Marshal(folders)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	client := turningDaemon(t, "Running", func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		answer(200, string(list))(w, r)
	})
	got := connect(t, tools.Config{Client: client}).call("list_files", args{"path": "/srv", "depth": 20})
	wantText(t, "list_files", got, "at least ", "Not all folders were looked into")
	if n := calls.Load(); n > 201 {
		t.Errorf("list_files looked into %d folders of 500 entries, want it to stop after 100,000 entries", n)
	}
}
