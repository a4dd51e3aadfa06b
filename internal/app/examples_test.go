package app_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientExamples is about the configurations of clients: they start what
// there is, and call where the server is by default.
func TestClientExamples(t *testing.T) {
	const url = "http://127.0.0.1:8090/mcp"
	files, err := filepath.Glob("../../examples/clients/*")
	if err != nil || len(files) < 4 {
		t.Fatalf("there are the examples %q (%v), want 4 at least", files, err)
	}
	for _, file := range files {
		text := readFile(t, file)
		if filepath.Ext(file) != ".json" {
			for _, want := range []string{`command = "slicervm-mcp"`, `url = "` + url + `"`, "SLICERVM_MCP_TOKEN"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s has no %s:\n%s", file, want, text)
				}
			}
			continue
		}
		var config struct {
			MCPServers map[string]struct {
				Command, URL, HTTPURL string
				Args                  []string
				Headers               map[string]string
			}
		}
		if err := json.Unmarshal([]byte(text), &config); err != nil || len(config.MCPServers) != 1 {
			t.Errorf("%s has %+v (%v), want one server", file, config, err)
		}
		for _, s := range config.MCPServers {
			switch {
			case s.Command == "slicervm-mcp":
				// A URL that is none ends the program once its flags are read.
				got := newWorld(t).run("", append(s.Args, "--url", "ftp://x")...)
				if !strings.Contains(got.stderr, "use one of them") { // --embedded and --url
					t.Errorf("%s runs the program with %q, which says %q", file, s.Args, got.stderr)
				}
			case s.URL+s.HTTPURL != url || s.Headers["Authorization"] != "Bearer ${SLICERVM_MCP_TOKEN}":
				t.Errorf("%s has %+v, want %s and the token of the environment", file, s, url)
			}
		}
	}
	if help := newWorld(t).run("", "--help").stdout; !strings.Contains(help, "127.0.0.1:8090") {
		t.Errorf("the help doesn't say the default address:\n%s", help)
	}
}
