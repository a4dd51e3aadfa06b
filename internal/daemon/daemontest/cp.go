package daemontest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// entry is one entry of an archive, for a test to write or to compare.
type entry struct {
	name, text string
	kind       byte // 0 is a file
	mode       int64
	uid, gid   int
	link       string
}

// archive makes a tar stream.
func archive(t testing.TB, entries ...entry) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{
			Typeflag: e.kind, Name: e.name, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.gid, Size: int64(len(e.text)),
		}
		if e.kind == 0 {
			hdr.Typeflag = tar.TypeReg
		}
		if e.mode == 0 {
			hdr.Mode = 0o644
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatalf("archive %q: %v", e.name, err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatalf("archive %q: %v", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("archive: %v", err)
	}
	return buf.String()
}

// unpacked reads a tar stream: its entries by name.
func unpacked(t testing.TB, stream []byte) map[string]entry {
	t.Helper()
	all := make(map[string]entry)
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("read the archive: %v", err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("read %s of the archive: %v", hdr.Name, err)
		}
		all[hdr.Name] = entry{hdr.Name, string(text), hdr.Typeflag, hdr.Mode, hdr.Uid, hdr.Gid, hdr.Linkname}
	}
}

// read returns a file's bytes.
func (a *api) read(vm, name string) string {
	a.t.Helper()
	return string(a.ok(200, "GET", vm+"/cp"+params("path", name, "mode", "binary"), "").body)
}

// tree lists what is below a folder, one path a line, folders with a slash.
func (a *api) tree(vm, dir string) string {
	a.t.Helper()
	got := a.ok(200, "GET", vm+"/cp"+params("path", dir, "mode", "tar"), "").is(typeTar)
	return strings.Join(slices.Sorted(maps.Keys(unpacked(a.t, got.body))), " ")
}

