package tools_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// resource reads a resource; the error's text stands for one that can't be.
func (s *session) resource(uri string) string {
	s.t.Helper()
	var req mcp.ReadResourceRequest
	req.Params.URI = uri
	res, err := s.client.ReadResource(s.t.Context(), req)
	if err != nil {
		return "error: " + err.Error()
	}
	if len(res.Contents) != 1 {
		s.t.Fatalf("ReadResource(%s) has %d contents, want 1", uri, len(res.Contents))
	}
	switch c := res.Contents[0].(type) {
	case mcp.TextResourceContents:
		return c.MIMEType + ": " + c.Text
	case mcp.BlobResourceContents:
		return c.MIMEType + " base64: " + c.Blob
	}
	return "nothing"
}

func TestResources(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	s.call("create_vm", args{"name": "web"})
	for name, data := range map[string]string{"/tmp/big": strings.Repeat("x", 1<<20+1), "/tmp/program": "\x7fELF\x00\x01"} {
		if err := client.WriteFile(t.Context(), "sbox-1", name, []byte(data), 0o644, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.call("write_file", args{"file_path": "/tmp/a b.txt", "content": "grüße\n"})
	s.call("write_file", args{"file_path": "/tmp/x.html", "content": "<p>"})
	for _, tc := range []struct {
		name, uri string
		want      []string
	}{
		{"every VM", "slicer://vms", []string{"text/plain: ", "web", "owned by this server"}},
		{"a VM by its name", "slicer://vm/web", []string{"text/plain: ", "sbox-1", "Running"}},
		{"a VM by its hostname", "slicer://vm/sbox-1", []string{"Running"}},
		{"a console", "slicer://vm/web/logs", []string{"text/plain: "}},
		{"a file", "slicer://vm/web/file/tmp/x.html", []string{"text/html", ": <p>"}},
		{"a file with an escaped name", "slicer://vm/web/file//tmp/a%20b.txt", []string{"text/plain", ": grüße\n"}},
		{"a VM that isn't there", "slicer://vm/wbe", []string{"error: ", `no VM named "wbe"`, `Did you mean "web"`}},
		{"a file that isn't there", "slicer://vm/web/file/none", []string{"error: ", "/none"}},
		{"a binary file", "slicer://vm/web/file/tmp/program", []string{"application/octet-stream base64: " + base64.StdEncoding.EncodeToString([]byte("\x7fELF\x00\x01"))}},
		{"a file that is too large", "slicer://vm/web/file/tmp/big", []string{"error: ", "1 MiB", "read_file("}},
		{"a folder", "slicer://vm/web/file/tmp", []string{"error: ", "is a folder"}},
		{"another resource", "slicer://none", []string{"error: ", "not found"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			wantText(t, tc.uri, s.resource(tc.uri), tc.want...)
		})
	}
}

func TestBinariesWithSecretsAreNotShown(t *testing.T) {
	s, files := redactSession(t, map[string]string{"api": canary})
	for name, data := range map[string]string{
		"/tmp/p.png": "\x89PNG\r\n\x1a\n" + canary,
		"/tmp/b":     "\x00\x01" + canary,
		"/tmp/c":     "\x00" + base64.StdEncoding.EncodeToString([]byte(canary)),
	} {
		if err := files.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		got := s.resource("slicer://vm/sbox-1/file" + name)
		wantText(t, name, got, "error: ", "holds the value of a secret", "cp_from_vm")
		res := s.raw(t.Context(), "read_file", args{"file_path": name})
		for i, content := range res.Content {
			if _, ok := content.(mcp.TextContent); !ok {
				t.Errorf("read_file of %s: content %d is %T, want a text", name, i, content)
			}
		}
	}
}

func TestResourcesAreListed(t *testing.T) {
	s := shellSession(t, runWords)
	list, err := s.client.ListResources(t.Context(), mcp.ListResourcesRequest{})
	if err != nil || len(list.Resources) != 1 || list.Resources[0].URI != "slicer://vms" {
		t.Errorf("ListResources = %+v, %v, want slicer://vms", list, err)
	}
	templates, err := s.client.ListResourceTemplates(t.Context(), mcp.ListResourceTemplatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, template := range templates.ResourceTemplates {
		got = append(got, template.URITemplate.Raw())
	}
	slices.Sort(got)
	want := []string{"slicer://vm/{vm}", "slicer://vm/{vm}/file/{+path}", "slicer://vm/{vm}/logs"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resource templates (-want +got):\n%s", diff)
	}
}

func TestVMNamesAreCompleted(t *testing.T) {
	s := shellSession(t, runWords)
	s.call("create_vm", args{"name": "worker"})
	for _, tc := range []struct {
		argument, value string
		want            []string
	}{
		{"vm", "", []string{"web", "worker"}},
		{"vm", "wo", []string{"worker"}},
		{"vm", "x", []string{}},
		{"path", "", []string{}},
	} {
		var req mcp.CompleteRequest
		req.Params.Ref = mcp.ResourceReference{Type: "ref/resource", URI: "slicer://vm/{vm}"}
		req.Params.Argument = mcp.CompleteArgument{Name: tc.argument, Value: tc.value}
		res, err := s.client.Complete(t.Context(), req)
		if err != nil {
			t.Fatalf("Complete(%s=%q) = %v", tc.argument, tc.value, err)
		}
		if diff := cmp.Diff(tc.want, res.Completion.Values); diff != "" {
			t.Errorf("Complete(%s=%q) (-want +got):\n%s", tc.argument, tc.value, diff)
		}
	}
}

func TestPrompts(t *testing.T) {
	s := shellSession(t, runWords)
	list, err := s.client.ListPrompts(t.Context(), mcp.ListPromptsRequest{})
	if err != nil || len(list.Prompts) != 3 {
		t.Fatalf("ListPrompts = %+v, %v, want 3", list, err)
	}
	for _, tc := range []struct {
		prompt string
		args   map[string]string
		want   []string
	}{
		{"run_repository", map[string]string{"source": "./app"}, []string{"./app", "Goal: run its tests", "create_vm", "cp_to_vm", "delete_vm"}},
		{"try_ways", map[string]string{"task": "sort\nfast", "ways": "4"}, []string{"sort fast", "Ways: 4.", "list_host_groups"}},
		{"debug_service", map[string]string{"vm": "web", "service": "nginx answers 502"}, []string{`"web"`, "nginx answers 502", "vm_logs"}},
		{"debug_service", map[string]string{"vm": "web"}, []string{"error: ", "needs the argument service"}},
		{"run_repository", map[string]string{"source": "x", "gaol": "y"}, []string{"error: ", `unknown argument "gaol"; did you mean goal?`}},
	} {
		var req mcp.GetPromptRequest
		req.Params.Name, req.Params.Arguments = tc.prompt, tc.args
		res, err := s.client.GetPrompt(t.Context(), req)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else if text, ok := res.Messages[0].Content.(mcp.TextContent); ok {
			got = text.Text
		}
		wantText(t, tc.prompt, got, tc.want...)
	}
}
