package daemon

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// statsTimeout is how long one guest may take to measure itself.
	statsTimeout = 5 * time.Second
	// parallelStats is how many guests are asked at once.
	parallelStats = 8
)

type statsJSON struct {
	nodeJSON
	Snapshot *snapshotJSON `json:"snapshot"` // null when Error says why
	Error    string        `json:"error"`
}

// snapshotJSON is what a guest uses. Sizes and totals are bytes; what no
// guest can tell is 0.
type snapshotJSON struct {
	Hostname             string    `json:"hostname"`
	Arch                 string    `json:"arch"`
	Timestamp            time.Time `json:"timestamp"`
	Uptime               string    `json:"uptime"`
	TotalCPUs            int       `json:"totalCpus"`
	TotalMemory          uint64    `json:"totalMemory"`
	MemoryUsed           uint64    `json:"memoryUsed"`
	MemoryAvailable      uint64    `json:"memoryAvailable"`
	MemoryUsedPercent    float64   `json:"memoryUsedPercent"`
	LoadAvg1             float64   `json:"loadAvg1"`
	LoadAvg5             float64   `json:"loadAvg5"`
	LoadAvg15            float64   `json:"loadAvg15"`
	DiskReadTotal        float64   `json:"diskReadTotal"`
	DiskWriteTotal       float64   `json:"diskWriteTotal"`
	NetworkReadTotal     float64   `json:"networkReadTotal"`
	NetworkWriteTotal    float64   `json:"networkWriteTotal"`
	DiskIOInflight       int64     `json:"diskIOInflight"`
	OpenConnections      int64     `json:"openConnections"`
	OpenFiles            int64     `json:"openFiles"`
	Entropy              int64     `json:"entropy"`
	DiskSpaceTotal       uint64    `json:"diskSpaceTotal"`
	DiskSpaceUsed        uint64    `json:"diskSpaceUsed"`
	DiskSpaceFree        uint64    `json:"diskSpaceFree"`
	DiskSpaceUsedPercent float64   `json:"diskSpaceUsedPercent"`
}

func (v *vm) snapshot(s GuestStats) *snapshotJSON {
	return &snapshotJSON{
		Hostname:             v.hostname,
		Arch:                 machineArch(),
		Timestamp:            time.Now().UTC(),
		Uptime:               s.Uptime.Round(time.Second).String(),
		TotalCPUs:            s.CPUs,
		TotalMemory:          s.MemoryTotal,
		MemoryUsed:           s.MemoryUsed,
		MemoryAvailable:      rest(s.MemoryTotal, s.MemoryUsed),
		MemoryUsedPercent:    percent(s.MemoryUsed, s.MemoryTotal),
		LoadAvg1:             finite(s.Load1),
		LoadAvg5:             finite(s.Load5),
		LoadAvg15:            finite(s.Load15),
		DiskReadTotal:        finite(s.DiskReadBytes),
		DiskWriteTotal:       finite(s.DiskWriteBytes),
		NetworkReadTotal:     finite(s.NetReadBytes),
		NetworkWriteTotal:    finite(s.NetWriteBytes),
		OpenConnections:      s.OpenConnections,
		OpenFiles:            s.OpenFiles,
		DiskSpaceTotal:       s.DiskTotal,
		DiskSpaceUsed:        s.DiskUsed,
		DiskSpaceFree:        rest(s.DiskTotal, s.DiskUsed),
		DiskSpaceUsedPercent: percent(s.DiskUsed, s.DiskTotal),
	}
}

// rest is what of total isn't used.
func rest(total, used uint64) uint64 { return total - min(total, used) }

func percent(used, total uint64) float64 {
	if total == 0 {
		return 0
	}
	return 100 * float64(used) / float64(total)
}

// finite is f, 0 when JSON has no number for it.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// stats measures v. A VM that can't be measured is listed with the reason.
func (v *vm) stats(ctx context.Context) statsJSON {
	s := statsJSON{nodeJSON: v.node()}
	measured, err := v.measure(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.Error = "the guest has no meter"
	case err != nil:
		s.Error = err.Error()
	default:
		s.Snapshot = v.snapshot(measured)
	}
	return s
}

func (v *vm) measure(ctx context.Context) (GuestStats, error) {
	if err := v.ready(); err != nil {
		return GuestStats{}, err
	}
	if !v.gate.tryEnter() {
		return GuestStats{}, v.errPaused()
	}
	defer v.gate.leave()
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	ctx, unbind := bind(ctx, v.over, errGone, nil)
	defer unbind()
	s, err := v.guest.Stats(ctx)
	if err != nil && isClosed(v.over) {
		return s, v.errGone()
	}
	if err != nil {
		return s, err
	}
	// What a guest can't tell of itself, its record can.
	if s.CPUs == 0 {
		s.CPUs = v.cpus
	}
	if s.MemoryTotal == 0 {
		s.MemoryTotal = uint64(v.ramBytes)
	}
	if s.Uptime == 0 {
		s.Uptime = v.guest.Uptime()
	}
	return s, nil
}

// nodeStats serves GET /node/{vm}/stats.
func (d *Daemon) nodeStats(w http.ResponseWriter, r *http.Request, _ query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v.stats(r.Context()))
}

// listStats serves GET /nodes/stats.
func (d *Daemon) listStats(w http.ResponseWriter, r *http.Request, _ query) error {
	vms := d.vms.list()
	list := make([]statsJSON, len(vms))
	var group errgroup.Group
	group.SetLimit(parallelStats)
	for i, v := range vms {
		group.Go(func() error {
			list[i] = v.stats(r.Context())
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	return writeJSON(w, http.StatusOK, list)
}