// testCopies tests copies of files and folders, in and out.
func testCopies(a *api) {
	vm := a.furnishedVM()
	a.run("a file goes in with owner and mode", func(a *api) { fileIn(a, vm) })
	a.run("a file comes out with its mode", func(a *api) {
		a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/out", "mode", "binary", "permissions", "0640"), "content\x00\xff")
		for _, header := range [][]string{nil, {"Accept", "application/octet-stream"}, {"Accept", "*/*"}} {
			for _, query := range []string{"", "&mode=binary"} {
				got := a.ok(200, "GET", vm+"/cp?path=/tmp/out"+query, "", header...).is(typeBinary)
				if string(got.body) != "content\x00\xff" || got.header.Get("X-Slicer-File-Mode") != "0640" || got.header.Get("Content-Length") != "9" {
					a.t.Errorf("%s = %q with %v, want the content, its length and the mode 0640", got.call, got.body, got.header)
				}
			}
		}
		head := a.ok(200, "HEAD", vm+"/cp?path=/tmp/out", "")
		if len(head.body) != 0 || head.header.Get("X-Slicer-File-Mode") != "0640" {
			a.t.Errorf("HEAD = %q with %v, want the headers alone", head.body, head.header)
		}
	})
	a.run("a folder goes in", func(a *api) { folderIn(a, vm) })
	a.run("a folder comes out", func(a *api) { folderOut(a, vm) })
	a.run("a folder comes out with its owners", func(a *api) {
		a.needs(Owns)
		a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/owned", "mode", "tar", "uid", "0", "gid", "1000"), archive(a.t, entry{name: "f"}))
		got := unpacked(a.t, a.ok(200, "GET", vm+"/cp?path=/tmp/owned&mode=tar", "").body)["f"]
		if got.uid != 0 || got.gid != 1000 {
			a.t.Errorf("entry = %+v, want the user 0 and the group 1000", got)
		}
	})
	a.run("an old client names the mode by its headers", func(a *api) {
		stream := archive(a.t, entry{name: "f", text: "in a folder"})
		a.ok(200, "POST", vm+"/cp?path=/tmp/old", stream, "Content-Type", typeTar)
		a.ok(200, "POST", vm+"/cp?path=/tmp/old/tarball", stream, "Content-Type", typeBinary)
		if got := a.read(vm, "/tmp/old/tarball"); got != stream {
			a.t.Errorf("the file has %d bytes, want the archive's %d", len(got), len(stream))
		}
		got := a.ok(200, "GET", vm+"/cp?path=/tmp/old", "", "Accept", typeTar).is(typeTar)
		if all := unpacked(a.t, got.body); all["f"].text != "in a folder" || len(all) != 2 {
			a.t.Errorf("GET with Accept: %s = %v, want both files", typeTar, all)
		}
	})
	for _, mode := range []string{"cp-v1-binary", "cp-v1-tar", "cp-v1-recursive", "TAR", "<b>"} {
		a.run("mode "+mode+" is answered so that clients try an older one", func(a *api) {
			for _, method := range []string{"GET", "POST"} {
				got := a.call(method, vm+"/cp"+params("path", "/tmp", "mode", mode, "copy_semantics", "cp-v1",
					"source_name", "x", "source_type", "file", "copy_contents", "true"), "")
				got.is(typeText)
				if got.status != 400 || string(got.body) != "invalid mode: "+mode {
					a.t.Errorf("%s = %d %q, want 400 and exactly %q", got.call, got.status, got.body, "invalid mode: "+mode)
				}
			}
		})
	}
	a.run("a folder isn't a file", func(a *api) {
		got := a.call("GET", vm+"/cp?path=/tmp&mode=binary", "")
		got.refused(400, "must specify a file not a directory")
	})
	a.run("refused copies", func(a *api) { refusedCopies(a, vm) })
	a.run("a symlink is resolved inside the guest", func(a *api) {
		// In /tmp itself many systems let nobody follow the link of somebody else.
		a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/links","mode":"0777"}`)
		a.output(vm, "link", "/etc/hostname", "/tmp/links/link")
		if got, want := a.read(vm, "/tmp/links/link"), strings.TrimPrefix(vm, "/vm/")+"\n"; got != want {
			a.t.Errorf("the file behind the link = %q, want the guest's own, %q", got, want)
		}
		a.output(vm, "link", "../../../../../../etc/hostname", "/tmp/links/link2")
		if got, want := a.read(vm, "/tmp/links/link2"), strings.TrimPrefix(vm, "/vm/")+"\n"; got != want {
			a.t.Errorf("the file behind the link with dots = %q, want the guest's own, %q", got, want)
		}
	})
	a.run("an upload that is cut leaves the old file", func(a *api) {
		a.ok(200, "POST", vm+"/cp?path=/tmp/kept&mode=binary", "old")
		req := a.request(a.t.Context(), "POST", vm+"/cp?path=/tmp/kept&mode=binary", io.MultiReader(strings.NewReader("new"), brokenReader{}))
		if resp, err := a.srv.Client.Do(req); err == nil {
			resp.Body.Close()
			a.t.Errorf("the cut upload = %d, want that the client's error ends it", resp.StatusCode)
		}
		if got := a.read(vm, "/tmp/kept"); got != "old" {
			a.t.Errorf("the file after a cut upload = %q, want the old content", got)
		}
	})
}

// brokenReader breaks a client's upload.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken on purpose") }

func fileIn(a *api, vm string) {
	for _, tt := range []struct {
		name  string
		query []string
		want  string // uid, gid and mode
	}{
		{"/tmp/in-default", nil, "1000 1000 644\n"},
		{"/tmp/in-root", []string{"uid", "0", "gid", "0", "permissions", "0600"}, "0 0 600\n"},
		{"/tmp/in-mixed", []string{"uid", "0", "gid", "1000", "permissions", "755"}, "0 1000 755\n"},
		{"/tmp/in-none", []string{"uid", "4294967295", "gid", "4294967295"}, "1000 1000 644\n"},
		{"~/in-home", nil, "1000 1000 644\n"},
		{"~/in-root-home", []string{"uid", "0", "gid", "0"}, "0 0 644\n"},
	} {
		a.ok(200, "POST", vm+"/cp"+params(append(tt.query, "path", tt.name, "mode", "binary")...), "content of "+tt.name).is(typeText)
		full := strings.Replace(tt.name, "~/in-root", "/root/in-root", 1)
		full = strings.Replace(full, "~", "/home/ubuntu", 1)
		if got := a.ok(200, "GET", vm+"/cp"+params("path", full, "mode", "binary"), ""); string(got.body) != "content of "+tt.name {
			a.t.Errorf("%s = %q, want what was copied", full, got.body)
		}
		a.run(tt.name+" belongs to whom it was written for", func(a *api) {
			a.needs(Owns)
			if got := a.buffered(vm, []string{"owner", full}, "uid", "0"); got["stdout"] != tt.want {
				a.t.Errorf("owner and mode of %s = %v, want %q", full, got["stdout"], tt.want)
			}
		})
	}
	a.run("an old file keeps its owner and mode unless others are asked for", func(a *api) {
		const path = "/tmp/in-root"
		a.ok(200, "POST", vm+"/cp"+params("path", path, "mode", "binary"), "new")
		if got := a.buffered(vm, []string{"owner", path}, "uid", "0"); got["stdout"] != "0 0 600\n" {
			a.t.Errorf("owner and mode = %v, want 0 0 600", got["stdout"])
		}
	})
}

