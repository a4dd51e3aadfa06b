package tools_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// canary is a secret value with characters that encodings change.
const canary = `cnry/4711+Zwölf?"Kämpfer"&x=_end`

// wrapped breaks text into lines of n characters, as base64 does.
func wrapped(text string, n int) string {
	var b strings.Builder
	for len(text) > n {
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return b.String() + text + "\n"
}

// redactSession is a session that knows secrets, by name, and whose commands
// print a file.
func redactSession(t *testing.T, secrets map[string]string) (s *session, files *slicertest.Files) {
	t.Helper()
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)})
	s = connect(t, tools.Config{Client: srv.Client(), Known: secrets})
	var made vmRecord
	s.record("create_vm", args{}, &made)
	return s, srv.Files(made.VM)
}

// wantHidden reports the parts of value that text shows: those of 8 bytes and
// more, as they are or in base64.
func wantHidden(t *testing.T, what, text, value string) {
	t.Helper()
	folded := strings.NewReplacer("-", "+", "_", "/").Replace(text)
	for i := 0; i+8 <= len(value); i++ {
		if part := value[i : i+8]; strings.Contains(text, part) {
			at := strings.Index(text, part)
			t.Fatalf("%s shows %q of the value: %q", what, part, text[max(0, at-300):min(len(text), at+100)])
		}
	}
	for lead := range 3 {
		code := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", lead) + value))
		for i := 4; i+10 <= len(code)-2; i++ {
			if part := code[i : i+10]; strings.Contains(folded, part) {
				at := strings.Index(folded, part)
				t.Fatalf("%s shows %q, the value in base64: %q", what, part, folded[max(0, at-300):min(len(folded), at+100)])
			}
		}
	}
}

func TestRedaction(t *testing.T) {
	std, inURL := base64.StdEncoding, base64.URLEncoding
	long := strings.Repeat("some text before it. ", 10)
	for _, tc := range []struct{ name, content string }{
		{"as it is", canary},
		{"in a line", "TOKEN=" + canary + "; export TOKEN\n"},
		{"twice", canary + canary + "\n"},
		{"base64", std.EncodeToString([]byte(canary))},
		{"base64 with a newline in it", std.EncodeToString([]byte(canary + "\n"))},
		{"base64 without padding", "x " + base64.RawStdEncoding.EncodeToString([]byte(canary)) + " y"},
		{"base64 for URLs", inURL.EncodeToString([]byte(canary))},
		{"base64 after one byte", std.EncodeToString([]byte(":" + canary))},
		{"base64 after two bytes", std.EncodeToString([]byte("u:" + canary))},
		{"base64 for URLs after two bytes, more behind", inURL.EncodeToString([]byte("u:" + canary + "more"))},
		{"in a long base64 text, wrapped", wrapped(std.EncodeToString([]byte(long+canary+long)), 76)},
		{"wrapped, a byte later", wrapped(std.EncodeToString([]byte("-"+long+canary+long)), 76)},
		{"wrapped, two bytes later", wrapped(std.EncodeToString([]byte("--"+long+canary+long)), 76)},
		{"wrapped narrowly", wrapped(std.EncodeToString([]byte(canary)), 20)},
		{"wrapped more narrowly", wrapped(std.EncodeToString([]byte(canary)), 12)},
		{"folded", wrapped(canary, 16)},
		{"with carriage returns", strings.ReplaceAll(wrapped(std.EncodeToString([]byte(canary)), 20), "\n", "\r\n")},
		{"as a query", "https://x/?t=" + url.QueryEscape(canary) + "&y"},
		{"in a path", "https://x/" + url.PathEscape(canary) + "/y"},
		{"with small hexadecimals", regexp.MustCompile("%..").ReplaceAllStringFunc(url.QueryEscape(canary), strings.ToLower)},
		{"as printf %q writes it", strings.NewReplacer("?", `\?`, `"`, `\"`, "&", `\&`).Replace(canary)},
		{"in JSON for a page", strings.ReplaceAll(fmt.Sprintf(`{"token":%q}`, canary), "&", `\u0026`)},
		{"in JSON with escaped slashes", strings.ReplaceAll(fmt.Sprintf(`{"token":%q}`, canary), "/", `\/`)},
		{"in HTML", html.EscapeString(canary)},
		{"in XML", strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(canary)},
		{"in JSON", fmt.Sprintf(`{"token":%q}`, canary)},
		{"escaped to ASCII", fmt.Sprintf("%+q", canary)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, files := redactSession(t, map[string]string{"api": canary})
			if err := files.WriteFile("/tmp/f", []byte(tc.content), 0o644); err != nil {
				t.Fatal(err)
			}
			for what, text := range map[string]string{
				"exec":      s.call("exec", args{"command": "cat /tmp/f"}),
				"read_file": s.call("read_file", args{"file_path": "/tmp/f"}),
			} {
				wantText(t, what, text, "[redacted secret api]")
				wantHidden(t, what, text, canary)
			}
		})
	}
}

