package daemontest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var fileFields = fields{"name": "text", "type": "text", "size": "number", "mtime": "time", "mode": "text"}

// testFS tests the routes of single files and folders.
func testFS(a *api) {
	vm := a.furnishedVM()
	path := func(route, name string, more ...string) string {
		return vm + "/fs/" + route + params(append(more, "path", name)...)
	}
	a.run("mkdir, stat and readdir", func(a *api) {
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/fs"}`).is(typeText)
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/fs/a/b/c","recursive":true,"mode":"0700"}`)
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/fs/a/b/c","recursive":true}`)
		a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/fs/f", "mode", "binary", "permissions", "0640"), "12345")
		a.output(vm, "link", "f", "/tmp/fs/l")
		list := a.ok(200, "GET", path("readdir", "/tmp/fs"), "").list(fileFields)
		want := []struct {
			name, kind, mode string
			size             any
		}{{"a", "directory", "0755", nil}, {"f", "file", "0640", 5.0}, {"l", "symlink", "", nil}}
		if len(list) != len(want) {
			a.t.Fatalf("readdir = %v, want a, f and l", list)
		}
		for i, w := range want {
			got := list[i]
			if got["name"] != w.name || got["type"] != w.kind || w.mode != "" && got["mode"] != w.mode || w.size != nil && got["size"] != w.size {
				a.t.Errorf("readdir: entry %d = %v, want %v", i, got, w)
			}
		}
		if got := a.ok(200, "GET", path("stat", "/tmp/fs/a/b/c"), "").object(fileFields); got["mode"] != "0700" || got["type"] != "directory" || got["name"] != "c" {
			a.t.Errorf("stat = %v, want the folder c with 0700", got)
		}
		if got := a.ok(200, "GET", path("stat", "/tmp/fs/l"), "").object(fileFields); got["type"] != "file" || got["size"] != 5.0 {
			a.t.Errorf("stat of a symlink = %v, want the file behind it", got)
		}
		if got := a.output(vm, "owner", "/tmp/fs/a/b/c"); got != "1000 1000 700\n" {
			a.t.Errorf("owner of a made folder = %q, want ubuntu's", got)
		}
	})
	a.run("remove", func(a *api) {
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/rm/d","recursive":true}`)
		a.touch(vm, "/tmp/rm/f")
		a.output(vm, "link", "/etc", "/tmp/rm/d/etc")
		a.ok(200, "DELETE", path("remove", "/tmp/rm/f"), "").is(typeText)
		a.refused(404, "/tmp/rm/f", "DELETE", path("remove", "/tmp/rm/f"), "")
		a.refused(400, "not empty", "DELETE", path("remove", "/tmp/rm"), "")
		a.ok(200, "DELETE", path("remove", "/tmp/rm", "recursive", "true"), "")
		a.refused(404, "/tmp/rm", "GET", path("stat", "/tmp/rm"), "")
		a.ok(200, "GET", path("stat", "/etc/hostname"), "") // the link was removed, not what it leads to
	})
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"stat of nothing", "GET", path("stat", "/tmp/none"), "", 404, "/tmp/none"},
		{"readdir of nothing", "GET", path("readdir", "/tmp/none"), "", 404, "/tmp/none"},
		{"readdir of a file", "GET", path("readdir", "/etc/hostname"), "", 400, "not a directory"},
		{"no path", "GET", vm + "/fs/stat", "", 400, "path is required"},
		{"a relative path", "GET", path("readdir", "tmp"), "", 400, "absolute"},
		{"a NUL", "GET", path("stat", "/a\x00b"), "", 400, "NUL"},
		{"a folder that is there", "POST", vm + "/fs/mkdir", `{"path":"/tmp"}`, 409, "exists"},
		{"a folder in nothing", "POST", vm + "/fs/mkdir", `{"path":"/tmp/none/d"}`, 404, "/tmp/none/d"},
		{"a folder without a path", "POST", vm + "/fs/mkdir", `{}`, 400, "path is required"},
		{"a mode that is none", "POST", vm + "/fs/mkdir", `{"path":"/tmp/m","mode":"rwx"}`, 400, "mode"},
		{"removing nothing", "DELETE", path("remove", "/tmp/none"), "", 404, "/tmp/none"},
		{"removing the root", "DELETE", path("remove", "/", "recursive", "true"), "", 400, "root"},
		{"removing the root by another name", "DELETE", path("remove", "/tmp/..", "recursive", "true"), "", 400, "root"},
		{"a flag that is none", "DELETE", path("remove", "/tmp/x", "recursive", "all"), "", 400, "recursive"},
	} {
		a.run("refuses "+tt.name, func(a *api) { a.refused(tt.status, tt.says, tt.method, tt.path, tt.body) })
	}
}

var eventFields = fields{
	"id": "number", "type": "text", "path": "text", "timestamp": "time", "size": "number", "isDir": "bool", "message?": "text",
}

// watch is an answer of events that is being read.
type watch struct {
	a      *api
	lines  *bufio.Reader
	body   io.Closer
	cancel context.CancelFunc
}

