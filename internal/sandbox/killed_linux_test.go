package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/processtest"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// serverEnv makes the test binary a server that boots a guest under the state
// folder that the variable names.
const serverEnv = "SANDBOX_TEST_SERVER"

// serverDisksEnv makes that server keep its guests' disks, vm-1 and vm-2.
const serverDisksEnv = "SANDBOX_TEST_DISKS"

// keepBusy leaves a copy to a guest unfinished, and boots others on several
// goroutines, so that one is amid its boot whenever the server ends.
func keepBusy(h *sandbox.Hypervisor, g daemon.Guest) error {
	ctx := context.Background()
	w, err := g.Files().Create(ctx, "/home/ubuntu/copy", daemon.FileAttr{})
	if err != nil {
		return err
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	for range 4 {
		go func() {
			for {
				g, err := h.Boot(ctx, daemon.GuestSpec{Hostname: "sbox-3"})
				if err == nil {
					err = g.Stop(ctx)
				}
				if err != nil {
					fmt.Println("boot:", err)
					os.Exit(1)
				}
			}
		}()
	}
	return nil
}

// serveUntilKilled boots two guests that are busy, one of them frozen, goes on
// booting others, prints "ready" and waits.
func serveUntilKilled(state string) {
	h, err := sandbox.New(sandbox.Config{StateDir: state})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 2 {
		spec := daemon.GuestSpec{Hostname: fmt.Sprintf("sbox-%d", i+1)}
		write := "true"
		if os.Getenv(serverDisksEnv) != "" {
			spec.Disk, spec.DiskLabel = fmt.Sprintf("vm-%d", i+1), fmt.Appendf(nil, "label %d", i+1)
			write = "echo etc >/etc/f; echo home >/home/ubuntu/f"
		}
		g, err := h.Boot(context.Background(), spec)
		if err == nil {
			err = waitFinished(g, write)
		}
		if err == nil {
			_, err = g.Start(context.Background(), &daemon.Command{Argv: []string{"sh", "-c", "trap '' TERM HUP; setsid sleep 1234 & while :; do sleep 0.01; done"}})
		}
		switch {
		case err != nil:
		case i == 0:
			err = keepBusy(h, g)
		default:
			err = g.Freeze(context.Background())
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	select {}
}

// waitFinished runs a script as root in a guest.
func waitFinished(g daemon.Guest, script string) error {
	p, err := g.Start(context.Background(), &daemon.Command{Argv: []string{"sh", "-c", script}, UID: new(uint32)})
	if err == nil {
		_, err = p.Wait()
	}
	return err
}

// killServer runs a server over a state folder until its guests are up, kills
// it and waits until nothing of them runs.
func killServer(t *testing.T, state string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), serverEnv+"="+state), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the server printed %q, want ready", lines.Text())
	}
	guests := processtest.Below(cmd.Process.Pid)
	if len(guests) < 4 {
		t.Fatalf("the server has %d processes below it, want the agents and their commands", len(guests))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("Wait() = nil, want the kill")
	}

	deadline := time.Now().Add(5 * time.Second)
	for len(processtest.Alive(guests)) > 0 && time.Now().Before(deadline) {
		// The processes aren't this one's children: their end can only be polled.
		<-time.After(5 * time.Millisecond)
	}
	if left := processtest.Alive(guests); len(left) > 0 {
		t.Errorf("processes %v outlive the killed server", left)
	}
	eventually(t, "processes of the killed server's guests", func() []string { return guestsOf(state) })
}

func TestAKilledServerLeavesNothing(t *testing.T) {
	newHypervisor(t) // skips where there is no sandbox
	state := filepath.Join(t.TempDir(), "state")
	killServer(t, state)
	runs, err := filepath.Glob(filepath.Join(state, "*"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("run folders after the kill: %v, %v, want one", runs, err)
	}

	h, err := sandbox.New(sandbox.Config{StateDir: state})
	if err != nil {
		t.Fatalf("New() after the kill = %v", err)
	}
	if left := cgroups(filepath.Base(runs[0])); len(left) > 0 {
		t.Errorf("the next server leaves the cgroups %q", left)
	}
	if _, err := os.Stat(runs[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the next server leaves %s: %v", runs[0], err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
