package slicertest_test

import (
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestRestartKeepsPersistentVMs(t *testing.T) {
	srv := slicertest.NewServer(t)
	client := srv.Client()
	kept, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{Persistent: true})
	if err != nil {
		t.Fatalf("CreateVM(persistent) = %v", err)
	}
	gone, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatalf("CreateVM = %v", err)
	}
	before := srv.Files(kept.Hostname)
	for _, name := range []string{"/var/disk", "/run/memory"} {
		if err := before.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatalf("WriteFile(%s) = %v", name, err)
		}
	}
	srv.Restart()
	if srv.Files(gone.Hostname) != nil {
		t.Error("the ephemeral VM is there after Restart")
	}
	after := srv.Files(kept.Hostname)
	if after == nil {
		t.Fatal("the persistent VM doesn't run after Restart")
	}
	if text, err := after.ReadFile("/var/disk"); err != nil || string(text) != "x" {
		t.Errorf("ReadFile(/var/disk) after Restart = %q, %v, want x", text, err)
	}
	if text, err := after.ReadFile("/run/memory"); err == nil {
		t.Errorf("ReadFile(/run/memory) after Restart = %q, want it gone", text)
	}
	if err := before.WriteFile("/var/disk", []byte("late"), 0o644); err != nil {
		t.Fatalf("WriteFile in the old guest = %v", err)
	}
	if text, _ := after.ReadFile("/var/disk"); string(text) != "x" {
		t.Errorf("ReadFile(/var/disk) = %q, want nothing of what the old guest writes", text)
	}
}
