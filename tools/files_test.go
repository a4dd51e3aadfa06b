package tools_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// fileSession is a session with one VM and one root.
func fileSession(t *testing.T) (s *session, client *slicer.SlicerClient, vm, root string) {
	t.Helper()
	root = t.TempDir()
	s, client, vm = rootedSession(t, root)
	return s, client, vm, root
}

// rootedSession is a session with one VM and root for its root.
func rootedSession(t *testing.T, root string) (s *session, client *slicer.SlicerClient, vm string) {
	t.Helper()
	client = fakeDaemon(t)
	s = connect(t, tools.Config{Client: client, Roots: []string{root}})
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	return s, client, made.VM
}

// put writes host files below dir, making folders on the way.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, client *slicer.SlicerClient, vm, path string, data []byte) {
	t.Helper()
	if err := client.WriteFile(t.Context(), vm, path, data, 0o644, slicer.NonRootUser, slicer.NonRootUser); err != nil {
		t.Fatalf("WriteFile(%q): %v", path, err)
	}
}

func wantFile(t *testing.T, client *slicer.SlicerClient, vm, path, want string) {
	t.Helper()
	got, err := client.ReadFile(t.Context(), vm, path)
	if err != nil || string(got) != want {
		t.Errorf("in the VM %s = %.80q, %v; want %.80q", path, got, err, want)
	}
}

type copied struct {
	VM       string  `json:"vm"`
	VMPath   string  `json:"vm_path"`
	Files    int     `json:"files"`
	Bytes    int64   `json:"bytes"`
	Symlinks int     `json:"symlinks"`
	Skipped  int     `json:"skipped"`
	Seconds  float64 `json:"seconds"`
	SHA256   string  `json:"sha256"`
}

func TestCopyFile(t *testing.T) {
	s, client, vm, root := fileSession(t)
	content := strings.Repeat("binary\x00\xff", 10_000)
	put(t, root, map[string]string{"sub/data.bin": content, "empty": ""})
	sum := sha256.Sum256([]byte(content))
	for _, tc := range []struct{ name, host, to, want string }{
		{"by absolute path", filepath.Join(root, "sub/data.bin"), "/tmp/a.bin", "/tmp/a.bin"},
		{"by relative path", "sub/data.bin", "/tmp/b.bin", "/tmp/b.bin"},
		{"with dots inside the root", filepath.Join(root, "sub/../sub/./data.bin"), "/tmp/c.bin", "/tmp/c.bin"},
		{"into a folder", "sub/data.bin", "/tmp/", "/tmp/data.bin"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got copied
			text := s.record("cp_to_vm", args{"host_path": tc.host, "vm_path": tc.to}, &got)
			if got.Files != 1 || got.Bytes != int64(len(content)) || got.SHA256 != hex.EncodeToString(sum[:]) || got.VMPath != tc.want || got.VM != vm {
				t.Errorf("cp_to_vm = %+v, want 1 file of %d bytes at %s with SHA-256 %x", got, len(content), tc.want, sum)
			}
			wantText(t, "cp_to_vm", text, "Copied 1 file", tc.want, hex.EncodeToString(sum[:]))
			wantFile(t, client, vm, tc.want, content)
		})
	}
	var got copied
	s.record("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp/empty"}, &got)
	if got.Files != 1 || got.Bytes != 0 || got.SHA256 == "" {
		t.Errorf("cp_to_vm of an empty file = %+v, want 1 file of 0 bytes and its SHA-256", got)
	}
	wantFile(t, client, vm, "/tmp/empty", "")
	wantText(t, "cp_to_vm onto a folder", s.fail("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp"}), `"/tmp" is a folder in VM "web"`, `"/tmp/empty"`)
	wantText(t, "cp_to_vm of a file with exclude", s.fail("cp_to_vm", args{"host_path": "empty", "vm_path": "/tmp/x", "exclude": []string{"*.o"}}), "exclude is for folders")
}

