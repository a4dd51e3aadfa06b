package app_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/processtest"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// busyVMs is how many VMs a daemon has when it is told to end.
const busyVMs = 20

// createBusy creates VMs in which a loop runs and another one streams, and
// returns once all of them have been heard of. The streams are read to their
// ends by goroutines of streams.
func createBusy(t *testing.T, client *slicer.SlicerClient, n int, streams *sync.WaitGroup) {
	t.Helper()
	var creates sync.WaitGroup
	errs := make(chan error, n)
	slots := make(chan struct{}, 4)
	for range n {
		creates.Go(func() {
			slots <- struct{}{}
			errs <- createBusyOne(t.Context(), client, streams)
			<-slots
		})
	}
	creates.Wait()
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func createBusyOne(ctx context.Context, client *slicer.SlicerClient, streams *sync.WaitGroup) error {
	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		return err
	}
	request := func(script string) slicer.SlicerExecRequest {
		return slicer.SlicerExecRequest{Command: "sh", Args: []string{"-c", script}, UID: slicer.NonRootUser, GID: slicer.NonRootUser}
	}
	if _, err := client.ExecBackground(ctx, vm.Hostname, request("trap '' TERM HUP; while :; do :; done"), slicer.ExecBackgroundOptions{}); err != nil {
		return err
	}
	frames, err := client.Exec(ctx, vm.Hostname, request("while :; do date; sleep 0.2; done"))
	if err != nil {
		return err
	}
	for frame := range frames {
		if frame.Stdout != "" {
			streams.Go(func() {
				for range frames { // until the daemon ends it
				}
			})
			return nil
		}
	}
	return fmt.Errorf("the stream of %s ended before its first output", vm.Hostname)
}

// TestDaemonWithBusyVMsEndsInTwoSeconds tries three times: the machine may be
// busy with something else.
func TestDaemonWithBusyVMsEndsInTwoSeconds(t *testing.T) {
	var took time.Duration
	for range 3 {
		if took = endOfBusyDaemon(t); took <= 2*time.Second {
			t.Logf("the daemon with %d busy VMs ended %v after SIGTERM", busyVMs, took)
			return
		}
	}
	t.Errorf("the daemon with %d busy VMs ended %v after SIGTERM, want 2 s at most", busyVMs, took)
}

// endOfBusyDaemon is how long a daemon with busy VMs takes to end. Whatever it
// takes, nothing is left.
func endOfBusyDaemon(t *testing.T) time.Duration {
	t.Helper()
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	p, url := w.startDaemon(t, "--listen", "127.0.0.1:0", "--state-dir", state)
	client := slicer.NewSlicerClient(url, "", "test", nil)
	defer client.CloseIdleConnections()
	var streams sync.WaitGroup
	createBusy(t, client, busyVMs, &streams)
	processes := processtest.Below(p.Process.Pid)
	if len(processes) < 3*busyVMs {
		t.Errorf("%d VMs have %d processes, want an agent and two commands each", busyVMs, len(processes))
	}
	run := runFolder(t, state)
	start := time.Now()
	p.end(t)
	took := time.Since(start)
	streams.Wait()
	if left := processtest.Alive(processes); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	nothingIsLeft(t, state, run)
	isEmptyDir(t, w.root)
	return took
}

// TestProgramThatIsEndedWhileItStarts is about a signal that comes while the VMs
// of the groups' counts are booted.
func TestProgramThatIsEndedWhileItStarts(t *testing.T) {
	requireSandbox(t)
	for name, args := range map[string][]string{
		"the daemon": {"daemon"},
		"MCP":        {"--embedded"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			state := filepath.Join(w.root, "state")
			p := w.start(t, append(args, "--state-dir", state, "--group", "name=build,count=150,cpus=1,ram=1GiB")...)
			deadline := time.Now().Add(20 * time.Second)
			for !isThere(t, filepath.Join(state, "slicervm-mcp-run-*", "guest-3")) {
				if time.Now().After(deadline) {
					t.Fatalf("no VM is booted; stderr:\n%s", p.stderr.String())
				}
				// Nothing is told of a VM that boots: it can only be polled.
				<-time.After(5 * time.Millisecond)
			}
			run := runFolder(t, state)
			processes := processtest.Below(p.Process.Pid)
			start := time.Now()
			p.end(t)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the program ended %v after SIGTERM, want it not to boot the other VMs", took)
			}
			if left := processtest.Alive(processes); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
			nothingIsLeft(t, state, run)
			isEmptyDir(t, w.root)
			if text := p.stderr.String(); strings.Contains(text, "ERROR") || !strings.Contains(text, "a signal came") {
				t.Errorf("stderr = %s, want that a signal came, and no error", text)
			}
		})
	}
}

