package slicertest

import (
	"context"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Stats are a VM's figures. Where CPUs, Uptime or MemoryTotal are 0, the
// daemon fills in what it knows.
type Stats struct {
	CPUs                          int
	Uptime                        time.Duration
	MemoryTotal, MemoryUsed       uint64  // bytes
	Load1, Load5, Load15          float64 // averages over minutes
	DiskTotal, DiskUsed           uint64  // bytes
	DiskReadBytes, DiskWriteBytes float64 // since the boot
	NetReadBytes, NetWriteBytes   float64 // since the boot
	OpenConnections, OpenFiles    int64

	// Err, unless nil, is why there are no figures; errors.ErrUnsupported
	// means that the VM has no meter.
	Err error
}

// SetStats sets what the VM called hostname tells of itself from now on. Until
// then it tells its size, its uptime and what its files hold. It does nothing
// when there is no such VM.
func (s *Server) SetStats(hostname string, stats Stats) {
	g := s.machines.find(hostname)
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats = &stats
}

// Stats implements daemon.Guest.
func (g *guest) Stats(context.Context) (daemon.GuestStats, error) {
	g.checkThawed("Stats")
	g.tree.mu.Lock()
	used := g.tree.used
	g.tree.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stats == nil {
		return daemon.GuestStats{
			DiskTotal: uint64(g.tree.limit), DiskUsed: uint64(used), Processes: int64(len(g.procs)),
		}, nil
	}
	s := g.stats
	return daemon.GuestStats{
		CPUs: s.CPUs, Uptime: s.Uptime, MemoryTotal: s.MemoryTotal, MemoryUsed: s.MemoryUsed,
		Load1: s.Load1, Load5: s.Load5, Load15: s.Load15,
		DiskTotal: s.DiskTotal, DiskUsed: s.DiskUsed, DiskReadBytes: s.DiskReadBytes, DiskWriteBytes: s.DiskWriteBytes,
		NetReadBytes: s.NetReadBytes, NetWriteBytes: s.NetWriteBytes,
		OpenConnections: s.OpenConnections, OpenFiles: s.OpenFiles, Processes: int64(len(g.procs)),
	}, s.Err
}
