package tools

import (
	"fmt"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// sightings remember the VMs that were there, so that a call on one that has
// gone can be told so. They only word errors: what is forgotten reads as a VM
// that never was. The zero value is ready.
type sightings struct {
	mu sync.Mutex
	of map[string]*sighting // by hostname
}

// sighting is when a VM was last there, and how it went if that is known.
type sighting struct {
	name string // friendly, or ""
	last time.Time
	how  string // with what this server ended it, or ""
	at   time.Time
}

// mostSightings bounds what is remembered.
const mostSightings = 1000

// saw notes that the VMs of a list are there.
func (s *sightings) saw(vms []slicer.SlicerNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, vm := range vms {
		// A daemon that has been restarted gives hostnames out again.
		*s.entry(vm) = sighting{name: tagValue(vm, tagName), last: now}
	}
}

// lost notes that this server has ended a VM.
func (s *sightings) lost(vm slicer.SlicerNode, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.entry(vm)
	seen.how, seen.at = how, time.Now()
}

func (s *sightings) entry(vm slicer.SlicerNode) *sighting {
	if seen := s.of[vm.Hostname]; seen != nil {
		return seen
	}
	if s.of == nil {
		s.of = make(map[string]*sighting)
	}
	if len(s.of) >= mostSightings {
		s.forgetOldest()
	}
	seen := &sighting{name: tagValue(vm, tagName), last: time.Now()}
	s.of[vm.Hostname] = seen
	return seen
}

func (s *sightings) forgetOldest() {
	oldest := ""
	for hostname, seen := range s.of {
		if oldest == "" || seen.last.Before(s.of[oldest].last) {
			oldest = hostname
		}
	}
	delete(s.of, oldest)
}

// find returns the VM that had arg as its hostname or name; of several the one
// that was there last.
func (s *sightings) find(arg string) (found sighting, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen := s.of[arg]; seen != nil {
		return *seen, true
	}
	for _, seen := range s.of {
		if arg != "" && seen.name == arg && (!ok || seen.last.After(found.last)) {
			found, ok = *seen, true
		}
	}
	return found, ok
}

// ended says whether it is known how the VM went.
func (s sighting) ended() bool { return s.how != "" }

// String says when the VM went, as far as that is known.
func (s sighting) String() string {
	if s.ended() {
		return fmt.Sprintf("%s at %s, %s ago", s.how, s.at.UTC().Format(time.RFC3339), roughly(time.Since(s.at)))
	}
	return fmt.Sprintf("it was there at %s, %s ago, and was deleted or ended since", s.last.UTC().Format(time.RFC3339), roughly(time.Since(s.last)))
}