// isThere reports whether there is a file of a pattern.
func isThere(t *testing.T, pattern string) bool {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return len(found) > 0
}

func TestDaemonEndsThoughAClientTakesNoAnswer(t *testing.T) {
	for name, request := range map[string]string{
		"a stream":       "POST /vm/sbox-1/exec?cmd=yes",
		"a large answer": "POST /vm/sbox-1/exec?cmd=head&args=-c&args=16000000&args=/tmp/big&buffered=true&stdio=base64",
		"a download":     "GET /vm/sbox-1/cp?path=/tmp/big&mode=binary",
		"half a call":    "POST /vm/sbox-1/cp?path=/tmp/new&mode=binary",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p, url := w.startDaemon(t, "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(w.root, "state"))
			client := slicer.NewSlicerClient(url, "", "test", nil)
			defer client.CloseIdleConnections()
			if _, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Command(t.Context(), "sbox-1", "truncate", "-s", "1G", "/tmp/big").Output(); err != nil {
				t.Fatal(err)
			}
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			length := 0
			if name == "half a call" {
				length = 1 << 20
			}
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", request, length)
			if length == 0 {
				_, err = io.ReadFull(conn, make([]byte, 64<<10)) // and not a byte more
			} else {
				_, err = conn.Write(make([]byte, length/2)) // of which the server takes most
			}
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			p.end(t)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the daemon ended %v after SIGTERM, want it not to wait for the client", took)
			}
			isEmptyDir(t, w.root)
		})
	}
}

func TestDaemonThatIsKilledLeavesWhatIsKeptAlone(t *testing.T) {
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	p, url := w.startDaemon(t, "--state-dir", state)
	client := slicer.NewSlicerClient(url, "", "test", nil)
	defer client.CloseIdleConnections()
	kept, err := client.CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{Persistent: true, Tags: []string{"name=kept"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.WriteFile(t.Context(), kept.Hostname, "/etc/mine", []byte("still here"), 0o600, 0, 0); err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	createBusy(t, client, 2, &streams)
	processes := processtest.Below(p.Process.Pid)
	run := runFolder(t, state)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil {
		t.Error("Wait() = nil, want the kill")
	}
	streams.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for len(processtest.Alive(processes)) > 0 && time.Now().Before(deadline) {
		// The processes aren't this one's children: their end can only be polled.
		<-time.After(5 * time.Millisecond)
	}
	if left := processtest.Alive(processes); len(left) > 0 {
		t.Errorf("processes %v outlive the killed daemon", left)
	}

	p, again := w.startDaemon(t, "--state-dir", state)
	if again != url {
		t.Errorf("the next daemon serves %s, want %s", again, url)
	}
	if _, err := os.Lstat(filepath.Join(state, run)); err == nil {
		t.Errorf("the next daemon leaves %s", run)
	}
	vms, err := client.ListVMs(t.Context())
	if err != nil || len(vms) != 1 || vms[0].Hostname != kept.Hostname || vms[0].Status != "Running" || !slices.Equal(vms[0].Tags, []string{"name=kept"}) {
		t.Fatalf("the next daemon has %+v, %v, want %s running, with its tag", vms, err, kept.Hostname)
	}
	if got, err := client.ReadFile(t.Context(), kept.Hostname, "/etc/mine"); err != nil || string(got) != "still here" {
		t.Errorf("ReadFile() = %q, %v, want what was written before the kill", got, err)
	}
	if _, err := client.DeleteVM(t.Context(), "sbox", kept.Hostname); err != nil {
		t.Errorf("DeleteVM() = %v", err)
	}
	p.end(t)
	nothingIsLeft(t, state, run)
	if disks, err := filepath.Glob(filepath.Join(state, "disks", "*")); err != nil || len(disks) > 0 {
		t.Errorf("%v, %v are left of the deleted VM", disks, err)
	}
}

// runFolder is the name of the one running daemon's folder.
func runFolder(t *testing.T, state string) string {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(state, "slicervm-mcp-run-*"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("run folders: %v, %v, want one", runs, err)
	}
	return filepath.Base(runs[0])
}

// nothingIsLeft fails the test if there are mounts below a state folder, run
// folders in it, or control groups of a run.
func nothingIsLeft(t *testing.T, state, run string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, state) || strings.Contains(line, run) {
			t.Errorf("the mount is left: %s", line)
		}
	}
	if left, err := filepath.Glob(filepath.Join(state, "slicervm-mcp-run-*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
	// Groups of others come and go while this one looks.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), run) {
			t.Errorf("the control group %s is left", path)
		}
		return nil
	})
}
