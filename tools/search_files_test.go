package tools_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// between is what stands in text between its first line and the line that
// begins with end.
func between(text, end string) string {
	_, rest, _ := strings.Cut(text, "\n")
	body, _, _ := strings.Cut(rest, end)
	return body
}

func TestSearchFiles(t *testing.T) {
	s, _, files := guestSession(t)
	tree(t, files)
	seed(t, files, map[string]string{"/srv/ctx": "1\n2\nhit\n4\n5\n6\n7\nhit\nhit\n10\n", "/srv/crlf": "hit\r\nno\r\n", "/srv/bare": "no\nhit", "/order/a/z/f": "hit", "/order/b/f": "hit", "/order/f": "hit"})
	for _, tc := range []struct {
		name  string
		args  args
		want  string
		first []string
	}{
		{
			"lines, in the order of the tree",
			args{"pattern": "TODO", "path": "/srv/app"},
			"\"/srv/app/line\\nbreak\"\n     1: TODO odd name\n/srv/app/src/main.go\n     2: // TODO one\n/srv/app/src/deep/x.go\n     2: // TODO three\n/srv/app/src/deep/x.ts\n     1: // TODO four\n",
			[]string{`4 matching lines in 4 files below "/srv/app" in VM "web"; searched 7 text files, `, "Not looked into: /srv/app/.git, /srv/app/web/node_modules.", "Skipped 1 binary file.", `read_file(vm="web", file_path="/srv/app/line\nbreak", offset=1)`},
		},
		{"upper and lower case are equal", args{"pattern": "todo (one|two)", "path": "/srv/app", "ignore_case": true}, "/srv/app/src/main.go\n     2: // TODO one\n/srv/app/src/deep/x.go\n     1: // todo two\n", nil},
		{"a glob", args{"pattern": "TODO", "path": "/srv/app", "glob": "*.ts"}, "/srv/app/src/deep/x.ts\n     1: // TODO four\n", []string{"searched 1 text file, 13 bytes"}},
		{"a folder that is passed over otherwise", args{"pattern": "TODO", "path": "/srv/app/.git"}, "/srv/app/.git/config\n     1: TODO git\n", nil},
		{"one file", args{"pattern": "^hit$", "path": "/srv/bare"}, "/srv/bare\n     2: hit\n", []string{`1 matching line in 1 file in "/srv/bare"`}},
		{"the end of a line that ends in CR LF", args{"pattern": "hit$", "path": "/srv/crlf"}, "/srv/crlf\n     1: hit\n", nil},
		{"lines around", args{"pattern": "hit", "path": "/srv/ctx", "context": 1}, "/srv/ctx\n     2- 2\n     3: hit\n     4- 4\n    --\n     7- 7\n     8: hit\n     9: hit\n    10- 10\n", nil},
		{"lines around that touch", args{"pattern": "hit", "path": "/srv/ctx", "context": 3}, "/srv/ctx\n     1- 1\n     2- 2\n     3: hit\n     4- 4\n     5- 5\n     6- 6\n     7- 7\n     8: hit\n     9: hit\n    10- 10\n", nil},
		{"a folder's files, then its folders to their ends", args{"pattern": "hit", "path": "/order", "mode": "files"}, "/order/f\n/order/a/z/f\n/order/b/f\n", nil},
		{"paths", args{"pattern": "TODO", "path": "/srv/app/src", "mode": "files"}, "/srv/app/src/main.go\n/srv/app/src/deep/x.go\n/srv/app/src/deep/x.ts\n", []string{`3 files with a match below "/srv/app/src"`}},
		{"counts", args{"pattern": "//", "path": "/srv/app/src", "mode": "count"}, "       1  /srv/app/src/main.go\n       2  /srv/app/src/deep/x.go\n       1  /srv/app/src/deep/x.ts\n", []string{"4 matching lines in 3 files"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.call("search_files", tc.args)
			body := between(got, "Not looked into")
			body, _, _ = strings.Cut(body, "read_file(")
			if strings.TrimSuffix(body, "\n") != strings.TrimSuffix(tc.want, "\n") {
				t.Errorf("search_files = %q, want %q", body, tc.want)
			}
			wantText(t, "search_files", got, tc.first...)
		})
	}
	wantText(t, "search_files without a match", s.call("search_files", args{"pattern": "nowhere", "path": "/srv"}), `no match for "nowhere" below "/srv"`, "searched 10 text files")
	wantText(t, "search_files without a file", s.call("search_files", args{"pattern": "x", "path": "/srv", "glob": "*.rs"}), "No text file was searched", `list_files(vm="web", path="/srv", glob="*.rs")`)
}

