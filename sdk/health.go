package slicer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// SlicerAgentHealthResponse says how the agent inside a VM is. On the wire the
// uptimes are numbers of seconds; here they are durations, and marshalling
// turns them back into seconds.
type SlicerAgentHealthResponse struct {
	// Hostname is the VM's name as the agent sees it.
	Hostname string `json:"hostname,omitempty"`

	// AgentUptime is how long the agent has run.
	AgentUptime time.Duration `json:"agent_uptime,omitempty"`

	// AgentVersion is the agent's version.
	AgentVersion string `json:"agent_version,omitempty"`

	// SystemUptime is how long ago the VM booted.
	SystemUptime time.Duration `json:"system_uptime,omitempty"`

	// UserdataRan tells whether the userdata script has ended.
	UserdataRan bool `json:"userdata_ran,omitempty"`

	// UserdataExitCode is the userdata script's exit code, nil if the agent
	// doesn't say.
	UserdataExitCode *int `json:"userdata_exit_code,omitempty"`

	// IP is the VM's address as the agent sees it.
	IP string `json:"ip,omitempty"`
}

// healthFields is SlicerAgentHealthResponse without its methods.
type healthFields SlicerAgentHealthResponse

// healthWire is a health answer with its uptimes in seconds; its outer fields
// win over those of the same name inside.
type healthWire struct {
	healthFields
	AgentUptime  json.Number `json:"agent_uptime,omitempty"`
	SystemUptime json.Number `json:"system_uptime,omitempty"`
}

// UnmarshalJSON reads the daemon's answer, whose uptimes are seconds.
func (h *SlicerAgentHealthResponse) UnmarshalJSON(data []byte) error {
	wire := healthWire{healthFields: healthFields(*h)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	agent, err := secondsToDuration(wire.AgentUptime)
	if err != nil {
		return fmt.Errorf("agent_uptime: %w", err)
	}
	system, err := secondsToDuration(wire.SystemUptime)
	if err != nil {
		return fmt.Errorf("system_uptime: %w", err)
	}
	*h = SlicerAgentHealthResponse(wire.healthFields)
	h.AgentUptime, h.SystemUptime = agent, system
	return nil
}

// MarshalJSON writes the form that UnmarshalJSON reads: whole seconds, and a
// fraction where there is one.
func (h SlicerAgentHealthResponse) MarshalJSON() ([]byte, error) {
	return json.Marshal(healthWire{
		healthFields: healthFields(h),
		AgentUptime:  durationToSeconds(h.AgentUptime),
		SystemUptime: durationToSeconds(h.SystemUptime),
	})
}

// secondsToDuration returns n seconds, or the nearest duration there is.
func secondsToDuration(n json.Number) (time.Duration, error) {
	if n == "" {
		return 0, nil
	}
	if d, err := time.ParseDuration(n.String() + "s"); err == nil {
		return d, nil
	}
	// Too large, or written with an exponent.
	seconds, err := n.Float64()
	if err != nil {
		if !errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%s is not a number of seconds", n)
		}
	}
	nanos := math.Round(seconds * float64(time.Second))
	switch {
	case nanos >= math.MaxInt64:
		return math.MaxInt64, nil
	case nanos <= math.MinInt64:
		return math.MinInt64, nil
	}
	return time.Duration(nanos), nil
}

func durationToSeconds(d time.Duration) json.Number {
	if d == 0 {
		return ""
	}
	whole := strconv.FormatInt(int64(d/time.Second), 10)
	fraction := d % time.Second
	if fraction == 0 {
		return json.Number(whole)
	}
	if fraction < 0 {
		fraction = -fraction
		if d > -time.Second {
			whole = "-" + whole
		}
	}
	return json.Number(fmt.Sprintf("%s.%09d", whole, fraction))
}

// GetAgentHealth asks the agent of a VM how it is (GET /vm/{vm}/health), which
// also tells whether it answers at all. A daemon answers with all that the
// agent says about itself, so the uptimes and the version may be filled in even
// where includeStats doesn't ask for them.
func (c *SlicerClient) GetAgentHealth(ctx context.Context, hostname string, includeStats bool) (*SlicerAgentHealthResponse, error) {
	var health SlicerAgentHealthResponse
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", hostname, "health"}, prompt: true,
	}, &health)
	if err != nil {
		return nil, fmt.Errorf("get health of VM %q: %w", hostname, err)
	}
	return &health, nil
}
