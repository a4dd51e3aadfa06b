package sandbox_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// timings are how long things took.
type timings struct {
	mu   sync.Mutex
	list []time.Duration
}

func (ts *timings) add(d time.Duration) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.list = append(ts.list, d)
}

// percentile is the time within which p percent were done; p is 100 at most.
func (ts *timings) percentile(p int) time.Duration {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.list) == 0 {
		return 0
	}
	slices.Sort(ts.list)
	return ts.list[(len(ts.list)-1)*p/100]
}

func TestFiftyVMsAtOnce(t *testing.T) {
	s := newService(t)
	var boots timings
	vms := make([]string, 50)
	group, ctx := errgroup.WithContext(t.Context())
	begin := time.Now()
	for i := range vms {
		group.Go(func() error {
			started := time.Now()
			got, err := s.try(ctx, "POST", "/hostgroup/sbox/nodes?wait=agent", strings.NewReader("{}"))
			if err != nil || got.status != http.StatusCreated {
				return fmt.Errorf("create = %d %s, %w", got.status, got.body, err)
			}
			boots.add(time.Since(started))
			vms[i] = hostname(t, got.body)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("50 VMs at once: all ready after %s; p50 %s, p95 %s", time.Since(begin).Round(time.Millisecond), boots.percentile(50).Round(time.Millisecond), boots.percentile(95).Round(time.Millisecond))
	if list := s.want(http.StatusOK, "GET", "/nodes", nil); strings.Count(list, `"Running"`) != 50 {
		t.Errorf("%d VMs run, want 50", strings.Count(list, `"Running"`))
	}
	for _, vm := range vms {
		group.Go(func() error {
			got, err := s.try(t.Context(), "POST", "/vm/"+vm+"/exec"+params("buffered", "true", "cmd", "hostname"), nil)
			if err == nil && !strings.Contains(got.body, `"`+vm+`\n"`) {
				err = fmt.Errorf("hostname of %s = %d %s", vm, got.status, got.body)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// BenchmarkBoot measures a VM's start, from the call to its agent's answer.
// The end of each is not part of the time.
func BenchmarkBoot(b *testing.B) {
	for _, parallel := range []int{1, 4} {
		b.Run(fmt.Sprintf("%d at a time", parallel), func(b *testing.B) {
			h := newHypervisor(b)
			var boots timings
			var group errgroup.Group
			group.SetLimit(parallel)
			for b.Loop() {
				group.Go(func() error {
					begin := time.Now()
					g, err := h.Boot(b.Context(), daemon.GuestSpec{Hostname: "sbox-1"})
					if err != nil {
						return err
					}
					boots.add(time.Since(begin))
					return g.Stop(b.Context())
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			for _, p := range []int{50, 95} {
				b.ReportMetric(float64(boots.percentile(p).Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}