func TestRedactionOfLines(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\nshort\n-----END PRIVATE KEY-----\n"
	s, files := redactSession(t, map[string]string{"pem": key})
	for _, tc := range []struct {
		name, content string
		hidden, kept  []string
	}{
		{"the whole", "a\n" + key + "b\n", []string{"MIIE", "AQEF", "short"}, []string{"a", "b"}},
		{"a line of it", "x: AQEFAASCBKcwggSjAgEAAoIB.\n", []string{"AQEF"}, []string{"x: [redacted secret pem]."}},
		{"another key's armour", "-----BEGIN PRIVATE KEY-----\nother\n-----END PRIVATE KEY-----\n", nil, []string{"-----BEGIN PRIVATE KEY-----", "other"}},
		{"a short line", "in short\n", nil, []string{"in short"}},
		{"a part in the middle of a line", "say kqhkiG9w0B now\n", nil, []string{"say kqhkiG9w0B now"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := files.WriteFile("/tmp/f", []byte(tc.content), 0o644); err != nil {
				t.Fatal(err)
			}
			text := s.call("exec", args{"command": "cat /tmp/f"})
			wantText(t, "exec", text, tc.kept...)
			for _, hidden := range tc.hidden {
				if strings.Contains(text, hidden) {
					t.Errorf("exec = %q, want it without %q", text, hidden)
				}
			}
		})
	}
}

// TestRedactionAcrossPages is about a value of which one page has the beginning
// and the next one the rest.
func TestRedactionAcrossPages(t *testing.T) {
	value := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 4)
	s, files := redactSession(t, map[string]string{"long": value})
	for _, tc := range []struct{ name, content string }{
		{"as it is, folded", wrapped(value, 50)},
		{"in base64", wrapped(base64.StdEncoding.EncodeToString([]byte("u:"+value)), 76)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := files.WriteFile("/tmp/f", []byte(tc.content), 0o644); err != nil {
				t.Fatal(err)
			}
			for offset := 1; offset <= strings.Count(tc.content, "\n"); offset++ {
				what := fmt.Sprintf("read_file from line %d", offset)
				text := s.call("read_file", args{"file_path": "/tmp/f", "offset": offset, "limit": 1})
				wantText(t, what, text, "[redacted secret long]")
				wantHidden(t, what, text, value)
			}
		})
	}
}

