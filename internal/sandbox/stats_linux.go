package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// measure reads the guest's figures from its /proc. It runs in the agent. The
// load is the machine's: the kernel keeps none for a namespace.
func measure() (*daemon.GuestStats, error) {
	s := &daemon.GuestStats{}
	var fs unix.Statfs_t
	if err := unix.Statfs("/", &fs); err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	s.DiskTotal = fs.Blocks * uint64(fs.Bsize)
	s.DiskUsed = (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		// Figures that can't be read stay zero.
		_, _ = fmt.Sscan(string(b), &s.Load1, &s.Load5, &s.Load15)
	}
	measureProcesses(s)
	measureNetwork(s)
	return s, nil
}

// measureProcesses adds up what the guest's processes hold. One that ends
// meanwhile isn't counted.
func measureProcesses(s *daemon.GuestStats) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	page := uint64(os.Getpagesize())
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		b, err := os.ReadFile(filepath.Join(dir, "statm"))
		if err != nil {
			continue
		}
		var size, resident, shared uint64
		if _, err := fmt.Sscan(string(b), &size, &resident, &shared); err != nil {
			continue
		}
		s.Processes++
		s.MemoryUsed += (resident - min(shared, resident)) * page
		if fds, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
			s.OpenFiles += int64(len(fds))
		}
		if io, err := os.ReadFile(filepath.Join(dir, "io")); err == nil {
			s.DiskReadBytes += field(io, "read_bytes:")
			s.DiskWriteBytes += field(io, "write_bytes:")
		}
	}
}

func field(text []byte, name string) float64 {
	_, rest, ok := bytes.Cut(text, []byte("\n"+name))
	if !ok {
		return 0
	}
	line, _, _ := strings.Cut(string(rest), "\n")
	n, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	if err != nil {
		return 0
	}
	return n
}

// measureNetwork counts the guest's traffic and connections.
func measureNetwork(s *daemon.GuestStats) {
	if b, err := os.ReadFile("/proc/net/dev"); err == nil {
		for line := range strings.Lines(string(b)) {
			_, figures, ok := strings.Cut(line, ":")
			f := strings.Fields(figures)
			if !ok || len(f) < 9 {
				continue
			}
			received, err1 := strconv.ParseFloat(f[0], 64)
			sent, err2 := strconv.ParseFloat(f[8], 64)
			if err1 == nil && err2 == nil {
				s.NetReadBytes += received
				s.NetWriteBytes += sent
			}
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if b, err := os.ReadFile(file); err == nil {
			s.OpenConnections += int64(max(bytes.Count(b, []byte("\n"))-1, 0))
		}
	}
}