func TestSearchFilesRefuses(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/f": "x"})
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"a pattern that is none", args{"pattern": "f(", "path": "/srv"}, []string{`pattern "f(" is not a regular expression`, "missing closing )", "look-around"}},
		{"a pattern beyond RE2", args{"pattern": "(?=x)", "path": "/srv"}, []string{"look-around"}},
		{"a missing folder", args{"pattern": "x", "path": "/srv/none"}, []string{`VM "web" has no "/srv/none"`, `list_files(vm="web", path="/srv")`}},
		{"a relative path", args{"pattern": "x", "path": "srv"}, []string{"absolute"}},
		{"a mode that is none", args{"pattern": "x", "path": "/srv", "mode": "lines"}, []string{"mode must be one of content, files, count"}},
		{"a malformed glob", args{"pattern": "x", "path": "/srv", "glob": "{"}, []string{"is not well-formed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantText(t, "search_files", s.fail("search_files", tc.args), tc.want...)
		})
	}
}

// TestSearchIsBounded is about more matches, and longer lines, than an answer
// holds.
func TestSearchIsBounded(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{
		"/srv/a": strings.Repeat("hit\n", 100), "/srv/b": "hit\n", "/srv/c": "hit\n",
		"/wide/a":     strings.Repeat("x", 3000) + "needle" + strings.Repeat("y", 3000) + "\n",
		"/full/a":     strings.Repeat("hit"+strings.Repeat("ü", 400)+"\n", 100),
		"/long/a":     strings.Repeat("z", 2<<20) + "late\nlate\n",
		"/hostile/a":  "hit \u202e\x1b[31m\r\nhit\u200b\n",
		"/hostile/bb": "     9: hit faked\n",
	})
	got := s.call("search_files", args{"pattern": "hit", "path": "/srv"})
	wantText(t, "search_files at the limit", got, "at least 100 matching lines in 1 file", "There is more: the limit is reached", `search_files(vm="web", pattern="hit", path="/srv", mode="count") counts them all`)
	if strings.Contains(got, "/srv/b") {
		t.Errorf("search_files = %q, which goes beyond its limit", got)
	}
	wantText(t, "search_files of one file beyond the limit", s.call("search_files", args{"pattern": "hit", "path": "/srv/a", "limit": 99}), "at least 99 matching lines in 1 file")
	seed(t, files, map[string]string{"/around/a": "hit\n", "/around/b": "before\nhit\n"})
	if got := s.call("search_files", args{"pattern": "hit", "path": "/around", "limit": 1, "context": 1}); strings.Contains(got, "before") {
		t.Errorf("search_files = %q, which shows lines around a match beyond its limit", got)
	}
	wantText(t, "search_files below the limit", s.call("search_files", args{"pattern": "hit", "path": "/srv", "limit": 102}), "102 matching lines in 3 files")
	wantText(t, "search_files of paths at the limit", s.call("search_files", args{"pattern": "hit", "path": "/srv", "mode": "files", "limit": 2}), "at least 2 files with a match", "There is more")
	wantText(t, "search_files that counts", s.call("search_files", args{"pattern": "hit", "path": "/srv", "mode": "count"}), "102 matching lines in 3 files", "     100  /srv/a\n")

	wantText(t, "search_files of a long line", s.call("search_files", args{"pattern": "needle", "path": "/wide"}),
		"     1: …"+strings.Repeat("x", 100)+"needle"+strings.Repeat("y", 394)+"…\n")
	full := s.call("search_files", args{"pattern": "hit", "path": "/full"})
	wantText(t, "search_files of much", full, "There is more: the answer is full")
	if n := utf8.RuneCountInString(full); n < 25_000 || n > 30_700 {
		t.Errorf("search_files of much answered %d characters", n)
	}
	wantText(t, "search_files of a line over its bound", s.call("search_files", args{"pattern": "late", "path": "/long"}), "1 matching line in 1 file", "     2: late\n", "only the beginning was searched, in 1 file")
	wantText(t, "search_files of what could mislead", s.call("search_files", args{"pattern": "hit", "path": "/hostile"}), `     1: hit \u202e␛[31m`+"\n", `     2: hit\u200b`+"\n", "     1:      9: hit faked\n")
}

