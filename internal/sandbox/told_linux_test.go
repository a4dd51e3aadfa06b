package sandbox_test

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

func TestCommandsHaveTheGroupsOfTheirUser(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if sandbox.HasOneID(g) {
		t.Skip("with one id there are no groups")
	}
	if got, want := run(t, g, false, "id -G").stdout, run(t, g, true, "sudo -u ubuntu id -G").stdout; got != want || !strings.Contains(got, " 27") {
		t.Errorf("id -G = %q, with sudo -u ubuntu %q, want the same, and sudo's 27", got, want)
	}
	if got := run(t, g, true, "id -G").stdout; got != "0\n" {
		t.Errorf("id -G of root = %q, want 0", got)
	}
}

func TestDialSaysOnceWhatWentWrong(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	for network, address := range map[string]string{"tcp": "127.0.0.1:9", "unix": "/none.sock"} {
		_, err := g.Dial(t.Context(), network, address)
		if err == nil || strings.Contains(err.Error(), "dial") || strings.Contains(err.Error(), address) {
			t.Errorf("Dial(%s) = %v, want the reason alone: callers add the address", address, err)
		}
	}
}

func TestIDsBeyondTheRangeAreRefused(t *testing.T) {
	var noID *daemon.IDError
	if err := sandbox.CheckRangeID(70000); !errors.As(err, &noID) || noID.Largest != 65535 {
		t.Errorf("70000 = %v, want an IDError with 65535", err)
	}
	if err := sandbox.CheckRangeID(65535); err != nil {
		t.Errorf("65535 = %v, want none", err)
	}
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	uid := uint32(70000)
	w, err := g.Files().Create(t.Context(), "/tmp/f", daemon.FileAttr{UID: &uid})
	if err == nil {
		w.Abort()
	}
	if refused := errors.As(err, &noID); refused != sandbox.HasRange(g) {
		t.Errorf("Create for %d = %v, want an IDError where there is a range", uid, err)
	}
	if got := strings.Join(g.Unenforced(), "\n"); strings.Contains(got, "uid, gid") != sandbox.HasOneID(g) {
		t.Errorf("Unenforced() = %q, want uid and gid where there is one id", got)
	}
}

func TestSecondServerOnAStateFolderIsToldOn(t *testing.T) {
	newHypervisor(t) // skips where there is no sandbox
	state := filepath.Join(t.TempDir(), "state")
	for _, warned := range []bool{false, true} {
		var log bytes.Buffer
		h := hypervisorAt(t, sandbox.Config{StateDir: state, Log: slog.New(slog.NewTextHandler(&log, nil))})
		t.Cleanup(func() { closeHypervisor(t, h) })
		if got := strings.Contains(log.String(), "another server uses the same state folder"); got != warned {
			t.Errorf("log = %q, want the other server told on: %v", log.String(), warned)
		}
	}
}
