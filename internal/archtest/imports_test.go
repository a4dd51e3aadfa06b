package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/slicervm-mcp/slicervm-mcp"

// Modules of others.
const (
	cobra      = "github.com/spf13/cobra"
	fsnotify   = "github.com/fsnotify/fsnotify"
	goCmp      = "github.com/google/go-cmp"
	jsonschema = "github.com/invopop/jsonschema"
	kinOpenAPI = "github.com/getkin/kin-openapi"
	mcpGo      = "github.com/mark3labs/mcp-go"
	prometheus = "github.com/prometheus/client_golang"
	sys        = "golang.org/x/sys"
	tint       = "github.com/lmittmann/tint"
	websocket  = "github.com/coder/websocket"
	xsync      = "golang.org/x/sync"
	yaml       = "go.yaml.in/yaml/v4"
)

// slicertest is the fake daemon: for tests only.
const slicertest = "sdk/slicertest"

// rule says what a package may import beside the standard library.
type rule struct {
	pkg     string   // folder in this module; one that ends in / stands for all below it
	own     []string // packages of this module
	modules []string // modules of others
	testing []string // modules of others that its tests may use beside go-cmp
}

// rules has every package. Imports point one way:
// main → internal/app → internal/serve → tools → sdk → standard library.
// internal/daemon and sdk, the two sides of the wire, don't know each other.
var rules = []rule{
	{pkg: ".", own: []string{"internal/app"}},
	{
		pkg:     "internal/app",
		own:     []string{"internal/daemon", "internal/sandbox", "internal/serve", "sdk", "tools"},
		modules: []string{cobra, mcpGo, sys, tint, yaml},
	},
	{pkg: "internal/serve", own: []string{"tools"}, modules: []string{mcpGo, prometheus}},
	{pkg: "tools", own: []string{"sdk"}, modules: []string{jsonschema, mcpGo}},
	{pkg: "sdk", testing: []string{kinOpenAPI}},
	{pkg: "sdk/forward", own: []string{"sdk"}, modules: []string{websocket}},
	{pkg: slicertest, own: []string{"internal/daemon", "sdk"}, testing: []string{websocket}},
	{pkg: "internal/daemon/daemontest", own: []string{"internal/daemon"}, modules: []string{websocket}},
	{pkg: "internal/daemon", modules: []string{prometheus, websocket, xsync}},
	{pkg: "internal/sandbox", own: []string{"internal/daemon"}, modules: []string{fsnotify, sys}, testing: []string{xsync}},
	{pkg: "internal/archtest"},
	{pkg: "internal/conformance", modules: []string{yaml}},
	{pkg: "internal/conformance/server", own: []string{"internal/serve"}, modules: []string{mcpGo}},
	{pkg: "internal/blackbox"},
	{pkg: "internal/processtest"},
	{pkg: "examples/", own: []string{"sdk", "sdk/forward", "tools"}, modules: []string{mcpGo}},
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImportsPointOneWay(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			pkgs := list(t, goos)
			if len(pkgs) < 2 {
				t.Fatalf("go list found %d packages, want all of the module", len(pkgs))
			}
			for _, p := range pkgs {
				for _, offence := range offences(p) {
					t.Error(offence)
				}
			}
		})
	}
}

// list returns the module's packages as goos builds them.
func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// offences lists the imports of p that no rule allows.
func offences(p pkg) []string {
	name := folder(p.ImportPath)
	i := slices.IndexFunc(rules, func(r rule) bool {
		return r.pkg == name || strings.HasSuffix(r.pkg, "/") && strings.HasPrefix(name, r.pkg)
	})
	if i < 0 {
		return []string{name + " has no rule: say in the table what it may import"}
	}
	r := rules[i]
	var bad []string
	for _, path := range p.Imports {
		if !r.allows(path) {
			bad = append(bad, name+" imports "+path)
		}
	}
	// Tests may use any package of this module, go-cmp, and what the rule names.
	r.modules = slices.Concat(r.modules, r.testing, []string{goCmp})
	for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
		if !isOwn(path) && !r.allows(path) {
			bad = append(bad, fmt.Sprintf("a test of %s imports %s", name, path))
		}
	}
	return bad
}

func (r rule) allows(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	switch {
	case isOwn(path):
		return slices.Contains(r.own, folder(path))
	case !strings.Contains(first, "."):
		return true // the standard library
	}
	return slices.ContainsFunc(r.modules, func(m string) bool { return path == m || strings.HasPrefix(path, m+"/") })
}

func isOwn(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// folder is where a package of this module is.
func folder(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func TestOffences(t *testing.T) {
	tests := []struct {
		name string
		pkg  pkg
		want []string
	}{
		{
			"the SDK is of the standard library only",
			pkg{ImportPath: module + "/sdk", Imports: []string{"net/http", "golang.org/x/sync/errgroup", module + "/internal/daemon"}},
			[]string{"sdk imports golang.org/x/sync/errgroup", "sdk imports " + module + "/internal/daemon"},
		},
		{
			"the daemon knows no client",
			pkg{ImportPath: module + "/internal/daemon", Imports: []string{module + "/sdk"}},
			[]string{"internal/daemon imports " + module + "/sdk"},
		},
		{
			"main assembles nothing",
			pkg{ImportPath: module, Imports: []string{"os", module + "/internal/app", module + "/tools"}},
			[]string{". imports " + module + "/tools"},
		},
		{
			"tools don't know who serves them",
			pkg{ImportPath: module + "/tools", Imports: []string{module + "/sdk", mcpGo + "/mcp", module + "/internal/serve"}},
			[]string{"tools imports " + module + "/internal/serve"},
		},
		{
			"the fake daemon is for tests",
			pkg{
				ImportPath:   module + "/tools",
				Imports:      []string{module + "/" + slicertest},
				XTestImports: []string{module + "/" + slicertest, goCmp + "/cmp"},
			},
			[]string{"tools imports " + module + "/" + slicertest},
		},
		{
			"a module's name is not a prefix of another's",
			pkg{ImportPath: module + "/internal/serve", Imports: []string{mcpGo + "-extra/x"}},
			[]string{"internal/serve imports " + mcpGo + "-extra/x"},
		},
		{
			"a test brings no library along",
			pkg{ImportPath: module + "/sdk", TestImports: []string{"github.com/stretchr/testify/assert"}},
			[]string{"a test of sdk imports github.com/stretchr/testify/assert"},
		},
		{
			"what a test brings along is for tests",
			pkg{
				ImportPath: module + "/sdk", Imports: []string{kinOpenAPI + "/openapi3"},
				TestImports: []string{kinOpenAPI + "/openapi3"},
			},
			[]string{"sdk imports " + kinOpenAPI + "/openapi3"},
		},
		{
			"a new package wants a rule",
			pkg{ImportPath: module + "/internal/utils"},
			[]string{"internal/utils has no rule: say in the table what it may import"},
		},
		{
			"an example has the examples' rule",
			pkg{ImportPath: module + "/examples/loop", Imports: []string{module + "/sdk", cobra}},
			[]string{"examples/loop imports " + cobra},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, offences(tt.pkg)); diff != "" {
				t.Errorf("offences(%v) (-want +got):\n%s", tt.pkg, diff)
			}
		})
	}
}
