package tools_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestEditFile(t *testing.T) {
	s, _, files := guestSession(t)
	for _, tc := range []struct {
		name  string
		old   string
		edits []args
		want  string
		diff  string // fenced, after the answer's first line
		says  []string
	}{
		{
			"one line", "a\nb\nc\nd\ne\nf\n",
			[]args{{"old_string": "d", "new_string": "D"}},
			"a\nb\nc\nD\ne\nf\n",
			"@@ -2,5 +2,5 @@\n b\n c\n-d\n+D\n e\n f\n",
			[]string{"1 replacement, now 6 lines and 12 bytes"},
		},
		{"a part of a line", "x = 1 + 2\n", []args{{"old_string": "1 +", "new_string": "2 +"}}, "x = 2 + 2\n", "@@ -1,1 +1,1 @@\n-x = 1 + 2\n+x = 2 + 2\n", nil},
		{"lines that go", "a\nb\nc\n", []args{{"old_string": "b\n", "new_string": ""}}, "a\nc\n", "@@ -1,3 +1,2 @@\n a\n-b\n c\n", nil},
		{"a line's end that goes", "a\nb\nc\n", []args{{"old_string": "a\nb", "new_string": "ab"}}, "ab\nc\n", "@@ -1,3 +1,2 @@\n-a\n-b\n+ab\n c\n", nil},
		{"lines that come", "a\nc\n", []args{{"old_string": "a\n", "new_string": "a\nb\n"}}, "a\nb\nc\n", "@@ -1,2 +1,3 @@\n a\n+b\n c\n", nil},
		{"the whole file", "a\n", []args{{"old_string": "a\n", "new_string": ""}}, "", "@@ -1,1 +0,0 @@\n-a\n", []string{"now 0 lines and 0 bytes"}},
		{"the newline at the end", "a\nb", []args{{"old_string": "b", "new_string": "b\n"}}, "a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n", nil},
		{"in order, on what came before", "a\n", []args{{"old_string": "a", "new_string": "bb"}, {"old_string": "bb\n", "new_string": "c\nd\n"}}, "c\nd\n", "@@ -1,1 +1,2 @@\n-a\n+c\n+d\n", []string{"2 replacements"}},
		{
			"all places", "x\n1\n2\n3\n4\n5\nx x\n",
			[]args{{"old_string": "x", "new_string": "yy", "replace_all": true}},
			"yy\n1\n2\n3\n4\n5\nyy yy\n",
			"@@ -1,3 +1,3 @@\n-x\n+yy\n 1\n 2\n@@ -5,3 +5,3 @@\n 4\n 5\n-x x\n+yy yy\n",
			[]string{"3 replacements"},
		},
		{"changes that share their context", "a\nb\nc\nd\n", []args{{"old_string": "d", "new_string": "D"}, {"old_string": "a", "new_string": "A"}}, "A\nb\nc\nD\n", "@@ -1,4 +1,4 @@\n-a\n+A\n b\n c\n-d\n+D\n", nil},
		{"CRLF stays, though the strings have LF", "a\r\nb\r\nc\r\n", []args{{"old_string": "a\nb", "new_string": "x\ny\nz"}}, "x\r\ny\r\nz\r\nc\r\n", "@@ -1,3 +1,4 @@\n-a\n-b\n+x\n+y\n+z\n c\n", []string{"CRLF"}},
		{"a match that begins at a line's end", "a\r\nb\r\n", []args{{"old_string": "\nb", "new_string": "\nc"}}, "a\r\nc\r\n", "@@ -1,2 +1,2 @@\n a\n-b\n+c\n", nil},
		{"line ends that are mixed", "a\nb\r\nc\r\nd\n", []args{{"old_string": "b\nc\nd", "new_string": "B\nD"}}, "a\nB\nD\n", "@@ -1,4 +1,3 @@\n a\n-b\n-c\n-d\n+B\n+D\n", nil},
		{"a byte order mark stays", "\ufeffa\nb\n", []args{{"old_string": "a\n", "new_string": "c\n"}}, "\ufeffc\nb\n", "@@ -1,2 +1,2 @@\n-\\ufeffa\n+\\ufeffc\n b\n", nil},
		{"what isn't UTF-8 stays", "gr\xfc\xdfe a\n", []args{{"old_string": "a", "new_string": "b"}}, "gr\xfc\xdfe b\n", "@@ -1,1 +1,1 @@\n-gr\ufffd\ufffde a\n+gr\ufffd\ufffde b\n", nil},
		{"what could mislead is shown", "a\u202eb ```\x1b[31m\n", []args{{"old_string": "b", "new_string": "c"}}, "a\u202ec ```\x1b[31m\n", "@@ -1,1 +1,1 @@\n-a\\u202eb ```␛[31m\n+a\\u202ec ```␛[31m\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seed(t, files, map[string]string{"/srv/f": tc.old})
			if err := files.Chmod("/srv/f", 0o741); err != nil {
				t.Fatal(err)
			}
			res := s.raw(t.Context(), "edit_file", args{"file_path": "/srv/f", "edits": tc.edits})
			text := textOf(t, res)
			if res.IsError || res.StructuredContent != nil {
				t.Fatalf("edit_file = %q, an error or with structuredContent", text)
			}
			wantContent(t, files, "/srv/f", tc.want)
			wantStat(t, files, "/srv/f", 0o741, 0)
			wantText(t, "edit_file", text, append(tc.says, `Edited "/srv/f" in VM sbox-1 (web)`, "SHA-256 ")...)
			_, diff, _ := strings.Cut(text, "\n")
			fence, body, _ := strings.Cut(diff, "\n")
			if got, ok := strings.CutSuffix(body, fence); !ok || got != tc.diff || strings.Contains(tc.diff, fence) {
				t.Errorf("edit_file's diff = %q between %q, want %q", body, fence, tc.diff)
			}
		})
	}
}

