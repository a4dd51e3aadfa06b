package daemon_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// stubbornGuest is a guest with one process, which only KILL ends.
type stubbornGuest struct {
	*brokenGuest
	killed chan struct{}

	mu   sync.Mutex
	list []string
}

func (g *stubbornGuest) Boot(context.Context, daemon.GuestSpec) (daemon.Guest, error) { return g, nil }

func (g *stubbornGuest) Start(context.Context, *daemon.Command) (daemon.Process, error) {
	return g, nil
}

func (g *stubbornGuest) Wait() (daemon.ExitStatus, error) {
	<-g.killed
	return daemon.ExitStatus{Code: 137, Signal: "KILL"}, nil
}

func (g *stubbornGuest) Signal(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, name)
	if name == "KILL" {
		close(g.killed)
	}
	return nil
}

// signals are those that the process has got.
func (g *stubbornGuest) signals() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.list)
}

// newStubborn serves a daemon with one VM, sbox-1, whose process is stubborn.
func newStubborn(t *testing.T) (*stubbornGuest, *api) {
	t.Helper()
	g := &stubbornGuest{brokenGuest: &brokenGuest{done: make(chan struct{})}, killed: make(chan struct{})}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: g})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	a := &api{t: t, handler: d}
	a.create(`{}`)
	return g, a
}
