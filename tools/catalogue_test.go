package tools_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

var update = flag.Bool("update", false, "rewrite schemas/*.json and README's table of tools")

const schemaDir = "../schemas"

// listedTool is an entry of tools/list.
type listedTool struct {
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	InputSchema listedSchema    `json:"inputSchema"`
	Annotations map[string]bool `json:"annotations"`
}

type listedSchema struct {
	Type                 string                    `json:"type"`
	Properties           map[string]map[string]any `json:"properties"`
	Required             []string                  `json:"required"`
	AdditionalProperties *bool                     `json:"additionalProperties"`
}

// listTools asks a server for its tools and returns each as it came over the
// session, and the whole answer.
func listTools(t *testing.T) (entries []json.RawMessage, whole json.RawMessage) {
	t.Helper()
	s := connect(t, tools.Config{Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)})
	res, err := s.client.GetTransport().SendRequest(t.Context(), transport.JSONRPCRequest{
		JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId(int64(1000)), Method: "tools/list",
	})
	if err != nil {
		t.Fatalf("tools/list: %v", err)
	}
	if res.Error != nil {
		t.Fatalf("tools/list: error %d %s", res.Error.Code, res.Error.Message)
	}
	var list struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if err := json.Unmarshal(res.Result, &list); err != nil {
		t.Fatalf("tools/list answered %s: %v", res.Result, err)
	}
	return list.Tools, res.Result
}

func TestSchemas(t *testing.T) {
	entries, _ := listTools(t)
	if got, want := len(entries), len(tools.Catalogue()); got != want {
		t.Errorf("tools/list has %d tools, the catalogue %d", got, want)
	}
	owned := map[string]bool{}
	for _, raw := range entries {
		var tool listedTool
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatalf("tools/list entry %s: %v", raw, err)
		}
		var text bytes.Buffer
		if err := json.Indent(&text, raw, "", "  "); err != nil {
			t.Fatal(err)
		}
		text.WriteByte('\n')
		name := tool.Name + ".json"
		owned[name] = true
		file := filepath.Join(schemaDir, name)
		if *update {
			if err := os.MkdirAll(schemaDir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%s has no schema file; run make generate: %v", tool.Name, err)
			continue
		}
		if diff := cmp.Diff(string(want), text.String()); diff != "" {
			t.Errorf("%s is stale; run make generate (-file +tools/list):\n%s", file, diff)
		}
	}
	files, err := filepath.Glob(filepath.Join(schemaDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if owned[filepath.Base(file)] {
			continue
		}
		if *update {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s belongs to no tool; run make generate", file)
	}
}

const (
	readme     = "../README.md"
	tableBegin = "<!-- tools: written by make generate -->\n"
	tableEnd   = "<!-- /tools -->\n"
)

// TestReadmeTable holds README's table of tools to tools/list.
func TestReadmeTable(t *testing.T) {
	effects := map[string]tools.Tool{}
	for _, tool := range tools.Catalogue() {
		effects[tool.Name] = tool
	}
	var table strings.Builder
	table.WriteString("\n| tool | toolset | effect | what it does |\n|---|---|---|---|\n")
	entries, _ := listTools(t)
	for _, raw := range entries {
		var tool listedTool
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatalf("tools/list entry %s: %v", raw, err)
		}
		first, _, _ := strings.Cut(tool.Description, ". ")
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", tool.Name, effects[tool.Name].Toolset, effects[tool.Name].Effect, strings.TrimSuffix(first, "."))
	}
	table.WriteByte('\n')

	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegin)
	got, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("README.md has no place for the table between %q and %q", tableBegin, tableEnd)
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+tableBegin+table.String()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), got); diff != "" {
		t.Errorf("README.md's table of tools is stale; run make generate (-tools/list +README):\n%s", diff)
	}
}

// budget is how many bytes tools/list may have, which every user of every client
// pays for on every request.
const budget = 18 * 1024

func TestBudget(t *testing.T) {
	_, whole := listTools(t)
	t.Logf("tools/list is %d bytes", len(whole))
	if len(whole) > budget {
		t.Errorf("tools/list is %d bytes, want at most %d", len(whole), budget)
	}
}

