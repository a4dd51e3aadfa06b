package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

func TestInstructions(t *testing.T) {
	known := map[string]bool{}
	for _, tool := range tools.Catalogue() {
		known[tool.Name] = true
	}
	quoted := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(app.Instructions, -1)
	if len(quoted) == 0 {
		t.Error("the instructions name no tool")
	}
	for _, name := range quoted {
		if !known[name[1]] {
			t.Errorf("the instructions name %q, which is no tool", name[1])
		}
	}
	for _, word := range regexp.MustCompile(`[a-z]+(_[a-z]+)+`).FindAllString(app.Instructions, -1) {
		if !known[word] {
			t.Errorf("the instructions name %q, which is no tool", word)
		}
	}
	if first, _, _ := strings.Cut(app.Instructions, "\n"); len(first) > 250 || !strings.HasSuffix(first, ".") {
		t.Errorf("the first paragraph is %q, want whole sentences of 250 characters at most", first)
	}
	if len(app.Instructions) > 2000 {
		t.Errorf("the instructions have %d characters, want 2,000 at most", len(app.Instructions))
	}
	text := app.Instructions
	for _, rule := range []string{"Tag what you create", "Reuse the VM of this workflow", "On a Mac create VMs in the group sbox", "Never use slicer-1, the user's own VM, unless asked"} {
		if !strings.Contains(text, rule) {
			t.Errorf("the instructions don't say %q", rule)
		}
	}
	got := replies(t, newWorld(t).run(hello, "--url", nowhere).stdout)[1].Result
	if got.Instructions != app.Instructions {
		t.Errorf("initialize says %q, want the instructions", got.Instructions)
	}
}

func TestServerSaysWhoItIs(t *testing.T) {
	info := replies(t, newWorld(t).run(hello, "--url", nowhere).stdout)[1].Result.ServerInfo
	if info.Name != "slicervm-mcp" || info.Title == "" || info.Version == "" || !strings.HasPrefix(info.WebsiteURL, "https://") {
		t.Errorf("initialize says %+v, want a name, a title, a version and a website", info)
	}
	if len(info.Icons) != 1 || info.Icons[0].MIMEType != "image/svg+xml" || len(info.Icons[0].Src) > 2<<10 {
		t.Fatalf("initialize has the icons %+v, want an SVG of 2 KiB at most", info.Icons)
	}
	code, ok := strings.CutPrefix(info.Icons[0].Src, "data:image/svg+xml;base64,")
	svg, err := base64.StdEncoding.DecodeString(code)
	if !ok || err != nil {
		t.Fatalf("the icon is %q (%v), want a data: URI", info.Icons[0].Src, err)
	}
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for first := true; ; first = false {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) && !first {
			return
		}
		if err != nil {
			t.Fatalf("the icon is no XML: %v", err)
		}
		start, ok := token.(xml.StartElement)
		if first && (!ok || start.Name != xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}) {
			t.Fatalf("the icon begins with %v, want svg", token)
		}
		if ok && (start.Name.Local == "script" || start.Name.Local == "image") {
			t.Errorf("the icon has a %s, which clients needn't show", start.Name.Local)
		}
	}
}