// TestSearchGoesOnPastWhatCantBeRead is about files that go, or won't be read.
func TestSearchGoesOnPastWhatCantBeRead(t *testing.T) {
	s, srv, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/a": "hit\n", "/srv/b": "hit\n", "/srv/c/d": "hit\n"})
	srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Status: 400, Body: `{"error":"/srv/a: not a regular file"}`, Times: 1})
	got := s.call("search_files", args{"pattern": "hit", "path": "/srv"})
	wantText(t, "search_files", got, "2 matching lines in 2 files", "Skipped as unreadable: /srv/")

	srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Status: 500, Body: `{"error":"/srv/a: open: invalid argument"}`, Times: 1})
	got = s.call("search_files", args{"pattern": "hit", "path": "/srv"})
	wantText(t, "search_files past a fault", got, "2 matching lines in 2 files", "Skipped as unreadable: /srv/")
}

// TestSearchOfAVMThatEnds is about one that is gone before all was searched.
func TestSearchOfAVMThatEnds(t *testing.T) {
	client := turningDaemon(t, "", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/fs/stat"):
			answer(200, `{"name":"srv","type":"directory","mode":"0755"}`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/fs/readdir"):
			answer(200, `[{"name":"a","type":"file","size":3,"mode":"0644"}]`)(w, r)
		default:
			answer(404, `{"error":"no VM named \"sbox-1\""}`)(w, r)
		}
	})
	wantText(t, "search_files", connect(t, tools.Config{Client: client}).fail("search_files", args{"pattern": "x", "path": "/srv"}), `VM "web" is gone`, "create_vm")
}

// TestSearchEndsInTime keeps what was found of a tree that takes too long.
func TestSearchEndsInTime(t *testing.T) {
	client := turningDaemon(t, "Running", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/fs/stat"):
			answer(200, `{"name":"srv","type":"directory","mode":"0755"}`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/fs/readdir"):
			answer(200, `[{"name":"a","type":"file","size":4,"mode":"0644"},{"name":"b","type":"file","size":4,"mode":"0644"},{"name":"c","type":"file","size":999999999999,"mode":"0644"}]`)(w, r)
		case strings.HasSuffix(r.URL.Query().Get("path"), "/a"):
			answer(200, "hit\n")(w, r)
		default:
			stall(w, r)
		}
	})
	s := connect(t, tools.Config{Client: client, CallLimit: time.Second})
	began := time.Now()
	got := s.call("search_files", args{"pattern": "hit", "path": "/srv"})
	wantText(t, "search_files", got, "at least 1 matching line", "/srv/a\n     1: hit\n", "Not all was searched: the time was up after /srv/a")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("search_files with a limit of 1 s took %s", took)
	}
}

// TestSearchOfManyFiles keeps the order of the tree though files are read side
// by side.
func TestSearchOfManyFiles(t *testing.T) {
	s, _, files := guestSession(t)
	all, want := map[string]string{}, ""
	for i := range 300 {
		name := fmt.Sprintf("/srv/%03d", i)
		all[name] = strings.Repeat("no\n", 3000*(i%3)) + "hit\n"
		want += name + "\n"
	}
	seed(t, files, all)
	got := s.call("search_files", args{"pattern": "hit", "path": "/srv", "mode": "files", "limit": 1000})
	if body := between(got, "read_file("); body != strings.TrimSuffix(want, "\n") {
		t.Errorf("search_files = %.500q, want the 300 files in order", body)
	}
}

// TestSearchReadsNoMoreThanItShows is about files of which one fills an answer.
func TestSearchReadsNoMoreThanItShows(t *testing.T) {
	s, _, files := guestSession(t)
	seed(t, files, map[string]string{"/srv/a": strings.Repeat(strings.Repeat("x", 400)+"\n", 20_000)})
	got := s.call("search_files", args{"pattern": "x", "path": "/srv", "limit": 1000, "context": 20})
	wantText(t, "search_files", got, "There is more: the answer is full")
	read := regexp.MustCompile(`searched 1 text file, ([0-9.]+) KB`).FindStringSubmatch(got)
	if read == nil || len(read[1]) > len("999.9") {
		t.Errorf("search_files = %.120q, want it to have read less than 300 KB of 8 MB", got)
	} else if kb, err := strconv.ParseFloat(read[1], 64); err != nil || kb > 300 {
		t.Errorf("search_files read %v KB of 8 MB, want less than 300", kb)
	}
}