func (a *api) watch(vm string, query ...string) *watch {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	a.t.Cleanup(cancel)
	req := a.request(ctx, "GET", vm+"/fs/watch"+params(query...), nil, "Accept", "text/event-stream", "Last-Event-ID", "18446744073709551615")
	resp := a.open(req) //nolint:bodyclose // open has it closed with the test
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		a.t.Fatalf("watch = %d of type %q, want 200 and text/event-stream", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &watch{a, bufio.NewReader(resp.Body), resp.Body, cancel}
}

// next reads an event; it is nil at the end.
func (w *watch) next() map[string]any {
	w.a.t.Helper()
	var got [4]string
	for i := range got {
		line, err := w.lines.ReadString('\n')
		if err == io.EOF && i == 0 && line == "" { //nolint:errorlint // as bufio says it
			return nil
		}
		if err != nil {
			w.a.t.Fatalf("the watch ends with %q: %v", line, err)
		}
		got[i] = strings.TrimSuffix(line, "\n")
	}
	id, hasID := strings.CutPrefix(got[0], "id: ")
	data, hasData := strings.CutPrefix(got[2], "data: ")
	if !hasID || got[1] != "event: watch" || !hasData || got[3] != "" {
		w.a.t.Fatalf("event = %q, want id, event: watch, data and an empty line", got)
	}
	event := object(w.a.t, "watch", json.RawMessage(data), eventFields)
	if n, err := strconv.ParseUint(id, 10, 64); err != nil || float64(n) != event["id"] {
		w.a.t.Errorf("id: %s, and the data says %v", id, event["id"])
	}
	return event
}

// testWatch tests the events of watched files.
func testWatch(a *api) {
	vm := a.furnishedVM()
	a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/w/below","recursive":true}`)
	a.run("tells of a file that comes and goes", func(a *api) {
		w := a.watch(vm, "paths", "/tmp/w", "debounce", "0s")
		defer w.body.Close()
		a.output(vm, "link", "/nowhere", "/tmp/w/new")
		created := w.next()
		if created["type"] != "create" || created["path"] != "/tmp/w/new" || created["isDir"] != false || created["id"] != 1.0 {
			a.t.Errorf("event = %v, want the first, a create of /tmp/w/new", created)
		}
		a.ok(200, "DELETE", vm+"/fs/remove?path=/tmp/w/new", "")
		if removed := w.next(); removed["type"] != "remove" || removed["path"] != "/tmp/w/new" || removed["id"] != 2.0 {
			a.t.Errorf("event = %v, want the second, a remove of /tmp/w/new", removed)
		}
	})
	a.run("only what is asked for, and no more", func(a *api) {
		w := a.watch(vm, "paths", "/tmp/w", "recursive", "true", "patterns", "*.txt", "events", "create", "events", "remove", "max_events", "2", "debounce", "0s")
		for _, name := range []string{"/tmp/w/no.log", "/tmp/w/below/yes.txt"} {
			a.output(vm, "link", "/nowhere", name)
		}
		a.ok(200, "DELETE", vm+"/fs/remove?path=/tmp/w/below/yes.txt", "")
		first, second := w.next(), w.next()
		if first["path"] != "/tmp/w/below/yes.txt" || first["type"] != "create" || second["type"] != "remove" {
			a.t.Errorf("events = %v and %v, want yes.txt created and removed", first, second)
		}
		if third := w.next(); third != nil {
			a.t.Errorf("after max_events comes %v", third)
		}
	})
	a.run("one shot", func(a *api) {
		w := a.watch(vm, "paths", "/tmp/w", "one_shot", "true", "debounce", "10ms")
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/w/made"}`)
		if got := w.next(); got["type"] != "create" || got["isDir"] != true || got["path"] != "/tmp/w/made" {
			a.t.Errorf("event = %v, want a created folder", got)
		}
		if more := w.next(); more != nil {
			a.t.Errorf("after one shot comes %v", more)
		}
	})
	a.run("ends after its time", func(a *api) {
		begin := time.Now()
		if got := a.watch(vm, "paths", "/tmp/w", "timeout", "200ms").next(); got != nil || time.Since(begin) < 200*time.Millisecond {
			a.t.Errorf("event = %v after %s, want none and an end after 200ms", got, time.Since(begin))
		}
	})
	for _, tt := range []struct {
		name   string
		query  []string
		header []string
		status int
		says   string
	}{
		{"no paths", nil, nil, 400, "paths is required"},
		{"a missing path", []string{"paths", "/tmp/none"}, nil, 404, "/tmp/none"},
		{"a relative path", []string{"paths", "tmp"}, nil, 400, "absolute"},
		{"an unknown event", []string{"paths", "/tmp", "events", "open"}, nil, 400, "events"},
		{"a broken pattern", []string{"paths", "/tmp", "patterns", "[a"}, nil, 400, "pattern"},
		{"a time without a unit", []string{"paths", "/tmp", "timeout", "3"}, nil, 400, "timeout"},
		{"a debounce beyond all bounds", []string{"paths", "/tmp", "debounce", "1h"}, nil, 400, "debounce"},
		{"a negative number of events", []string{"paths", "/tmp", "max_events", "-1"}, nil, 400, "max_events"},
		{"a flag that is none", []string{"paths", "/tmp", "recursive", "deep"}, nil, 400, "recursive"},
		{"a user by name", []string{"paths", "/tmp", "uid", "root"}, nil, 400, "uid"},
		{"a last event that is no number", []string{"paths", "/tmp"}, []string{"Last-Event-ID", "abc"}, 400, "Last-Event-ID"},
		{"a last event beyond 64 bits", []string{"paths", "/tmp"}, []string{"Last-Event-ID", "18446744073709551616"}, 400, "Last-Event-ID"},
	} {
		a.run("refuses "+tt.name, func(a *api) {
			a.refused(tt.status, tt.says, "GET", vm+"/fs/watch"+params(tt.query...), "", tt.header...)
		})
	}
}
