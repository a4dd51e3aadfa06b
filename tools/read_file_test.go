package tools_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestReadText(t *testing.T) {
	s, client, vm, _ := fileSession(t)
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "line %d\n", i+1)
	}
	for name, content := range map[string]string{
		"short": "one\n\ttwo\n\nfour\n", "many": many.String(), "empty": "", "bare": "no newline",
		"crlf": "a\r\nb\r\n", "hostile": "a\u202eb\x1b[31m\u200b\n     9\tfake\n", "thin": strings.Repeat("x\n", 5000), "latin": "gr\xfc\xdfe\n",
		"wide": strings.Repeat("x", 5_000_000) + "\nnext\n", "heavy": strings.Repeat(strings.Repeat("y", 1000)+"\n", 100),
	} {
		write(t, client, vm, "/tmp/"+name, []byte(content))
	}
	for _, tc := range []struct {
		name string
		args args
		want string
	}{
		{"numbers as cat -n", args{"file_path": "/tmp/short"}, "\"/tmp/short\", lines 1–4 of 4 lines\n     1\tone\n     2\t\ttwo\n     3\t\n     4\tfour"},
		{"a part", args{"file_path": "/tmp/short", "offset": 2, "limit": 2}, "\"/tmp/short\", lines 2–3 of 4 lines\n     2\t\ttwo\n     3\t\nread_file(vm=\"web\", file_path=\"/tmp/short\", offset=4) reads on."},
		{"an empty file", args{"file_path": "/tmp/empty"}, `"/tmp/empty" is empty.`},
		{"no newline at the end", args{"file_path": "/tmp/bare"}, "\"/tmp/bare\", lines 1–1 of 1 line\n     1\tno newline\n(no newline at the end)"},
		{"CR LF", args{"file_path": "/tmp/crlf"}, "\"/tmp/crlf\", lines 1–2 of 2 lines, CRLF\n     1\ta\n     2\tb"},
		{"what is invisible is shown", args{"file_path": "/tmp/hostile"}, "\"/tmp/hostile\", lines 1–2 of 2 lines\n     1\ta\\u202eb␛[31m\\u200b\n     2\t     9\tfake"},
		{"what isn't UTF-8 is replaced", args{"file_path": "/tmp/latin"}, "\"/tmp/latin\", lines 1–1 of 1 line\n     1\tgr\ufffd\ufffde"},
		{"a long line is cut", args{"file_path": "/tmp/wide"}, "\"/tmp/wide\", lines 1–2 of 2 lines\n     1\t" + strings.Repeat("x", 2000) + "… (4,998,000 characters more)\n     2\tnext"},
		{"the last lines", args{"file_path": "/tmp/many", "offset": 4999}, "\"/tmp/many\", lines 4,999–5,000 of 5,000 lines\n  4999\tline 4999\n  5000\tline 5000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.call("read_file", tc.args); got != tc.want {
				t.Errorf("read_file(%v) = %.500q, want %.500q", tc.args, got, tc.want)
			}
		})
	}
	wantText(t, "read_file of many lines", s.call("read_file", args{"file_path": "/tmp/thin"}), "lines 1–2,000 of 5,000 lines", "  2000\tx\n", "offset=2001) reads on.")
	heavy := s.call("read_file", args{"file_path": "/tmp/heavy"})
	wantText(t, "read_file of a heavy file", heavy, "lines 1–29 of 100 lines", "offset=30) reads on.")
	if n := utf8.RuneCountInString(heavy); n > 30_200 {
		t.Errorf("read_file of a heavy file answered %d characters, want at most 30,200", n)
	}
	wantText(t, "read_file beyond the end", s.fail("read_file", args{"file_path": "/tmp/short", "offset": 9}), "offset 9 is beyond the end", "4 lines")
}