// TestRedactionKeepsTheRest is about text that is no secret.
func TestRedactionKeepsTheRest(t *testing.T) {
	s, files := redactSession(t, map[string]string{
		"db": "postgres://admin:hunter2@db/app", "pin": "4711", "empty": "", "tiny": "abc",
	})
	for _, content := range []string{
		"image: postgres\n", "postgres://other:pw@db/app\n", "47 11, abc, hunter\n", strings.Repeat("4712", 1000) + "\n",
	} {
		if err := files.WriteFile("/tmp/f", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		wantText(t, "exec", s.call("exec", args{"command": "cat /tmp/f"}), strings.TrimSpace(content))
	}
	if err := files.WriteFile("/tmp/f", []byte(strings.Repeat("4711", 5000)), 0o644); err != nil {
		t.Fatal(err)
	}
	text := s.call("exec", args{"command": "cat /tmp/f"})
	if len(text) > 80_000 || strings.Contains(text, "4711") {
		t.Errorf("a short value many times makes %d bytes: %.200q", len(text), text)
	}
}

// TestRedactionOfNames is about a secret whose name tells its value.
func TestRedactionOfNames(t *testing.T) {
	s, files := redactSession(t, map[string]string{"is-hunter2-ok": "hunter2"})
	if err := files.WriteFile("/tmp/f", []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text := s.call("exec", args{"command": "cat /tmp/f"}); strings.Contains(text, "hunter2") || !strings.Contains(text, "[redacted secret]") {
		t.Errorf("exec = %q, want the value redacted without the name", text)
	}
}

// TestRedactionOfRecords is about values in structuredContent.
func TestRedactionOfRecords(t *testing.T) {
	s, _ := redactSession(t, map[string]string{"tag": canary[:14]})
	s.call("create_vm", args{"name": "other", "tags": []string{"note=" + canary[:14]}})
	var list struct {
		VMs []vmRecord `json:"vms"`
	}
	text := s.record("list_vms", args{}, &list)
	text += fmt.Sprintf("%+v", list)
	wantHidden(t, "list_vms", text, canary[:14])
	wantText(t, "list_vms", fmt.Sprintf("%+v", list), "note=[redacted secret tag]", "other")
}

func TestRedactLog(t *testing.T) {
	var logged bytes.Buffer
	base := slog.NewTextHandler(&logged, nil)
	set, err := tools.New(tools.Config{
		Client: fakeDaemon(t), Owner: testOwner, SecretEnv: []string{"LATE"}, Getenv: func(string) string { return "late-" + canary },
		Known: map[string]string{"api": canary}, Log: slog.New(base),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	log := slog.New(set.RedactLog(base)).With("early", "x"+canary).WithGroup("g").With("n", 1)
	log.Info("message "+canary, "text", canary, "err", errors.New("in "+canary), "bytes", []byte(canary),
		"list", []string{canary}, slog.Group("in", "deep", canary), "env", "late-"+canary, "kept", "as it is", "number", 4)
	log.Log(context.Background(), slog.LevelDebug, canary)
	text := logged.String()
	wantHidden(t, "the log", text, canary)
	wantText(t, "the log", text, "message [redacted secret api]", "early=\"x[redacted secret api]\"", "g.n=1", "g.in.deep=\"[redacted secret api]\"", "g.kept=\"as it is\"", "g.number=4", "g.env=\"[redacted secret LATE]\"")
	if strings.Count(text, "\n") != 1 {
		t.Errorf("the log has more than the record of its level: %q", text)
	}
}

func BenchmarkRedaction(b *testing.B) {
	known := map[string]string{}
	for i := range 1000 {
		known[fmt.Sprint("s", i)] = fmt.Sprintf("secret-%08x-%d-value-of-some-length", i*2654435761, i)
	}
	set, err := tools.New(tools.Config{Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil), Owner: testOwner, Known: known})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = set.Close() })
	log := slog.New(set.RedactLog(slog.NewTextHandler(&bytes.Buffer{}, nil)))
	text := wrapped(strings.Repeat("the quick brown fox jumps over the lazy dog, secret-0000 and on, ", 460), 100)[:30_000]
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		log.Info("output", "text", text)
	}
}

func TestRedactionOfShellWords(t *testing.T) {
	const value = "it's 4711 of $HOME, `really`"
	for _, tc := range []struct{ name, content string }{
		{"as export -p shows it", "declare -x T=\"it's 4711 of \\$HOME, \\`really\\`\""},
		{"as set -x shows it", `+ : 'it'\''s 4711 of $HOME, ` + "`really`'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, files := redactSession(t, map[string]string{"api": value})
			if err := files.WriteFile("/tmp/f", []byte(tc.content), 0o644); err != nil {
				t.Fatal(err)
			}
			got := s.call("exec", args{"command": "cat /tmp/f"})
			wantText(t, "exec", got, "[redacted secret api]")
			wantHidden(t, "exec", got, value)
		})
	}
}

func TestRedactionWhereAPathIsCut(t *testing.T) {
	const value, shown = "plain-4711-abcdefghijklmnopqrstuvwxyz", 1000
	s, files := redactSession(t, map[string]string{"api": value})
	path := ""
	for range 4 {
		path += "\n" + strings.Repeat("x", 199)
		if err := files.Mkdir("/tmp/" + path); err != nil {
			t.Fatal(err)
		}
		path += "/"
	}
	path += strings.Repeat("y", shown-len(path)-len(value)/2) + value
	if err := files.WriteFile("/tmp/"+path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := s.call("list_files", args{"path": "/tmp", "glob": "*" + value[len(value)-4:]})
	wantText(t, "list_files", got, "[redacted secret api]…")
	wantHidden(t, "list_files", got, value)
}