func folderIn(a *api, vm string) {
	stream := archive(a.t,
		entry{name: "sub/", kind: tar.TypeDir, mode: 0o700},
		entry{name: "sub/f", text: "one", mode: 0o600},
		entry{name: "without/entry/g", text: "two", mode: 0o755},
		entry{name: "skip.log", text: "x"},
		entry{name: "sub/skip.log", text: "x"},
		entry{name: "node_modules/m", text: "x"},
		entry{name: "link", kind: tar.TypeSymlink, link: "/etc/passwd"},
		entry{name: "sub/link", kind: tar.TypeSymlink, link: "../no/where"},
		entry{name: "sub/link.log", kind: tar.TypeSymlink, link: "f"},
		entry{name: "new/hard", kind: tar.TypeLink, link: "sub/f"},
	)
	a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/tree", "mode", "tar", "uid", "0", "gid", "0", "exclude", "*.log", "exclude", "node_modules"), stream)
	if got, want := a.tree(vm, "/tmp/tree"), "link new/ new/hard sub/ sub/f sub/link without/ without/entry/ without/entry/g"; got != want {
		a.t.Errorf("the folder = %s, want %s", got, want)
	}
	for name, want := range map[string]entry{
		"link":     {"link", "", tar.TypeSymlink, 0o777, 0, 0, "/etc/passwd"},
		"sub/link": {"sub/link", "", tar.TypeSymlink, 0o777, 0, 0, "../no/where"},
		"new/hard": {"new/hard", "one", tar.TypeReg, 0o600, 0, 0, ""},
	} {
		if got := unpacked(a.t, a.ok(200, "GET", vm+"/cp?path=/tmp/tree&mode=tar", "").body)[name]; got != want {
			a.t.Errorf("entry %s = %+v, want %+v", name, got, want)
		}
	}
	again := archive(a.t, entry{name: "link", kind: tar.TypeSymlink, link: "sub/f"})
	a.ok(200, "POST", vm+"/cp?path=/tmp/tree&mode=tar", again)
	if got := a.read(vm, "/tmp/tree/link"); got != "one" {
		a.t.Errorf("the file behind a symlink that was copied anew = %q, want one", got)
	}
	for name, want := range map[string]string{
		"/tmp/tree/sub": "0 0 700\n", "/tmp/tree/sub/f": "0 0 600\n", "/tmp/tree/without/entry/g": "0 0 755\n",
	} {
		if got := a.buffered(vm, []string{"owner", name}, "uid", "0"); got["stdout"] != want {
			a.t.Errorf("owner and mode of %s = %v, want %q", name, got["stdout"], want)
		}
	}
	a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/tree2", "mode", "tar", "permissions", "0444"), archive(a.t, entry{name: "f", text: "x", mode: 0o755}))
	if got := a.output(vm, "owner", "/tmp/tree2/f"); got != "1000 1000 444\n" {
		a.t.Errorf("owner and mode with permissions=0444 = %q", got)
	}
}

func folderOut(a *api, vm string) {
	stream := archive(a.t,
		entry{name: "d/", kind: tar.TypeDir, mode: 0o750}, entry{name: "d/f", text: "one", mode: 0o640},
		entry{name: "d/skip.log", text: "x"}, entry{name: "empty/", kind: tar.TypeDir, mode: 0o755}, entry{name: "zero", mode: 0o600},
	)
	a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/from", "mode", "tar", "uid", "0", "gid", "0"), stream)
	a.output(vm, "link", "/etc/hostname", "/tmp/link-in-tmp")
	got := unpacked(a.t, a.ok(200, "GET", vm+"/cp"+params("path", "/tmp/from/", "mode", "tar", "exclude", "*.log"), "").is(typeTar).body)
	want := []entry{
		{"d/", "", tar.TypeDir, 0o750, 0, 0, ""},
		{"d/f", "one", tar.TypeReg, 0o640, 0, 0, ""},
		{"empty/", "", tar.TypeDir, 0o755, 0, 0, ""},
		{"zero", "", tar.TypeReg, 0o600, 0, 0, ""},
	}
	for _, e := range want {
		if got[e.name] != e {
			a.t.Errorf("entry %s = %+v, want %+v", e.name, got[e.name], e)
		}
	}
	if len(got) != len(want) {
		a.t.Errorf("%d entries, want %d: %v", len(got), len(want), got)
	}
	one := unpacked(a.t, a.ok(200, "GET", vm+"/cp"+params("path", "/tmp/from/d/f", "mode", "tar"), "").body)
	if len(one) != 1 || one["f"].text != "one" {
		a.t.Errorf("a file as an archive = %v, want the one entry f", one)
	}
}