func TestCopyFolder(t *testing.T) {
	s, client, vm, root := fileSession(t)
	put(t, root, map[string]string{
		"project/main.go": "package main", "project/sub/a.txt": "a", "project/empty.txt": "",
		"project/node_modules/x/y.js": "left out", "project/sub/b.o": "left out", "outside.txt": "outside",
	})
	if err := os.Symlink("../outside.txt", filepath.Join(root, "project/link")); err != nil {
		t.Skipf("no symlinks here: %v", err)
	}
	var got copied
	text := s.record("cp_to_vm", args{"host_path": "project", "vm_path": "/home/ubuntu/project", "exclude": []string{"node_modules", "**/*.o"}}, &got)
	if got.Files != 3 || got.Bytes != int64(len("package main")+1) || got.Symlinks != 1 || got.Skipped != 0 || got.SHA256 != "" {
		t.Errorf("cp_to_vm = %+v, want 3 files of 13 bytes and 1 symlink", got)
	}
	wantText(t, "cp_to_vm", text, "Copied 3 files and 1 symlink, 13 bytes")
	if strings.Contains(text, "Skipped") {
		t.Errorf("cp_to_vm says %q, want nothing skipped", text)
	}
	wantFile(t, client, vm, "/home/ubuntu/project/main.go", "package main")
	wantFile(t, client, vm, "/home/ubuntu/project/sub/a.txt", "a")
	wantFile(t, client, vm, "/home/ubuntu/project/empty.txt", "")
	for _, absent := range []string{"node_modules/x/y.js", "sub/b.o", "link"} { // the link leads to what isn't there
		if data, err := client.ReadFile(t.Context(), vm, "/home/ubuntu/project/"+absent); err == nil {
			t.Errorf("%s was copied: %q", absent, data)
		}
	}
	s.call("cp_to_vm", args{"host_path": root, "vm_path": "~/all"})
	wantFile(t, client, vm, "/home/ubuntu/all/outside.txt", "outside")
	wantFile(t, client, vm, "/home/ubuntu/all/project/link", "outside") // through the symlink
}

// TestRefusalTellsNothing is about host paths that may not be read: the same
// words for each, whether there is something or not.
func TestRefusalTellsNothing(t *testing.T) {
	s, _, _, root := fileSession(t)
	outside := t.TempDir()
	put(t, outside, map[string]string{"secret.txt": "secret"})
	put(t, root, map[string]string{"real.txt": "x"})
	for link, target := range map[string]string{
		"out": outside, "file-out": filepath.Join(outside, "secret.txt"), "gone-out": filepath.Join(outside, "gone"),
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Skipf("no symlinks here: %v", err)
		}
	}
	texts := map[string]bool{}
	for _, path := range []string{
		filepath.Join(outside, "secret.txt"), filepath.Join(outside, "gone"), outside,
		filepath.Join(root, "missing"), "missing", "../" + filepath.Base(outside) + "/secret.txt",
		filepath.Join(root, "..", filepath.Base(outside), "secret.txt"),
		filepath.Join(root, "out", "secret.txt"), filepath.Join(root, "file-out"), filepath.Join(root, "gone-out"),
		"out", "out/secret.txt", "real.txt/x", "/", "~/x", root + "-not",
	} {
		for tool, a := range map[string]args{
			"cp_to_vm":      {"host_path": path, "vm_path": "/tmp/x"},
			"create_secret": {"name": "x", "from_file": path},
		} {
			got := s.fail(tool, a)
			wantText(t, tool, got, "is not a readable file or folder under an allowed host folder", root, "--root")
			got = strings.ReplaceAll(got, fmt.Sprintf("%q", path), "PATH")
			got = strings.NewReplacer("host_path", "PARAM", "from_file", "PARAM").Replace(got)
			texts[got] = true
		}
	}
	if len(texts) != 1 {
		t.Errorf("%d different refusals, want one: %v", len(texts), texts)
	}
}

