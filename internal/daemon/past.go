package daemon

import (
	"net/http"
	"time"
)

const (
	// maxPast is of how many VMs that are gone the daemon knows the end.
	maxPast = 100

	// endedByItself is the end of a VM that nobody asked for and nothing is
	// known of, as when its init was killed.
	endedByItself = "it ended by itself"
)

// ending says why and when a VM ended. The zero value is one that isn't known.
type ending struct {
	why string
	at  time.Time
}

// refusal answers a call on a VM that has ended so.
func (e ending) refusal(hostname string) error {
	if e.why == "" {
		return refuse(http.StatusNotFound, "VM %q is gone", hostname)
	}
	return refuse(http.StatusNotFound, "VM %q is gone: %s, %s", hostname, e.why, e.at.Format("15:04:05Z"))
}

// past keeps how the last VMs that are gone ended, maxPast at most. The zero
// value knows of none.
type past struct {
	byName map[string]ending
	order  []string // oldest first
}

// add notes the end of v, which has ended. Its hostname is never given again.
func (p *past) add(v *vm) {
	if p.byName == nil {
		p.byName = make(map[string]ending)
	}
	if len(p.order) == maxPast {
		delete(p.byName, p.order[0])
		p.order = p.order[1:]
	}
	v.mu.Lock()
	p.byName[v.hostname] = v.ending
	v.mu.Unlock()
	p.order = append(p.order, v.hostname)
}