func TestEveryTool(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	effects := map[string]tools.Tool{}
	for _, tool := range tools.Catalogue() {
		effects[tool.Name] = tool
	}
	entries, _ := listTools(t)
	var names []string
	for _, raw := range entries {
		var tool listedTool
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatalf("tools/list entry %s: %v", raw, err)
		}
		names = append(names, tool.Name)
		t.Run(tool.Name, func(t *testing.T) {
			if !snake.MatchString(tool.Name) {
				t.Errorf("name %q is not snake_case", tool.Name)
			}
			if tool.Title == "" || tool.Description == "" {
				t.Errorf("title %q, description %q: both must say something", tool.Title, tool.Description)
			}
			if first, _, _ := strings.Cut(tool.Description, " "); !slices.Contains(strings.Fields("Create Update Edit List Remove Search Write Delete Run Copy Read Pause Resume Signal Look Suspend Restore Relaunch Shut"), first) {
				t.Errorf("description begins with %q, want a verb", first)
			}
			if !strings.Contains(tool.Title+tool.Description, "microVM") {
				t.Errorf("neither title nor description has the word microVM")
			}
			for _, forbidden := range []string{"$ref", "oneOf", "anyOf", "allOf", "$schema", "$id", "null", `\u003c`, `\u003e`} {
				if bytes.Contains(raw, []byte(forbidden)) {
					t.Errorf("tools/list entry has %s", forbidden)
				}
			}
			checkAnnotations(t, tool.Annotations, effects[tool.Name])
			checkSchema(t, tool.InputSchema)
		})
	}
	if !slices.IsSorted(names) {
		t.Errorf("tools/list order is %q, want it sorted", names)
	}
	want := []string{"cp_from_vm", "cp_to_vm", "create_secret", "create_vm", "delete_secret", "delete_vm", "edit_file", "exec", "get_vm", "list_files", "list_host_groups", "list_processes", "list_secrets", "list_vms", "pause", "read_file", "read_process", "relaunch", "remove_file", "restore", "resume", "search_files", "shutdown", "signal_process", "suspend", "update_secret", "vm_logs", "write_file"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
}

func checkAnnotations(t *testing.T, got map[string]bool, tool tools.Tool) {
	t.Helper()
	want := map[string]bool{
		"readOnlyHint":    tool.Effect == tools.Reads,
		"destructiveHint": tool.Effect == tools.Destroys,
		"idempotentHint":  tool.Effect == tools.Reads || tool.Idempotent,
		"openWorldHint":   tool.OpenWorld,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annotations of a tool that %s (-want +got):\n%s", tool.Effect, diff)
	}
}

func checkSchema(t *testing.T, s listedSchema) {
	t.Helper()
	if s.Type != "object" {
		t.Errorf("schema type = %q, want object", s.Type)
	}
	if s.AdditionalProperties == nil || *s.AdditionalProperties {
		t.Error("schema takes additional properties")
	}
	for _, name := range s.Required {
		if _, ok := s.Properties[name]; !ok {
			t.Errorf("required parameter %s is not defined", name)
		}
	}
	for name, param := range s.Properties {
		if description, _ := param["description"].(string); description == "" {
			t.Errorf("parameter %s has no description", name)
		}
		switch kind := param["type"]; kind {
		case "integer":
			if param["minimum"] == nil || param["maximum"] == nil {
				t.Errorf("integer %s lacks its minimum or maximum", name)
			}
		case "string":
			if param["maxLength"] != nil || param["minLength"] != nil {
				t.Errorf("string %s tells its bounds, which cost more than they say", name)
			}
		case "array":
			items, _ := param["items"].(map[string]any)
			if param["maxItems"] == nil {
				t.Errorf("array %s lacks its maxItems", name)
			}
			if items["type"] == "object" {
				checkSchema(t, schemaOf(t, items))
			} else if items["type"] != "string" {
				t.Errorf("array %s: items %v, want strings or flat objects", name, items)
			}
		case "boolean":
		default:
			t.Errorf("parameter %s has the type %v, want a flat one", name, kind)
		}
	}
}

// schemaOf reads a schema inside another.
func schemaOf(t *testing.T, value map[string]any) (s listedSchema) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