func TestEditFileRefuses(t *testing.T) {
	s, _, files := guestSession(t)
	const old = "func main() {\n\tx := 1\n\ty := 2\n\treturn x  \n}\n// x := 1\n"
	seed(t, files, map[string]string{
		"/srv/f": old, "/srv/dir/x": "x", "/srv/near": "alpha beta 1\nalpha beta 2\nalpha beta 3\nalpha beta gamma!\n", "/srv/bin": "\x7fELF\x00\x01", "/srv/late": strings.Repeat("x", 9000) + "\x00",
		"/srv/large": strings.Repeat("x", 1<<20+1), "/srv/full": strings.Repeat("x", 1<<20), "/srv/many": strings.Repeat("same\n", 30),
	})
	if err := files.Symlink("/srv/f", "/srv/link"); err != nil {
		t.Fatal(err)
	}
	one := func(before, after string) []args { return []args{{"old_string": before, "new_string": after}} }
	for _, tc := range []struct {
		name  string
		file  string
		edits any
		want  []string
	}{
		{"several matches", "/srv/f", one("x := 1", "z"), []string{"edits[0]: old_string is there 2 times, on lines 2, 6.", "Nothing was written", "replace_all=true"}},
		{"very many matches", "/srv/many", one("same", "z"), []string{"30 times, on lines 1, 2, 3", "19, 20 and 10 more"}},
		{"no match, but for white space", "/srv/f", one("    x := 1\n    y := 2", "z"), []string{"Only white space differs", "     2: \"\\tx := 1\"\n     3: \"\\ty := 2\"\n", `\t is a tab`}},
		{"no match, but for blanks at a line's end", "/srv/f", one("\treturn x\n}", "z"), []string{"Only white space differs", "     4: \"\\treturn x  \"\n     5: \"}\"\n"}},
		{"no match, but near ones", "/srv/f", one("return y", "z"), []string{"The nearest lines are:\n     4: \"\\treturn x  \"\n", "read_file"}},
		{"the nearest of many", "/srv/near", one("alpha beta gamma?", "z"), []string{"The nearest lines are:\n     4: \"alpha beta gamma!\"\n     1: "}},
		{"no match at all", "/srv/f", one("~~~~~~~~", "z"), []string{"Nothing in it is like it", "search_files"}},
		{"line numbers in the string", "/srv/f", one("     2\tx := 1", "z"), []string{"leave the numbers and the tab after them out"}},
		{"the second of two", "/srv/f", []args{{"old_string": "y := 2", "new_string": "y := 3"}, {"old_string": "y := 2", "new_string": "q"}}, []string{"edits[1]: old_string is not in the file (as the edits before it leave the file)", "Nothing was written", `3: "\ty := 3"`}},
		{"a string by itself", "/srv/f", one("x", "x"), []string{"changes nothing"}},
		{"edits that cancel each other out", "/srv/f", []args{{"old_string": "y", "new_string": "q"}, {"old_string": "q", "new_string": "y"}}, []string{"cancel each other out"}},
		{"a missing file", "/srv/none", one("a", "b"), []string{`VM "web" has no "/srv/none"`, `list_files(vm="web", path="/srv")`}},
		{"a folder", "/srv/dir", one("a", "b"), []string{"is a folder"}},
		{"a symlink", "/srv/link", one("a", "b"), []string{"is a symlink", "readlink -f"}},
		{"a binary", "/srv/bin", one("E", "b"), []string{"is binary", "cp_to_vm"}},
		{"a binary that begins as text", "/srv/late", one("E", "b"), []string{"is binary"}},
		{"a file that is too large", "/srv/large", one("a", "b"), []string{"more than 1,048,576 bytes", "sed"}},
		{"a file that would be too large", "/srv/full", []args{{"old_string": "x", "new_string": strings.Repeat("y", 1000), "replace_all": true}}, []string{"would make the file 1,048,576,000 bytes"}},
		{"no edit", "/srv/f", []args{}, []string{"edits must have at least 1 items, got 0"}},
		{"an edit that is none", "/srv/f", []string{"x"}, []string{"edits[0] must be an object, got a string"}},
		{"an edit without its string", "/srv/f", []args{{"new_string": "x"}}, []string{"edits[0].old_string is required: Exact text"}},
		{"an empty string", "/srv/f", one("", "x"), []string{"edits[0].old_string must not be empty"}},
		{"an unknown argument inside", "/srv/f", []args{{"old_string": "a", "new_string": "b"}, {"old": "a", "new_string": "b"}}, []string{`edits[1]: unknown argument "old"; did you mean old_string?`, "edits[1]: it takes: old_string, new_string, replace_all", "edits[1].old_string is required"}},
		{"a wrong type inside", "/srv/f", []args{{"old_string": "a", "new_string": "b", "replace_all": "yes"}}, []string{"edits[0].replace_all must be true or false, got a string"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantText(t, "edit_file", s.fail("edit_file", args{"file_path": tc.file, "edits": tc.edits}), tc.want...)
		})
	}
	wantContent(t, files, "/srv/f", old)
}

