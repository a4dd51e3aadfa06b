package sandbox_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// tarEntry is an entry of an archive; kind 0 is a file.
type tarEntry struct {
	name, target string
	kind         byte
}

func archive(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.target, Mode: 0o644}
		if e.kind == 0 {
			hdr.Typeflag, hdr.Size = tar.TypeReg, int64(len("hostile"))
		}
		err := w.WriteHeader(hdr)
		if err == nil && hdr.Size > 0 {
			_, err = io.WriteString(w, "hostile")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// manyEntries has 100,000 entries: 100 are files, 1,000 symlinks to target, and
// the rest is skipped.
func manyEntries(target string) []tarEntry {
	kinds := []byte{tar.TypeBlock, tar.TypeChar, tar.TypeFifo}
	many := make([]tarEntry, 100_000)
	for i := range many {
		many[i] = tarEntry{fmt.Sprintf("e%d", i), target, kinds[i%len(kinds)]}
		switch {
		case i%1000 == 0:
			many[i].kind = 0
		case i%100 == 1:
			many[i].kind = tar.TypeSymlink
		}
	}
	return many
}

func TestHostileArchivesStayInside(t *testing.T) {
	mark := hostFile(t)
	dir := filepath.Dir(mark)
	s := newService(t)
	vm := s.create()
	tests := []struct {
		name    string
		before  string // what is in the folder, made by a shell
		entries []tarEntry
		status  int
		files   string // what the folder has afterwards; ends with how many when they are many
	}{
		{"an absolute name", "", []tarEntry{{name: mark}}, 400, ""},
		{"dots in a name", "", []tarEntry{{name: "a/../../../../../.." + mark}}, 400, ""},
		{"dots at a name's end", "", []tarEntry{{name: "a/.."}}, 400, ""},
		{"a file through a link in the archive", "", []tarEntry{{"out", dir, tar.TypeSymlink}, {name: "out/planted"}}, 400, "out"},
		{"a file through a link in the guest", "ln -s " + dir + " out", []tarEntry{{name: "out/planted"}}, 404, "out"},
		{"a file over a link in the guest", "ln -s " + mark + " mark", []tarEntry{{name: "mark"}}, 404, "mark"},
		{"a hard link to a host's file", "", []tarEntry{{"linked", "/proc/1/root" + mark, tar.TypeLink}}, 400, ""},
		{"a hard link to a host's file behind a link", "", []tarEntry{{"l", mark, tar.TypeSymlink}, {"linked", "l", tar.TypeLink}, {name: "linked"}}, 200, "l linked"},
		{"a link over a file", "", []tarEntry{{name: "f"}, {"f", mark, tar.TypeSymlink}, {name: "f"}}, 200, "f"},
		{"devices and fifos", "", []tarEntry{{"block", "", tar.TypeBlock}, {"char", "", tar.TypeChar}, {"fifo", "", tar.TypeFifo}}, 200, ""},
		{"a name that is too long", "", []tarEntry{{name: strings.Repeat("x/", 4096) + "x"}}, 400, ""},
		{"a part that is too long", "", []tarEntry{{name: strings.Repeat("x", 300)}}, 400, ""},
		{"a folder over a file", "", []tarEntry{{name: "f"}, {name: "f/g"}}, 400, "f"},
		{"a hundred thousand entries", "", manyEntries(mark), 200, "1100 files"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := fmt.Sprintf("/srv/case%d", i)
			s.sh(vm, "mkdir "+folder+"; cd "+folder+"; "+tt.before)
			got := s.call("POST", "/vm/"+vm+"/cp"+params("path", folder, "mode", "tar", "uid", "0"), bytes.NewReader(archive(t, tt.entries...)))
			if got.status != tt.status {
				t.Errorf("POST cp = %d %.200q, want %d", got.status, got.body, tt.status)
			}
			files := strings.Fields(s.sh(vm, "cd "+folder+"; find . -mindepth 1 -printf '%P\\n' | sort"))
			found := strings.Join(files, " ")
			if len(files) > 10 {
				found = fmt.Sprintf("%d files", len(files))
			}
			if found != tt.files {
				t.Errorf("the folder has %.300q, want %q", found, tt.files)
			}
		})
	}
	wantHostFile(t, mark)
}
