package slicer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// SlicerNodeStat is what one VM uses of the machine.
type SlicerNodeStat struct {
	Hostname  string          `json:"hostname"`
	IP        string          `json:"ip"` // address, perhaps with a mask: 192.168.137.2/24
	CreatedAt time.Time       `json:"created_at"`
	Snapshot  *SlicerSnapshot `json:"snapshot"` // nil if the VM could not be measured
	Error     string          `json:"error"`    // why Snapshot is nil
}

// SlicerSnapshot is one measurement inside a VM. What a VM can't measure is 0.
// Memory and disk space are in bytes; the totals of disk and network traffic are
// bytes since the VM booted.
type SlicerSnapshot struct {
	Hostname             string    `json:"hostname"`
	Arch                 string    `json:"arch"`
	Timestamp            time.Time `json:"timestamp"`            // when it was taken
	Uptime               string    `json:"uptime"`               // how long ago the VM booted, as the agent words it
	TotalCPUS            int       `json:"totalCpus"`            // virtual CPUs
	TotalMemory          uint64    `json:"totalMemory"`          // bytes
	MemoryUsed           uint64    `json:"memoryUsed"`           // bytes
	MemoryAvailable      uint64    `json:"memoryAvailable"`      // bytes
	MemoryUsedPercent    float64   `json:"memoryUsedPercent"`    // 0 to 100
	LoadAvg1             float64   `json:"loadAvg1"`             // load average over 1 minute
	LoadAvg5             float64   `json:"loadAvg5"`             // over 5 minutes
	LoadAvg15            float64   `json:"loadAvg15"`            // over 15 minutes
	DiskReadTotal        float64   `json:"diskReadTotal"`        // bytes
	DiskWriteTotal       float64   `json:"diskWriteTotal"`       // bytes
	NetworkReadTotal     float64   `json:"networkReadTotal"`     // bytes
	NetworkWriteTotal    float64   `json:"networkWriteTotal"`    // bytes
	DiskIOInflight       int64     `json:"diskIOInflight"`       // requests under way
	OpenConnections      int64     `json:"openConnections"`      // sockets
	OpenFiles            int64     `json:"openFiles"`            // file handles
	Entropy              int64     `json:"entropy"`              // bits in the kernel's pool
	DiskSpaceTotal       uint64    `json:"diskSpaceTotal"`       // bytes
	DiskSpaceUsed        uint64    `json:"diskSpaceUsed"`        // bytes
	DiskSpaceFree        uint64    `json:"diskSpaceFree"`        // bytes
	DiskSpaceUsedPercent float64   `json:"diskSpaceUsedPercent"` // 0 to 100
}

// nodeStats reads the stats of VMs from an array of them, or from one alone.
type nodeStats []SlicerNodeStat

func (s *nodeStats) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return json.Unmarshal(data, (*[]SlicerNodeStat)(s))
	}
	var one SlicerNodeStat
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*s = nodeStats{one}
	return nil
}

// GetVMStats measures one VM (GET /node/{vm}/stats), or all of them if hostname
// is empty (GET /nodes/stats). A VM that can't be measured, because it is paused
// or its agent has no meter, has a nil Snapshot and says why in Error; that is no
// error of the call.
func (c *SlicerClient) GetVMStats(ctx context.Context, hostname string) ([]SlicerNodeStat, error) {
	path, what := []string{"node", hostname, "stats"}, fmt.Sprintf("VM %q", hostname)
	if hostname == "" {
		path, what = []string{"nodes", "stats"}, "all VMs"
	}
	var stats nodeStats
	err := c.call(ctx, apiRequest{method: http.MethodGet, path: path, prompt: true}, &stats)
	if err != nil {
		return nil, fmt.Errorf("get stats of %s: %w", what, err)
	}
	return stats, nil
}