func refusedCopies(a *api, vm string) {
	a.ok(200, "POST", vm+"/cp?path=/tmp/file&mode=binary", "x")
	for _, tt := range []struct {
		name, method string
		query        []string
		status       int
		says         string
	}{
		{"a missing file", "GET", []string{"path", "/tmp/none", "mode", "binary"}, 404, "/tmp/none"},
		{"a missing folder", "GET", []string{"path", "/tmp/none", "mode", "tar"}, 404, "/tmp/none"},
		{"a path below a file", "GET", []string{"path", "/tmp/file/x"}, 400, "not a directory"},
		{"a file with a slash", "GET", []string{"path", "/tmp/file/"}, 400, "not a directory"},
		{"into a missing folder", "POST", []string{"path", "/tmp/none/f", "mode", "binary"}, 404, "/tmp/none"},
		{"onto a folder", "POST", []string{"path", "/tmp", "mode", "binary"}, 400, "directory"},
		{"to a folder's name", "POST", []string{"path", "/tmp/new/", "mode", "binary"}, 400, "directory"},
		{"an archive onto a file", "POST", []string{"path", "/tmp/file", "mode", "tar"}, 0, "/tmp/file"},
		{"no path", "GET", []string{"mode", "binary"}, 400, "path"},
		{"a relative path", "POST", []string{"path", "tmp/x"}, 400, "absolute"},
		{"a NUL in the path", "GET", []string{"path", "/tmp/\x00"}, 400, "NUL"},
		{"a path beyond all bounds", "GET", []string{"path", "/" + strings.Repeat("x", 5000)}, 400, "longer"},
		{"a device", "GET", []string{"path", "/dev/zero"}, 0, "/dev/zero"},
		{"no octal permissions", "POST", []string{"path", "/tmp/x", "permissions", "rwx"}, 400, "permissions"},
		{"setuid", "POST", []string{"path", "/tmp/x", "permissions", "4755"}, 400, "permissions"},
		{"an owner by name", "POST", []string{"path", "/tmp/x", "uid", "root"}, 400, "uid"},
		{"an empty pattern", "POST", []string{"path", "/tmp/x", "mode", "tar", "exclude", ""}, 400, "exclude"},
		{"a broken pattern", "GET", []string{"path", "/tmp", "mode", "tar", "exclude", "[a"}, 400, "exclude"},
		{"a new mode's parameter", "POST", []string{"path", "/tmp/x", "mode", "binary", "source_name", "x"}, 400, "source_name"},
	} {
		a.run(tt.name, func(a *api) {
			got := a.call(tt.method, vm+"/cp"+params(tt.query...), "")
			status := tt.status
			if status == 0 && got.status >= 400 && got.status < 500 { // which one depends on the guest's tree
				status = got.status
			}
			got.refused(status, tt.says)
		})
	}
}

