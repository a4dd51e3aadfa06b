package daemon_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// entry is a tar entry; a Name with a slash at its end is a folder.
type entry struct {
	Name string
	Mode int64
	Text string
	Type byte
}

var archiveTime = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func archive(t *testing.T, entries ...entry) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{Name: e.Name, Mode: e.Mode, Typeflag: e.Type, ModTime: archiveTime}
		switch {
		case e.Type != 0:
			hdr.Linkname = e.Text
		case strings.HasSuffix(e.Name, "/"):
			hdr.Typeflag = tar.TypeDir
		default:
			hdr.Typeflag, hdr.Size = tar.TypeReg, int64(len(e.Text))
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatalf("WriteHeader(%q) = %v", e.Name, err)
		}
		if hdr.Size > 0 {
			if _, err := io.WriteString(w, e.Text); err != nil {
				t.Fatalf("write %q: %v", e.Name, err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close the archive: %v", err)
	}
	return buf.String()
}

// unpack reads an archive as name, mode and text.
func unpack(t *testing.T, text string) []string {
	t.Helper()
	list := []string{}
	r := tar.NewReader(strings.NewReader(text))
	for {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("read the archive: %v", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("read %q: %v", hdr.Name, err)
		}
		if hdr.Typeflag == tar.TypeSymlink {
			list = append(list, hdr.Name+" -> "+hdr.Linkname)
			continue
		}
		list = append(list, fmt.Sprintf("%s %o %s", hdr.Name, hdr.Mode, content))
	}
}

func TestTarIn(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	body := archive(t,
		entry{Name: "./"},
		entry{Name: "src/", Mode: 0o750},
		entry{Name: "./src/main.c", Mode: 0o4644, Text: "int main"},
		entry{Name: "bin/deep/run", Mode: 0o755, Text: "#!"},
		entry{Name: "link", Text: "/etc/passwd", Type: tar.TypeSymlink},
		entry{Name: "hard", Text: "./src/main.c", Type: tar.TypeLink, Mode: 0o600},
		entry{Name: "dangling/rel.o", Text: "../gone", Type: tar.TypeSymlink},
		entry{Name: "dangling/rel", Text: "../gone", Type: tar.TypeSymlink},
		entry{Name: "dangling/hard", Text: "dangling/rel", Type: tar.TypeLink},
		entry{Name: "fifo", Type: tar.TypeFifo},
		entry{Name: "dev", Type: tar.TypeChar},
		entry{Name: "skip.o", Mode: 0o644, Text: strings.Repeat("\x00", 4096)},
		entry{Name: "node_modules/x/y", Mode: 0o644, Text: "y"},
		entry{Name: `back\slash`, Mode: 0o644},
	)
	a.want(200, "POST", cpPath(vm, "path", "~/new/app", "mode", "tar", "exclude", "*.o", "exclude", "node_modules/"), body)
	want := map[string]string{
		"": "folder 755 1000:1000", "src": "folder 750 1000:1000", "src/main.c": `"int main" 644 1000:1000`,
		"bin": "folder 755 1000:1000", "bin/deep/run": `"#!" 755 1000:1000`, `back\slash`: `"" 644 1000:1000`,
		"hard": `"int main" 644 1000:1000`, "dangling": "folder 755 1000:1000", "dangling/rel.o": "absent", "fifo": "absent", "dev": "absent", "skip.o": "absent", "node_modules": "absent",
	}
	for name, want := range want {
		if got := a.file(vm, "/home/ubuntu/new/app/"+name); got != want {
			t.Errorf("%q = %s, want %s", name, got, want)
		}
	}
	if info, err := a.srv.Files(vm).Stat("/home/ubuntu/new/app/src/main.c"); err != nil || !info.ModTime().Equal(archiveTime) {
		t.Errorf("Stat = %v, %v, want the archive's time", info, err)
	}

	a.want(200, "POST", cpPath(vm, "path", "/tmp/own", "uid", "7", "gid", "8", "permissions", "600"),
		archive(t, entry{Name: "d/", Mode: 0o711}, entry{Name: "d/f", Mode: 0o755}), "Content-Type", "application/x-tar")
	for name, want := range map[string]string{"/tmp/own": "folder 755 7:8", "/tmp/own/d": "folder 711 7:8", "/tmp/own/d/f": `"" 600 7:8`} {
		if got := a.file(vm, name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

func TestLinksInArchives(t *testing.T) {
	link := func(name, target string) entry { return entry{Name: name, Text: target, Type: tar.TypeSymlink} }
	hard := func(name, target string) entry { return entry{Name: name, Text: target, Type: tar.TypeLink} }
	file := func(name, text string) entry { return entry{Name: name, Mode: 0o640, Text: text} }
	for _, tt := range []struct {
		name    string
		entries []entry
		says    string   // of a refusal
		want    []string // what the folder has then
	}{
		{"symlinks", []entry{file("a", "A"), link("rel", "a"), link("d/abs", "/etc/passwd"), link("gone", "no/where")}, "", []string{"a 640 A", "d/ 755 ", "d/abs -> /etc/passwd", "gone -> no/where", "rel -> a"}},
		{"hard links", []entry{file("d/a", "A"), hard("x", "./d//a"), hard("y", "x"), hard("d/a", "d/a")}, "", []string{"d/ 755 ", "d/a 640 A", "x 640 A", "y 640 A"}},
		{"a hard link to a symlink", []entry{link("l", "/x"), hard("h", "l")}, "", []string{"h -> /x", "l -> /x"}},
		{"over what is there", []entry{file("a", "A"), file("a", "B"), link("a", "x"), link("a", "y")}, "", []string{"a -> y"}},
		{"a file over a symlink", []entry{link("a", "/tmp/planted"), file("a", "A")}, "", []string{"a 640 A"}},
		{"a hard link over a symlink", []entry{file("f", "F"), link("a", "/tmp/planted"), hard("a", "f")}, "", []string{"a 640 F", "f 640 F"}},
		{"a hard link to what was a symlink", []entry{link("a", "/x"), file("a", "A"), hard("h", "a")}, "", []string{"a 640 A", "h 640 A"}},
		{"a file through a symlink", []entry{link("l", "/tmp"), file("l/planted", "x")}, "leads through", []string{"l -> /tmp"}},
		{"a file far below a symlink", []entry{link("l", ".."), file("./l/a/b", "x")}, "leads through", []string{"l -> .."}},
		{"a symlink through a symlink", []entry{link("l", "/tmp"), link("l/planted", "x")}, "leads through", []string{"l -> /tmp"}},
		{"a hard link through a symlink", []entry{file("f", "F"), link("l", "/tmp"), hard("l/planted", "f")}, "leads through", []string{"f 640 F", "l -> /tmp"}},
		{"a hard link to what is behind a symlink", []entry{link("l", "/etc"), hard("h", "l/hostname")}, "no earlier file", []string{"l -> /etc"}},
		{"a folder in a symlink's place", []entry{link("l", "/tmp"), {Name: "l/"}}, "leads through", []string{"l -> /tmp"}},
		{"a symlink in a folder's place", []entry{{Name: "d/", Mode: 0o700}, link("d", "/tmp")}, "is a directory", []string{"d/ 700 "}},
		{"a symlink to nothing", []entry{link("l", "")}, "symlink to nothing", []string{}},
		{"a symlink with a long target", []entry{link("l", strings.Repeat("x", 4096))}, "4096 bytes", []string{}},
		{"the longest target", []entry{link("l", strings.Repeat("x", 4095))}, "", []string{"l -> " + strings.Repeat("x", 4095)}},
		{"a hard link out of the archive", []entry{hard("h", "/etc/hostname")}, `"/etc/hostname"`, []string{}},
		{"a hard link out with dots", []entry{hard("h", "../planted")}, `"../planted"`, []string{}},
		{"a hard link to a later file", []entry{hard("h", "f"), file("f", "F")}, `"f"`, []string{}},
		{"a hard link to itself", []entry{hard("h", "h")}, `"h"`, []string{}},
		{"a hard link to a folder", []entry{{Name: "d/", Mode: 0o700}, hard("h", "d")}, `"d"`, []string{"d/ 700 "}},
		{"a hard link to what is excluded", []entry{file("f.skip", "F"), hard("h", "f.skip")}, "excludes", []string{}},
		{"excluded links", []entry{file("f", "F"), hard("h.skip", "f"), link("l.skip", "f")}, "", []string{"f 640 F"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			vm := a.create(`{}`)
			got := a.call("POST", cpPath(vm, "path", "/tmp/t", "mode", "tar", "exclude", "*.skip"), archive(t, tt.entries...))
			if tt.says == "" && got.status != 200 || tt.says != "" && (got.status != 400 || !strings.Contains(got.message(t), tt.says)) {
				t.Errorf("POST cp = %d %s, want a refusal with %q (none where that is empty)", got.status, got.body, tt.says)
			}
			out := a.want(200, "GET", cpPath(vm, "path", "/tmp/t", "mode", "tar"), "")
			if diff := cmp.Diff(tt.want, unpack(t, out.body)); diff != "" {
				t.Errorf("the folder (-want +got):\n%s", diff)
			}
			if got := a.file(vm, "/tmp/planted"); got != "absent" {
				t.Errorf("beside the folder there is %s, want nothing", got)
			}
		})
	}
}

func TestLinksBelongToWhoIsAskedFor(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", cpPath(vm, "path", "/tmp/t", "mode", "tar", "uid", "7", "gid", "8", "permissions", "600"), archive(t,
		entry{Name: "f", Mode: 0o755}, entry{Name: "h", Text: "f", Type: tar.TypeLink}, entry{Name: "l", Text: "f", Type: tar.TypeSymlink},
	))
	out := a.want(200, "GET", cpPath(vm, "path", "/tmp/t", "mode", "tar"), "")
	for r := tar.NewReader(strings.NewReader(out.body)); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		mode := int64(0o600)
		if hdr.Typeflag == tar.TypeSymlink {
			mode = 0o777
		}
		if hdr.Uid != 7 || hdr.Gid != 8 || hdr.Mode != mode || !hdr.ModTime.Equal(archiveTime) {
			t.Errorf("%s = %d:%d %o of %v, want 7:8 %o of %v", hdr.Name, hdr.Uid, hdr.Gid, hdr.Mode, hdr.ModTime, mode, archiveTime)
		}
	}
}

func TestHostileArchives(t *testing.T) {
	whole := archive(t, entry{Name: "first", Mode: 0o644, Text: "one"}, entry{Name: "second", Mode: 0o644, Text: strings.Repeat("2", 1000)})
	zeros := archive(t, entry{Name: "first", Mode: 0o644, Text: "one"}, entry{Name: "second", Mode: 0o644, Text: strings.Repeat("\x00", 2048)})
	for _, tt := range []struct {
		name, body, says string
		first            bool // the first file has arrived
	}{
		{"absolute name", archive(t, entry{Name: "/etc/x"}), "inside", false},
		{"dots", archive(t, entry{Name: "../x"}), "inside", false},
		{"dots in the middle", archive(t, entry{Name: "a/../../x"}), "inside", false},
		{"dots that stay inside", archive(t, entry{Name: "a/../x"}), "inside", false},
		{"dots of a skipped type", archive(t, entry{Name: "../x", Type: tar.TypeSymlink}), "inside", false},
		{"folder with dots", archive(t, entry{Name: "../"}), "inside", false},
		{"cut inside a file", whole[:512+512+512+600], "ended early", true},
		{"cut inside a header", whole[:512+512+100], "ended early", true},
		{"cut between two files", whole[:512+512], "ended early", true},
		{"without the end of the archive", whole[:512+512+512+1024], "ended early", true},
		{"without the end, after zeros", zeros[:512+512+512+2048], "ended early", true},
		{"empty body", "", "ended early", false},
		{"no archive", strings.Repeat("hello", 400), "no tar archive", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			vm := a.create(`{}`)
			got := a.call("POST", cpPath(vm, "path", "/tmp/t", "mode", "tar"), tt.body)
			if got.status != 400 || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("cp = %d %s, want 400 and %q", got.status, got.body, tt.says)
			}
			if got := a.file(vm, "/tmp/t/first") != "absent"; got != tt.first {
				t.Errorf("first file is there: %t, want %t", got, tt.first)
			}
			for _, name := range []string{"/tmp/x", "/etc/x", "/tmp/t/x"} {
				if got := a.file(vm, name); got != "absent" {
					t.Errorf("%s = %s, want it absent", name, got)
				}
			}
			if strings.Contains(tt.name, "cut") {
				if got := a.file(vm, "/tmp/t/second"); got != "absent" {
					t.Errorf("the file that was cut = %s, want it absent", got)
				}
			}
		})
	}
}