func TestReadOther(t *testing.T) {
	s, client, vm, root := fileSession(t)
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	large := append(bytes.Clone(picture.Bytes()), make([]byte, 2<<20)...)
	binary := []byte("\x7fELF\x00\x01\x02")
	write(t, client, vm, "/tmp/p.png", picture.Bytes())
	write(t, client, vm, "/tmp/large.png", large)
	write(t, client, vm, "/tmp/it's binary", binary)

	res := s.raw(t.Context(), "read_file", args{"file_path": "/tmp/p.png"})
	if len(res.Content) != 2 || res.IsError || res.StructuredContent != nil {
		t.Fatalf("read_file of a picture = %+v, want a text and an image and nothing else", res)
	}
	wantText(t, "read_file of a picture", textOf(t, res), "image/png", fmt.Sprintf("%d bytes", picture.Len()))
	block, ok := res.Content[1].(mcp.ImageContent)
	if !ok || block.MIMEType != "image/png" || block.Data != base64.StdEncoding.EncodeToString(picture.Bytes()) {
		t.Errorf("read_file of a picture: second content %+v, want the picture", res.Content[1])
	}
	sum := sha256.Sum256(large)
	wantText(t, "read_file of a large picture", s.call("read_file", args{"file_path": "/tmp/large.png"}), "image/png", "SHA-256 "+hex.EncodeToString(sum[:]), "Too large to show")
	sum = sha256.Sum256(binary)
	wantText(t, "read_file of a binary", s.call("read_file", args{"file_path": "/tmp/it's binary"}), "is binary", "7 bytes", "SHA-256 "+hex.EncodeToString(sum[:]), `cp_from_vm(vm="web", vm_path="/tmp/it's binary", host_path=`, "exec(", `'/tmp/it'\\''s binary'`)

	wantText(t, "read_file of a folder", s.fail("read_file", args{"file_path": "/tmp"}), `"/tmp" is a folder in VM "web"`, `list_files(vm="web", path="/tmp")`)
	wantText(t, "read_file of a missing file", s.fail("read_file", args{"file_path": "/tmp/none"}), `VM "web" has no "/tmp/none"`, `list_files(vm="web", path="/tmp")`)
	put(t, root, map[string]string{"host.txt": "x"})
	wantText(t, "read_file of a host file", s.fail("read_file", args{"file_path": filepath.Join(root, "host.txt")}), "but the host has it", "cp_to_vm(")
}

// TestReadFarIntoAHugeFile reads line 1,000,000 of a file of 5 GB, without
// holding, or fetching, more of it than that takes.
func TestReadFarIntoAHugeFile(t *testing.T) {
	const wanted, length = 1_000_000, int64(5_000_000_000)
	sent := make(chan int64, 1)
	client := turningDaemon(t, "Running", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", fmt.Sprint(length))
		var n int64
		for line := 1; n < length; {
			var chunk bytes.Buffer
			for ; chunk.Len() < 64<<10; line++ {
				fmt.Fprintf(&chunk, "this is line %d\n", line)
			}
			m, err := w.Write(chunk.Bytes())
			n += int64(m)
			if err != nil {
				break
			}
		}
		sent <- n
	})
	s := connect(t, tools.Config{Client: client})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := s.call("read_file", args{"file_path": "/var/log/huge", "offset": wanted, "limit": 1})
	runtime.ReadMemStats(&after)
	wantText(t, "read_file", got, "lines 1,000,000–1,000,000 of more than", "1000000\tthis is line 1000000\n", "offset=1000001) reads on.")
	if n := <-sent; n > 200<<20 {
		t.Errorf("the daemon sent %d bytes of the file, want it to be left off soon after the line", n)
	}
	if held := int64(after.HeapSys) - int64(before.HeapSys); held > 64<<20 {
		t.Errorf("reading took %d bytes of heap, want at most 64 MiB", held)
	}
}

// TestReadBinaryBeyondTheCallsTime is about a binary that can't be read whole.
func TestReadBinaryBeyondTheCallsTime(t *testing.T) {
	client := turningDaemon(t, "Running", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", "5000000000")
		_, _ = io.WriteString(w, "\x7fELF"+strings.Repeat("\x00", 1<<16))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := connect(t, tools.Config{Client: client, CallLimit: 1e9})
	wantText(t, "read_file", s.call("read_file", args{"file_path": "/var/huge.img"}), "is binary", "5,000,000,000 bytes", "sha256sum", "cp_from_vm(")
}
