package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// agentFile, in a disk's folder, names the process that has the disk mounted: a
// killed server's guests take a moment to end, and the next server can have the
// disks before that.
const agentFile = "agent"

// agentLimit bounds how long a killed server's guest is waited for.
const agentLimit = 10 * time.Second

// note writes down which process is about to mount the disk.
func (d *heldDisk) note(pid int) error {
	if d.name == "" {
		return nil
	}
	started, err := processStart(pid)
	if err != nil {
		return fmt.Errorf("note the user of disk %q: %w", d.name, err)
	}
	return os.WriteFile(filepath.Join(d.dir, agentFile), fmt.Appendf(nil, "%d %s\n", pid, started), 0o600)
}

// awaitAgent waits until no guest of an earlier server has the disk.
func (s *diskStore) awaitAgent(ctx context.Context, name string) error {
	file := filepath.Join(s.dir(name), agentFile)
	text, err := readBounded(file, 100)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var pid int
	var started string
	if _, err := fmt.Sscan(string(text), &pid, &started); err == nil {
		if err := awaitProcess(ctx, pid, started); err != nil {
			return fmt.Errorf("the last guest on disk %q (process %d) is still ending: %w", name, pid, err)
		}
	}
	return s.forgetAgent(name)
}

func (s *diskStore) forgetAgent(name string) error {
	err := os.Remove(filepath.Join(s.dir(name), agentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// awaitProcess waits for the end of the process that was started then. Its
// number may be another's by now.
func awaitProcess(ctx context.Context, pid int, started string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	defer unix.Close(fd)
	if now, err := processStart(pid); err != nil || now != started {
		return nil //nolint:nilerr // it has just ended, or is another one
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// processStart says when a process began, in the clock ticks of /proc.
func processStart(pid int) (string, error) {
	text, err := readBounded(fmt.Sprintf("/proc/%d/stat", pid), 4<<10)
	if err != nil {
		return "", err
	}
	// The name, in brackets, may have spaces. What follows are the fields from
	// the third on, and the start is the 22nd.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("process %d: strange /proc/%d/stat", pid, pid)
	}
	return fields[19], nil
}
