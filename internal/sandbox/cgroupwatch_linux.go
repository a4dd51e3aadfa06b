package sandbox

import (
	"fmt"
	"time"
)

const (
	// lookEvery is how often a guest's group is looked at.
	lookEvery = time.Second

	// forkLooks is at how many looks in a row a guest may have run into its
	// limit of processes since the look before.
	forkLooks = 3
)

// watch looks at the groups until done is closed, and calls end once when the
// guest has to be ended. At its own end it closes watched, which the guest's
// owner waits for.
func (g *cgroup) watch(done <-chan struct{}, end func(reason string)) {
	defer close(g.watched)
	if g.part(memoryController) == nil && g.part(pidsController) == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var forks forkWatch
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		reason := g.starved()
		if reason == "" {
			reason = forks.look(g)
		}
		if reason != "" {
			end(reason)
			return
		}
	}
}

// starved says so when the kernel has killed a process of the guest for want of
// memory in its group; else it is "".
func (g *cgroup) starved() string {
	p := g.part(memoryController)
	if p == nil {
		return ""
	}
	file := "memory.oom_control"
	if p.v2 {
		file = "memory.events"
	}
	if p.count(file, "oom_kill") == 0 {
		return ""
	}
	return fmt.Sprintf("it used up its memory of %d MiB", g.spec.RAMBytes>>20)
}

// forkWatch tells a guest that keeps running into its limit of processes from
// one that did once.
type forkWatch struct {
	refused uint64 // forks in all
	rises   int    // looks in a row that found more of them
}

func (w *forkWatch) look(g *cgroup) string {
	p := g.part(pidsController)
	if p == nil {
		return ""
	}
	refused := p.count("pids.events", "max")
	if refused > w.refused {
		w.rises++
	} else {
		w.rises = 0
	}
	w.refused = refused
	if w.rises < forkLooks {
		return ""
	}
	return fmt.Sprintf("it kept running into its limit of %d processes and threads", g.threads)
}

// crowded says so when a fork in the guest has ever failed; else it is "".
func (g *cgroup) crowded() string {
	if p := g.part(pidsController); p == nil || p.count("pids.events", "max") == 0 {
		return ""
	}
	return fmt.Sprintf("it ran into its limit of %d processes and threads, and its agent had no room", g.threads)
}

// overstep ends a guest that has used more than its sizes.
func (g *guest) overstep(reason string) {
	g.mu.Lock()
	g.why = reason
	g.mu.Unlock()
	_ = g.cmd.Process.Kill() // it has ended if this fails; the reader sees the end
}

// leaveGroup removes the groups of a guest that has ended.
func (g *guest) leaveGroup() error {
	<-g.group.watched
	return g.group.remove()
}