func TestNoRoots(t *testing.T) {
	s := connect(t, tools.Config{Client: fakeDaemon(t)})
	s.call("create_vm", args{})
	wantText(t, "cp_to_vm", s.fail("cp_to_vm", args{"host_path": "/etc/passwd", "vm_path": "/tmp/x"}), "may not read any host folder", "--root FOLDER")
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "x", "from_file": "/etc/passwd"}), "may not read any host folder", "--root FOLDER")
}

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
	wantText(t, "read_file of a binary", s.call("read_file", args{"file_path": "/tmp/it's binary"}), "is binary", "7 bytes", "SHA-256 "+hex.EncodeToString(sum[:]), "exec(", `'/tmp/it'\\''s binary'`)

	wantText(t, "read_file of a folder", s.fail("read_file", args{"file_path": "/tmp"}), `"/tmp" is a folder in VM "web"`, `exec(vm="web", command="ls -la -- /tmp")`)
	wantText(t, "read_file of a missing file", s.fail("read_file", args{"file_path": "/tmp/none"}), `no file "/tmp/none" in VM "web"`, `ls -la -- /tmp`)
	put(t, root, map[string]string{"host.txt": "x"})
	wantText(t, "read_file of a host file", s.fail("read_file", args{"file_path": filepath.Join(root, "host.txt")}), "but the host has it", "cp_to_vm(")
}

func TestSecrets(t *testing.T) {
	const value = "canary-4711\n"
	s, client, vm, root := fileSession(t)
	put(t, root, map[string]string{"key": value, "empty": "", "large": strings.Repeat("x", 1<<20+1)})
	wantText(t, "list_secrets of none", s.call("list_secrets", args{}), "0 secrets.")

	var made struct {
		Name, Path, Mode, User string
		Bytes                  int
	}
	text := s.record("create_secret", args{"name": "api.key", "from_file": "key"}, &made)
	if made.Name != "api.key" || made.Path != "/run/slicer/secrets/api.key" || made.Mode != "0600" || made.User != "ubuntu" || made.Bytes != len(value) {
		t.Errorf("create_secret = %+v, want api.key of %d bytes, 0600, ubuntu", made, len(value))
	}
	wantText(t, "create_secret", text, made.Path, "0600", "ubuntu", "12 bytes")
	s.call("create_secret", args{"name": "for-root", "from_file": "key", "mode": "400", "user": "root"})
	wantFile(t, client, vm, "/run/slicer/secrets/api.key", value)

	var list struct {
		Secrets []struct {
			Name, Path, Mode string
			Bytes            int64
			UID, GID         uint32
		}
	}
	text += s.record("list_secrets", args{}, &list)
	if len(list.Secrets) != 2 || list.Secrets[0].UID != 1000 || list.Secrets[0].GID != 1000 || list.Secrets[1].Mode != "0400" || list.Secrets[1].UID != 0 {
		t.Errorf("list_secrets = %+v, want api.key of 1000 and for-root of 0 with 0400", list.Secrets)
	}
	wantText(t, "list_secrets", text, "2 secrets.", "/run/slicer/secrets/api.key, 12 bytes, mode 0600, uid 1000, gid 1000")

	for name, want := range map[string][]string{"api.key": {`a secret named "api.key" exists already`, "list_secrets"}} {
		got := s.fail("create_secret", args{"name": name, "from_file": "key"})
		text += got
		wantText(t, "create_secret again", got, want...)
	}
	wantText(t, "create_secret of an empty file", s.fail("create_secret", args{"name": "x", "from_file": "empty"}), "is empty")
	wantText(t, "create_secret of a large file", s.fail("create_secret", args{"name": "x", "from_file": "large"}), "larger than a secret may be")
	wantText(t, "create_secret of a folder", s.fail("create_secret", args{"name": "x", "from_file": root}), "is a folder")
	if strings.Contains(text, "canary") {
		t.Errorf("an answer holds the secret's value: %q", text)
	}
}
