package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settleLimit bounds how long freeze waits for processes to come to their stop:
// on a busy machine that takes until each has had its turn.
const settleLimit = 5 * time.Second

// freeze stops every process of the guest but the agent, and remembers those
// that stood still already. It runs in the agent.
func (a *agent) freeze() error {
	a.freezeMu.Lock()
	defer a.freezeMu.Unlock()
	if a.stopped != nil {
		return nil // it is frozen
	}
	stopped := map[int]bool{}
	err := eachProcess(func(pid int, state byte) error {
		if state == 'T' {
			stopped[pid] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := settle(); err != nil {
		return errors.Join(err, resume(stopped))
	}
	a.stopped = stopped
	return nil
}

// settle stops every process until none runs or could: they may continue each
// other. One in D waits for the kernel, or for its child's exec, and stops
// before it runs again.
func settle() error {
	errMoving := errors.New("a process hasn't stopped yet")
	deadline := time.Now().Add(settleLimit)
	for {
		if err := unix.Kill(-1, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop processes: %w", err)
		}
		err := eachProcess(func(_ int, state byte) error {
			if state == 'R' || state == 'S' {
				return errMoving
			}
			return nil
		})
		if !errors.Is(err, errMoving) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// thaw lets every process go on but those that stood still before freeze.
func (a *agent) thaw() error {
	a.freezeMu.Lock()
	defer a.freezeMu.Unlock()
	if a.stopped == nil {
		return nil // it isn't frozen
	}
	err := resume(a.stopped)
	if err == nil {
		a.stopped = nil
	}
	return err
}

// resume continues every process but those in stopped. One that hasn't come to
// its stop yet must be continued too: the stop would reach it later.
func resume(stopped map[int]bool) error {
	return eachProcess(func(pid int, _ byte) error {
		if stopped[pid] {
			return nil
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("continue process %d: %w", pid, err)
		}
		return nil
	})
}

// signalFrozen signals a command's process group as signal does, but leaves
// SIGCONT to thaw while the guest is frozen.
func (a *agent) signalFrozen(handle uint64, s syscall.Signal) error {
	if s != syscall.SIGCONT {
		return a.signal(handle, s)
	}
	a.freezeMu.Lock()
	defer a.freezeMu.Unlock()
	if a.stopped == nil {
		return a.signal(handle, s)
	}
	a.mu.Lock()
	group := a.procs[handle]
	a.mu.Unlock()
	for pid := range a.stopped {
		if id, err := unix.Getpgid(pid); err == nil && id == group {
			delete(a.stopped, pid)
		}
	}
	return nil
}

// eachProcess calls f for every process of the guest but the agent, with its
// state as /proc tells it.
func eachProcess(f func(pid int, state byte) error) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		end := bytes.LastIndexByte(b, ')')
		if err != nil || end < 0 || len(b) < end+3 {
			continue // it has just ended
		}
		if err := f(pid, b[end+2]); err != nil {
			return err
		}
	}
	return nil
}