// testHostileArchives tests that no archive writes outside its folder.
func testHostileArchives(a *api) {
	const evil = "evil-" + "file"
	huge := archive(a.t, entry{name: "huge", text: "begin"})
	// The size in the header becomes 8 GiB less one; the checksum is mended.
	hdr := []byte(huge[:512])
	copy(hdr[124:136], "77777777777\x00")
	copy(hdr[148:156], "        ")
	sum := 0
	for _, b := range hdr {
		sum += int(b)
	}
	copy(hdr[148:156], fmt.Sprintf("%06o\x00 ", sum))
	huge = string(hdr) + huge[512:]
	good := entry{name: "good", text: "x"}
	for _, tt := range []struct {
		name, stream string
		status       int
		says         string
		left         string // what is in the folder afterwards
	}{
		{"an absolute name", archive(a.t, entry{name: "/tmp/" + evil, text: "x"}), 400, "not a path inside", ""},
		{"dots first", archive(a.t, entry{name: "../" + evil, text: "x"}), 400, "not a path inside", ""},
		{"dots inside", archive(a.t, entry{name: "a/../../" + evil, text: "x"}), 400, "not a path inside", ""},
		{"dots alone", archive(a.t, entry{name: "..", kind: tar.TypeDir}), 400, "not a path inside", ""},
		{"dots that stay inside", archive(a.t, entry{name: "a/../b", text: "x"}), 400, "not a path inside", ""},
		{"a name beyond all bounds", archive(a.t, entry{name: strings.Repeat("n/", 3000) + "f", text: "x"}), 400, "not a path inside", ""},
		{
			"a symlink out and a file through it",
			archive(a.t, entry{name: "out", kind: tar.TypeSymlink, link: "/tmp"}, entry{name: "out/" + evil, text: "x"}), 400, `leads through "out"`, "out",
		},
		{
			"a symlink out with dots",
			archive(a.t, entry{name: "out", kind: tar.TypeSymlink, link: ".."}, entry{name: "out/" + evil, text: "x"}), 400, `leads through "out"`, "out",
		},
		{"a hard link out", archive(a.t, entry{name: "hard", kind: tar.TypeLink, link: "/etc/passwd"}, good), 400, `"/etc/passwd"`, ""},
		{"a hard link to a file that comes later", archive(a.t, entry{name: "hard", kind: tar.TypeLink, link: "good"}, good), 400, `"good"`, ""},
		{"a file over a symlink out", archive(a.t, entry{name: "out", kind: tar.TypeSymlink, link: "/tmp/" + evil}, entry{name: "out", text: "x"}), 200, "", "out"},
		{"a folder over a symlink out", archive(a.t, entry{name: "out", kind: tar.TypeSymlink, link: "/tmp"}, entry{name: "out/", kind: tar.TypeDir}), 400, `leads through "out"`, "out"},
		{"a symlink over a folder", archive(a.t, entry{name: "d/", kind: tar.TypeDir, mode: 0o755}, entry{name: "d", kind: tar.TypeSymlink, link: "/tmp"}), 400, "is a directory", "d/"},
		{"a symlink with a target beyond all bounds", archive(a.t, entry{name: "l", kind: tar.TypeSymlink, link: strings.Repeat("x", 4096)}), 400, "4096 bytes", ""},
		{"a hard link out with dots", archive(a.t, entry{name: "hard", kind: tar.TypeLink, link: "../../etc/passwd"}, good), 400, `"../../etc/passwd"`, ""},
		{"a character device", archive(a.t, entry{name: "dev", kind: tar.TypeChar}, good), 200, "", "good"},
		{"a block device", archive(a.t, entry{name: "dev", kind: tar.TypeBlock}, good), 200, "", "good"},
		{"a pipe", archive(a.t, entry{name: "pipe", kind: tar.TypeFifo}, good), 200, "", "good"},
		{"more than comes", huge, 400, "ended early", ""},
		{"an end in the middle of a file", archive(a.t, good, entry{name: "f", text: strings.Repeat("x", 5000)})[:2048], 400, "ended early", "good"},
		{"no end", strings.TrimRight(archive(a.t, good), "\x00") + strings.Repeat("\x00", 511), 400, "ended early", "good"},
		{"no archive", strings.Repeat("this is no archive. ", 100), 400, "tar", ""},
		{"nothing", "", 400, "ended early", ""},
	} {
		a.run(tt.name, func(a *api) {
			vm := "/vm/" + a.createVM("{}")
			a.ok(200, "POST", vm+"/fs/mkdir", `{"path":"/tmp/deep/er/target","recursive":true}`)
			before := a.tree(vm, "/tmp")
			got := a.call("POST", vm+"/cp"+params("path", "/tmp/deep/er/target", "mode", "tar"), tt.stream)
			if tt.status == 200 && got.status != 200 {
				a.t.Errorf("%s = %d %s, want 200", got.call, got.status, got.body)
			} else if tt.status != 200 {
				got.refused(tt.status, tt.says)
			}
			if left := a.tree(vm, "/tmp/deep/er/target"); left != tt.left {
				a.t.Errorf("the folder has %q, want %q", left, tt.left)
			}
			a.ok(200, "DELETE", vm+"/fs/remove"+params("path", "/tmp/deep/er/target", "recursive", "true"), "")
			after := a.tree(vm, "/tmp")
			if before = strings.Replace(before, " deep/er/target/", "", 1); after != before {
				a.t.Errorf("/tmp has %q beside the folder, want %q", after, before)
			}
		})
	}
}