func TestTarOut(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", cpPath(vm, "path", "/tmp/app", "mode", "tar"), archive(t,
		entry{Name: "empty/", Mode: 0o700},
		entry{Name: "a.txt", Mode: 0o644, Text: "a"},
		entry{Name: "src/b.c", Mode: 0o755, Text: "b"},
		entry{Name: "src/b.o", Mode: 0o644, Text: "o"},
		entry{Name: "build/out/x", Mode: 0o644, Text: "x"},
	))
	if err := a.srv.Files(vm).Symlink("/etc/hostname", "/tmp/app/link"); err != nil {
		t.Fatalf("Symlink = %v", err)
	}
	if err := a.srv.Files(vm).Symlink("app", "/tmp/alias"); err != nil {
		t.Fatalf("Symlink = %v", err)
	}
	all := []string{
		"a.txt 644 a", "build/ 755 ", "build/out/ 755 ", "build/out/x 644 x", "empty/ 700 ", "link -> /etc/hostname", "src/ 755 ", "src/b.c 755 b", "src/b.o 644 o",
	}
	for _, tt := range []struct {
		name   string
		params []string
		accept string
		want   []string
	}{
		{"by mode", []string{"path", "/tmp/app", "mode", "tar"}, "", all},
		{"by header", []string{"path", "/tmp/app"}, "application/x-tar", all},
		{"with a slash", []string{"path", "/tmp/app/", "mode", "tar"}, "", all},
		{"over a symlink", []string{"path", "/tmp/alias", "mode", "tar"}, "", all},
		{"with excludes", []string{"path", "/tmp/app", "mode", "tar", "exclude", "*.o", "exclude", "/build", "exclude", "**/a.*"}, "", []string{"empty/ 700 ", "link -> /etc/hostname", "src/ 755 ", "src/b.c 755 b"}},
		{"with an exclude that fits a symlink", []string{"path", "/tmp/app", "mode", "tar", "exclude", "link", "exclude", "/src", "exclude", "/build"}, "", []string{"a.txt 644 a", "empty/ 700 "}},
		{"of one file", []string{"path", "/tmp/app/src/b.c", "mode", "tar"}, "", []string{"b.c 755 b"}},
		{"of an empty folder", []string{"path", "/tmp/app/empty", "mode", "tar"}, "", []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.want(200, "GET", cpPath(vm, tt.params...), "", "Accept", tt.accept)
			if diff := cmp.Diff(tt.want, unpack(t, got.body)); diff != "" {
				t.Errorf("archive (-want +got):\n%s", diff)
			}
			if kind := got.header.Get("Content-Type"); kind != "application/x-tar" {
				t.Errorf("Content-Type = %s, want application/x-tar", kind)
			}
		})
	}
}

