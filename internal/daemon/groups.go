package daemon

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// DefaultGroup is the name of the host group of a daemon that was given none.
const DefaultGroup = "sbox"

// fallbackRAM is the default group's memory where the machine's is unknown.
const fallbackRAM = 4 << 30

// HostGroup is a named pool of VMs that share one hardware profile. Its sizes
// are what a VM gets when it asks for none, and the most that it may ask for.
type HostGroup struct {
	Name     string // lower-case letters, digits and inner hyphens, 40 at most
	Count    int    // protected VMs that the daemon boots at its start
	CPUs     int    // 0 is all of the machine's
	RAMBytes int64  // 0 is all of the machine's
	GPUCount int
}

var groupName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Check says what is wrong with a group, if anything.
func (g HostGroup) Check() error {
	switch {
	case !groupName.MatchString(g.Name):
		return fmt.Errorf("host group name %q is not 1 to 40 lower-case letters, digits and inner hyphens", g.Name)
	case g.Count < 0 || g.CPUs < 0 || g.RAMBytes < 0 || g.GPUCount < 0:
		return fmt.Errorf("host group %q has a negative size or count", g.Name)
	case g.Count > maxVMs:
		return fmt.Errorf("host group %q asks for %d VMs; %d is the most", g.Name, g.Count, maxVMs)
	}
	return nil
}

// checkGroups returns the groups with their sizes filled in.
func checkGroups(groups []HostGroup) ([]HostGroup, error) {
	if len(groups) == 0 {
		groups = []HostGroup{{Name: DefaultGroup}}
	}
	seen := make(map[string]bool)
	checked := make([]HostGroup, 0, len(groups))
	for _, g := range groups {
		if err := g.Check(); err != nil {
			return nil, err
		}
		if seen[g.Name] {
			return nil, fmt.Errorf("host group %q is there twice", g.Name)
		}
		seen[g.Name] = true
		if g.CPUs == 0 {
			g.CPUs = runtime.NumCPU()
		}
		if g.RAMBytes == 0 {
			g.RAMBytes = machineRAM()
		}
		checked = append(checked, g)
	}
	return checked, nil
}

// machineRAM is the machine's memory as Linux tells it, elsewhere fallbackRAM.
func machineRAM() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return fallbackRAM
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil || kib <= 0 {
			return fallbackRAM
		}
		return kib << 10
	}
	return fallbackRAM
}

// machineArch is the machine's architecture as host groups and nodes name it.
func machineArch() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// group returns the host group called name, or a 404.
func (d *Daemon) group(name string) (*HostGroup, error) {
	for i := range d.groups {
		if d.groups[i].Name == name {
			return &d.groups[i], nil
		}
	}
	return nil, refuse(http.StatusNotFound, "no host group named %q", name)
}

type groupJSON struct {
	Name     string `json:"name"`
	Count    int    `json:"count"`
	RAMBytes int64  `json:"ram_bytes"`
	CPUs     int    `json:"cpus"`
	GPUCount int    `json:"gpu_count"`
	Arch     string `json:"arch"`
}

// listGroups serves GET /hostgroup.
func (d *Daemon) listGroups(w http.ResponseWriter, _ *http.Request, _ query) error {
	list := make([]groupJSON, 0, len(d.groups))
	for _, g := range d.groups {
		list = append(list, groupJSON{
			Name: g.Name, Count: g.Count, RAMBytes: g.RAMBytes, CPUs: g.CPUs, GPUCount: g.GPUCount, Arch: machineArch(),
		})
	}
	return writeJSON(w, http.StatusOK, list)
}
