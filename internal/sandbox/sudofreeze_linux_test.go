package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// status reads one line of a process's status.
func status(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+":\t"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("process %d has no %s", pid, name)
	return ""
}

func TestSudoLeavesSIGCONTOfAFrozenGuestToThaw(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("Wait4() = %v, %v, want that it is stopped", ws, err)
	}
	const handle = 7
	a := &agent{procs: map[uint64]int{handle: pid}, stopped: map[int]bool{pid: true, 1: true}}
	shim, file, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := connOf(file)
	if err != nil {
		t.Fatal(err)
	}
	obeyed := make(chan struct{})
	go func() {
		defer close(obeyed)
		(&sudoServer{agent: a}).obey(theirs, handle)
	}()
	for _, sig := range []syscall.Signal{syscall.SIGCONT, syscall.SIGTERM} {
		if err := writeFrame(shim, &sudoSignal{Signal: int(sig)}); err != nil {
			t.Fatal(err)
		}
	}
	// What comes second shows that the first has been taken.
	const pending = "0000000000004000"
	deadline := time.Now().Add(10 * time.Second)
	for status(t, pid, "ShdPnd") != pending && strings.HasPrefix(status(t, pid, "State"), "T") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // another process's state can only be polled
	}
	if got, state := status(t, pid, "ShdPnd"), status(t, pid, "State"); got != pending || !strings.HasPrefix(state, "T") {
		t.Errorf("after SIGCONT and SIGTERM the command is in state %q with %s pending, want it stopped with SIGTERM pending", state, got)
	}
	a.freezeMu.Lock()
	if a.stopped == nil || a.stopped[pid] || !a.stopped[1] {
		t.Errorf("thaw leaves %v stopped, want all but the command", a.stopped)
	}
	a.freezeMu.Unlock()
	shim.Close()
	<-obeyed
	theirs.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("Wait() = nil, want the kill of a shim that has gone")
	}
}