func TestExcludePatterns(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", cpPath(vm, "path", "/tmp/t", "mode", "tar"), archive(t,
		entry{Name: "a", Mode: 0o644}, entry{Name: "d/a", Mode: 0o644}, entry{Name: "d/e/a", Mode: 0o644}, entry{Name: "d/e/b.txt", Mode: 0o644},
	))
	for pattern, want := range map[string][]string{
		"a":                                  {"d/", "d/e/", "d/e/b.txt"},
		"/a":                                 {"d/", "d/a", "d/e/", "d/e/a", "d/e/b.txt"},
		"a/":                                 {"a", "d/", "d/a", "d/e/", "d/e/a", "d/e/b.txt"},
		"d":                                  {"a"},
		"e/":                                 {"a", "d/", "d/a"},
		"d/*":                                {"a", "d/"},
		"d/**":                               {"a", "d/"},
		"d/a":                                {"a", "d/", "d/e/", "d/e/a", "d/e/b.txt"},
		"d/**/a":                             {"a", "d/", "d/e/", "d/e/b.txt"},
		"**/e/a":                             {"a", "d/", "d/a", "d/e/", "d/e/b.txt"},
		"*.txt":                              {"a", "d/", "d/a", "d/e/", "d/e/a"},
		"d/?":                                {"a", "d/"},
		"**":                                 {},
		"e/a":                                {"a", "d/", "d/a", "d/e/", "d/e/a", "d/e/b.txt"},
		strings.Repeat("**/", 100) + "nope*": {"a", "d/", "d/a", "d/e/", "d/e/a", "d/e/b.txt"},
	} {
		got := []string{}
		for _, line := range unpack(t, a.want(200, "GET", cpPath(vm, "path", "/tmp/t", "mode", "tar", "exclude", pattern), "").body) {
			got = append(got, strings.Fields(line)[0])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("exclude %q leaves (-want +got):\n%s", pattern, diff)
		}
	}
}
