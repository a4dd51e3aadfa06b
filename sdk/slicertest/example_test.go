package slicertest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// A VM whose make is a function. A test like buildInVM begins with NewServer,
// gives Client to the code under test, and looks at the VM's files afterwards.
func ExampleNewServer() {
	_ = buildInVM // go test runs it
}

// uppercase stands for a compiler.
func uppercase(_ context.Context, p *slicertest.Proc) int {
	source, err := p.Files().ReadFile("main.c")
	if err == nil {
		err = p.Files().WriteFile("app", []byte(strings.ToUpper(string(source))), 0o755)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 2
	}
	return 0
}

func buildInVM(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{
		Programs: map[string]slicertest.Program{"make": uppercase},
	})
	client := srv.Client()
	vm, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	files := srv.Files(vm.Hostname)
	if err := files.WriteFile("/home/ubuntu/main.c", []byte("int main"), 0o644); err != nil {
		t.Fatal(err)
	}
	results, err := client.Exec(t.Context(), vm.Hostname, slicer.SlicerExecRequest{
		Command: "make", UID: slicer.NonRootUser, GID: slicer.NonRootUser, Stdout: true, Stderr: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for r := range results {
		if r.Error != "" {
			t.Errorf("make: %s %s", r.Error, r.Stderr)
		}
	}
	app, err := files.ReadFile("/home/ubuntu/app")
	if err != nil || string(app) != "INT MAIN" {
		t.Errorf("app = %q, %v, want INT MAIN", app, err)
	}
}
