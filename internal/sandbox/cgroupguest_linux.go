package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	// maxProcesses is how many processes and threads a guest may have.
	maxProcesses = 4096

	// agentThreads and agentMemory are what the agent, which is in the guest's
	// group, may need on top of the guest's own.
	agentThreads = 96
	agentMemory  = 32 << 20

	// cpuPeriod is over how many microseconds a guest's CPU time is counted.
	cpuPeriod = 100_000
)

// cgroup is one guest's groups: one in each hierarchy that its server has one
// in. The guest's first process joins them before it runs anything, so that all
// that follows is in them.
type cgroup struct {
	parts   []*cgroupPart
	spec    daemon.GuestSpec
	threads int // processes and threads in all

	unenforced map[string]string // the reason by controller

	stopped  atomic.Bool // the daemon has ended the guest
	freezeMu sync.Mutex  // held while the groups are frozen, thawed and removed
	removed  bool
	watched  chan struct{} // closed when nothing watches any more
}

// cgroupPart is a guest's group in one hierarchy.
type cgroupPart struct {
	dir         string
	v2          bool
	controllers []string
}

// add makes a guest's groups and sets its limits. What can't be set is noted.
func (c *cgroups) add(name string, spec daemon.GuestSpec, processes int) (*cgroup, error) {
	g := &cgroup{
		spec:       spec,
		threads:    processes + agentThreads,
		unenforced: map[string]string{},
		watched:    make(chan struct{}),
	}
	for _, controller := range sizeControllers {
		if c.parentOf(controller) == nil {
			g.unenforced[controller] = c.missing[controller]
		}
	}
	for _, p := range c.parents {
		part := &cgroupPart{dir: filepath.Join(p.dir, name), v2: p.v2, controllers: p.controllers}
		if err := os.Mkdir(part.dir, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), g.remove())
		}
		g.parts = append(g.parts, part)
		for _, controller := range part.controllers {
			if err := g.limit(part, controller); err != nil {
				g.unenforced[controller] = fmt.Sprintf("the %s cgroup doesn't take the limit (%v)", controller, err)
			}
		}
	}
	return g, nil
}

// knob is one file of a group and what is written to it.
type knob struct {
	file, value string
	optional    bool // not every kernel has it
}

// limit writes what holds the guest with one controller. A size of 0 is no
// limit.
func (g *cgroup) limit(p *cgroupPart, controller string) error {
	for _, k := range g.knobs(p.v2, controller) {
		err := writeKnob(p.dir, k.file, k.value)
		if k.optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *cgroup) knobs(v2 bool, controller string) []knob {
	quota := strconv.Itoa(g.spec.CPUs * cpuPeriod)
	period := strconv.Itoa(cpuPeriod)
	memory := strconv.FormatInt(g.spec.RAMBytes+agentMemory, 10)
	switch {
	case controller == cpuController && g.spec.CPUs > 0:
		if v2 {
			return []knob{{file: "cpu.max", value: quota + " " + period}}
		}
		return []knob{{file: "cpu.cfs_period_us", value: period}, {file: "cpu.cfs_quota_us", value: quota}}
	case controller == memoryController && g.spec.RAMBytes > 0:
		if v2 {
			return []knob{
				{file: "memory.max", value: memory},
				{file: "memory.swap.max", value: "0", optional: true},
				{file: "memory.oom.group", value: "1", optional: true},
			}
		}
		// On v1 the second is memory and swap together.
		return []knob{{file: "memory.limit_in_bytes", value: memory}, {file: "memory.memsw.limit_in_bytes", value: memory, optional: true}}
	case controller == pidsController:
		return []knob{{file: "pids.max", value: strconv.Itoa(g.threads)}}
	}
	return nil
}

// v2 is the guest's part in cgroup v2; nil is none.
func (g *cgroup) v2() *cgroupPart {
	for _, p := range g.parts {
		if p.v2 {
			return p
		}
	}
	return nil
}

// part is the one with a controller whose limits hold; nil is none.
func (g *cgroup) part(controller string) *cgroupPart {
	for _, p := range g.parts {
		if slices.Contains(p.controllers, controller) && g.unenforced[controller] == "" {
			return p
		}
	}
	return nil
}

// join puts a process that waits for its configuration into the groups. born
// says that it was started inside that of cgroup v2.
// A group that it can't join is removed: it would hold, freeze and kill nothing.
func (g *cgroup) join(pid int, born bool) {
	g.parts = slices.DeleteFunc(g.parts, func(p *cgroupPart) bool {
		if p.v2 && born {
			return false
		}
		err := writeKnob(p.dir, "cgroup.procs", strconv.Itoa(pid))
		if err == nil {
			return false
		}
		for _, controller := range p.controllers {
			g.unenforced[controller] = fmt.Sprintf("the guest can't join its %s cgroup (%v)", controller, err)
		}
		_ = removeCgroup(p.dir) // it is empty; the server's end removes it else
		return true
	})
}

// sizes says which of the guest's sizes it isn't held to, and why.
func (g *cgroup) sizes() []string {
	var lines []string
	if reason := g.unenforced[cpuController]; reason != "" && g.spec.CPUs > 0 {
		lines = append(lines, "cpus: "+reason)
	}
	if reason := g.unenforced[memoryController]; reason != "" && g.spec.RAMBytes > 0 {
		lines = append(lines, "ram_bytes: "+reason)
	}
	return lines
}

// kill kills every process of the guest at once, where the kernel has a way.
func (g *cgroup) kill() {
	if p := g.v2(); p != nil {
		killCgroup(p.dir)
	}
}

// remove removes the groups of a guest that has ended.
func (g *cgroup) remove() error {
	g.freezeMu.Lock()
	defer g.freezeMu.Unlock()
	g.removed = true
	var errs []error
	for _, p := range g.parts {
		errs = append(errs, removeCgroup(p.dir))
	}
	return errors.Join(errs...)
}

// measure replaces the figures that the groups know better than the guest: the
// memory with what the kernel holds for it, without file cache that it would
// give back.
func (g *cgroup) measure(s *daemon.GuestStats) {
	p := g.part(memoryController)
	if p == nil {
		return
	}
	file, cache := "memory.usage_in_bytes", "total_inactive_file"
	if p.v2 {
		file, cache = "memory.current", "inactive_file"
	}
	used := words(p.dir, file)
	if len(used) != 1 {
		return
	}
	n, err := strconv.ParseUint(used[0], 10, 64)
	if err != nil {
		return
	}
	s.MemoryUsed = n - min(n, p.count("memory.stat", cache))
	if s.MemoryTotal > 0 {
		s.MemoryUsed = min(s.MemoryUsed, s.MemoryTotal)
	}
}

// count reads one line of a file of names and numbers; 0 when there is none.
func (p *cgroupPart) count(file, name string) uint64 {
	b, err := os.ReadFile(filepath.Join(p.dir, file))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte{' '})
		if string(key) != name {
			continue
		}
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
