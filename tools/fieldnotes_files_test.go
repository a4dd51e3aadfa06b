package tools_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/png"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// TestField10FileBytesStayOutOfTheModel moves files whose bytes must not pass
// through a model: paths go in, sizes and checksums come out.
func TestField10FileBytesStayOutOfTheModel(t *testing.T) {
	s, client, vm, root := fileSession(t)
	content := strings.Repeat("\x00\xff\x10canary", 300_000)
	sum := sha256.Sum256([]byte(content))
	put(t, root, map[string]string{"data.bin": content})
	for tool, a := range map[string]args{
		"cp_to_vm":  {"host_path": "data.bin", "vm_path": "/tmp/data.bin"},
		"read_file": {"file_path": "/tmp/there.bin"},
	} {
		write(t, client, vm, "/tmp/there.bin", []byte(content))
		res := s.raw(t.Context(), tool, a)
		whole, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		if res.IsError || len(whole) > 2000 || bytes.Contains(whole, []byte("canary")) || bytes.Contains(whole, []byte(base64.StdEncoding.EncodeToString([]byte("\x00\xff\x10canary"))[:11])) {
			t.Errorf("%s answered %d bytes: %.300s; want a few, none of the file's", tool, len(whole), whole)
		}
		wantText(t, tool, textOf(t, res), hex.EncodeToString(sum[:]))
	}
	wantFile(t, client, vm, "/tmp/data.bin", content)

	// What a model writes itself comes back as a checksum, and as no echo.
	text := strings.Repeat("canary\n", 1000)
	sum = sha256.Sum256([]byte(text))
	got := s.call("write_file", args{"file_path": "/tmp/text", "content": text})
	wantText(t, "write_file", got, "1,000 lines, 7,000 bytes", hex.EncodeToString(sum[:]))
	if strings.Contains(got, "canary") {
		t.Errorf("write_file = %q, which repeats the content", got)
	}
}

// TestField17HostAndVMPathsAreToldApart is about which side a path is on.
func TestField17HostAndVMPathsAreToldApart(t *testing.T) {
	entries, _ := listTools(t)
	paths := 0
	for _, raw := range entries {
		var tool listedTool
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatal(err)
		}
		for name, param := range tool.InputSchema.Properties {
			if !strings.Contains(name, "path") && name != "from_file" {
				continue
			}
			paths++
			side := "in the VM"
			if name == "host_path" || name == "from_file" {
				side = "host"
			}
			if description, _ := param["description"].(string); !strings.Contains(strings.ToLower(description), strings.ToLower(side)) {
				t.Errorf("%s: %s is described as %q, which doesn't say %q", tool.Name, name, description, side)
			}
		}
	}
	if paths < 8 {
		t.Errorf("%d parameters are paths, want those of eight tools at least", paths)
	}

	s, _, _, root := fileSession(t)
	outside := t.TempDir()
	put(t, root, map[string]string{"allowed.txt": "x"})
	put(t, outside, map[string]string{"not-allowed.txt": "x"})
	allowed, unknown := filepath.Join(root, "allowed.txt"), filepath.Join(outside, "not-allowed.txt")
	for tool, arguments := range map[string]func(p string) args{
		"read_file": func(p string) args { return args{"file_path": p} },
		"edit_file": func(p string) args {
			return args{"file_path": p, "edits": []args{{"old_string": "x", "new_string": "y"}}}
		},
		"list_files":   func(p string) args { return args{"path": p} },
		"search_files": func(p string) args { return args{"pattern": "x", "path": p} },
	} {
		wantText(t, tool, s.fail(tool, arguments(allowed)), `VM "web" has no`, "but the host has it", "cp_to_vm(")
		got := s.fail(tool, arguments(unknown))
		wantText(t, tool, got, `VM "web" has no`, "list_files(")
		if strings.Contains(got, "the host has") {
			t.Errorf("%s = %q, which tells of a host file that isn't under a root", tool, got)
		}
	}
}

// TestField23BinaryIsDescribedAndImagesAreShown sniffs what a file is, whatever
// its name says.
func TestField23BinaryIsDescribedAndImagesAreShown(t *testing.T) {
	s, _, files := guestSession(t)
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	seed(t, files, map[string]string{
		"/srv/picture.txt": picture.String(), "/srv/fake.png": "only text\n", "/srv/nul.txt": "text\x00with a NUL",
		"/srv/doc.pdf": "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "/srv/a.gz": "\x1f\x8b\x08\x00\x00", "/srv/half": "\xff\xfe\x00h",
	})
	res := s.raw(t.Context(), "read_file", args{"file_path": "/srv/picture.txt"})
	if len(res.Content) != 2 || res.StructuredContent != nil {
		t.Fatalf("read_file of a picture = %+v, want a text and an image", res)
	}
	if block, ok := res.Content[1].(mcp.ImageContent); !ok || block.MIMEType != "image/png" || block.Data != base64.StdEncoding.EncodeToString(picture.Bytes()) {
		t.Errorf("read_file of a picture: %+v, want it as image/png", res.Content[1])
	}
	wantText(t, "read_file of a text with a picture's name", s.call("read_file", args{"file_path": "/srv/fake.png"}), "     1\tonly text")
	for _, name := range []string{"/srv/nul.txt", "/srv/doc.pdf", "/srv/a.gz", "/srv/half"} {
		data, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		got := s.call("read_file", args{"file_path": name})
		wantText(t, "read_file of "+name, got, "is binary", "SHA-256 "+hex.EncodeToString(sum[:]), `cp_from_vm(vm="web", vm_path="`+name+`"`)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == '\ufffd' }) {
			t.Errorf("read_file of %s = %q, which has raw bytes", name, got)
		}
	}
	wantText(t, "search_files", s.call("search_files", args{"pattern": "NUL|obj", "path": "/srv"}), "no match", "Skipped 5 binary files.")
	wantText(t, "edit_file", s.fail("edit_file", args{"file_path": "/srv/nul.txt", "edits": []args{{"old_string": "text", "new_string": "x"}}}), "is binary")
}
