package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// hangingShelf is a shelf on which one VM boots, sbox-1. The boots of others
// hang until their contexts end.
type hangingShelf struct {
	*shelf
	hung   chan struct{} // gets a token for each boot that hangs
	closed atomic.Int32
}

func (s *hangingShelf) Boot(ctx context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	if spec.Hostname == "sbox-1" {
		return s.shelf.Boot(ctx, spec)
	}
	s.hung <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *hangingShelf) Close() error {
	s.closed.Add(1)
	return nil
}

func TestStartThatIsEndedLeavesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		kept, counted int
		hung          int // boots that are under way at the end
	}{
		"while VMs of a count boot": {counted: 20, hung: 1},
		"while kept VMs boot":       {kept: 20, counted: 1, hung: 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &hangingShelf{shelf: &shelf{disks: map[string]string{}}, hung: make(chan struct{}, 50)}
				for i := range tt.kept {
					host := fmt.Sprintf("sbox-%d", i+1)
					s.disks["vm-"+host] = vmLabel(host)
				}
				ctx, end := context.WithCancelCause(t.Context())
				go func() {
					for range tt.hung {
						<-s.hung
					}
					end(errBroken)
				}()
				var log lockedBuffer
				begin := time.Now() // fake time, which passes when nothing else can
				d, err := daemon.New(ctx, daemon.Config{
					Hypervisor: s, Groups: []daemon.HostGroup{{Name: "sbox", Count: tt.counted}}, Log: slog.New(slog.NewTextHandler(&log, nil)),
				})
				if !errors.Is(err, errBroken) {
					t.Fatalf("New = %v, %v, want the cause of the context's end", d, err)
				}
				if took := time.Since(begin); took > 0 {
					t.Errorf("New took %v, want it to end its boots at once", took)
				}
				if n := len(s.hung); n > 0 {
					t.Errorf("%d more boots were begun, want none", n)
				}
				if n := s.closed.Load(); n != 1 {
					t.Errorf("the hypervisor was closed %d times, want 1", n)
				}
				if !strings.Contains(strings.Join(s.made, "\n"), "stop on ") {
					t.Errorf("steps = %q, want sbox-1 stopped", s.made)
				}
				kept := s.kept()
				for disk, label := range kept {
					if !strings.Contains(label, `"state":"running"`) {
						t.Errorf("label of %s = %s, want it booted by the next daemon", disk, label)
					}
				}
				if len(kept) != tt.kept {
					t.Errorf("%d disks are kept, want %d", len(kept), tt.kept)
				}
				if text := log.String(); strings.Contains(text, "ERROR") {
					t.Errorf("log = %s, want nothing that went wrong", text)
				}
			})
		})
	}
}

func TestPersistentVMThatIsDeletedWhileItIsCreated(t *testing.T) {
	s := &shelf{disks: map[string]string{}}
	a := &api{t: t}
	d, err := daemon.New(t.Context(), daemon.Config{Hypervisor: s, ImportKeys: func(context.Context, string) ([]string, error) {
		a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
		return nil, errBroken
	}})
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	defer func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	a.handler = d
	got := a.call("POST", "/hostgroup/sbox/nodes", `{"persistent":true,"import_user":"somebody"}`)
	if text := got.message(t); got.status != 409 || !strings.Contains(text, `"sbox-1" was deleted`) {
		t.Errorf("create of a VM that is deleted meanwhile = %d %s, want a 409 that says so", got.status, text)
	}
	if kept := s.kept(); len(kept) > 0 {
		t.Errorf("disks = %v, want none", kept)
	}
}