// TestEditAFileThatChanges is about one that something else writes between the
// reading and the writing.
func TestEditAFileThatChanges(t *testing.T) {
	var stats, writes atomic.Int32
	client := turningDaemon(t, "Running", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			writes.Add(1)
		case strings.HasSuffix(r.URL.Path, "/fs/stat"):
			answer(200, fmt.Sprintf(`{"name":"f","type":"file","size":2,"mode":"0644","mtime":"2026-01-02T03:04:0%dZ"}`, stats.Add(1)))(w, r)
		case strings.HasSuffix(r.URL.Path, "/fs/readdir"):
			answer(200, `[]`)(w, r)
		default:
			answer(200, "a\n")(w, r)
		}
	})
	got := connect(t, tools.Config{Client: client}).fail("edit_file", args{"file_path": "/srv/f", "edits": []args{{"old_string": "a", "new_string": "b"}}})
	wantText(t, "edit_file", got, "was changed by something else", "Nothing was written", `read_file(vm="web", file_path="/srv/f")`)
	if n := writes.Load(); n != 0 {
		t.Errorf("edit_file wrote %d times to a file that had changed, want 0", n)
	}
}

func TestLongDiffIsCut(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/f": strings.Repeat("some line of no interest\nx\n", 20_000), "/srv/wide": strings.Repeat("y", 100_000) + "x\n"})
	got := s.call("edit_file", args{"file_path": "/srv/f", "edits": []args{{"old_string": "x", "new_string": "z", "replace_all": true}}})
	wantText(t, "edit_file", got, "20,000 replacements", "… the diff goes on; it has 20,000 changes in all")
	wide := s.call("edit_file", args{"file_path": "/srv/wide", "edits": []args{{"old_string": "x", "new_string": "z"}}})
	wantText(t, "edit_file of a long line", wide, "-…"+strings.Repeat("y", 100)+"x\n", "+…"+strings.Repeat("y", 100)+"z\n")
	for _, text := range []string{got, wide} {
		if len(text) > 7000 {
			t.Errorf("edit_file answered %d bytes, want at most 7,000", len(text))
		}
	}
	wantContent(t, files, "/srv/f", strings.Repeat("some line of no interest\nz\n", 20_000))
}

// TestFailedEditTellsWhy is about a file that can be read and not written.
func TestFailedEditTellsWhy(t *testing.T) {
	s, srv, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/f": "a\n"})
	srv.Fault("POST /vm/{vm}/cp", slicertest.Fault{Status: 507, Body: `{"error":"/srv/f: no space left on device"}`})
	wantText(t, "edit_file", s.fail("edit_file", args{"file_path": "/srv/f", "edits": []args{{"old_string": "a", "new_string": "b"}}}), `there is no room for "/srv/f"`, "df -h")
	wantContent(t, files, "/srv/f", "a\n")
}
