package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

// maxKept is how much more memory may be in use after a load than before it.
const maxKept = 10 << 20

// usage is what the process holds: bytes of the heap that are in use, and
// goroutines. It is asked in a bubble in which nothing runs.
type usage struct {
	heap       uint64
	goroutines int
}

func measure() usage {
	synctest.Wait()
	runtime.GC()
	runtime.GC() // what a pool held goes in the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}

// wantGivenBack fails the test when a load has left something behind.
func wantGivenBack(t *testing.T, before usage) {
	t.Helper()
	after := measure()
	if after.heap > before.heap+maxKept {
		t.Errorf("%d bytes are in use after the load and %d before it, want %d more at most", after.heap, before.heap, maxKept)
	}
	if after.goroutines > before.goroutines {
		t.Errorf("%d goroutines run after the load, %d before it", after.goroutines, before.goroutines)
	}
}

// padding makes requests so large that keeping them shows.
var padding = strings.Repeat("x", 12_000)

// echoCall is call i of a load, and echoed what it is answered with.
func echoCall(i int) string {
	return call(fmt.Sprint(i), "echo", fmt.Sprintf(`{"text":"text %d","pad":%q}`, i, padding))
}

func echoed(i int) string { return fmt.Sprintf("%d: text %d", i, i) }

func TestStdioGivesBackWhatParallelCallsTook(t *testing.T) {
	const n = 1000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		before := measure()
		got := map[string]int{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range n {
				got[c.receive().String()]++
			}
		}()
		for i := range n {
			c.send(echoCall(i))
		}
		<-done
		for i := range n {
			if got[echoed(i)] != 1 {
				t.Errorf("the answer to call %d came %d times, want once", i, got[echoed(i)])
			}
		}
		clear(got)
		wantGivenBack(t, before)
		if got := c.rest(); got != nil {
			t.Errorf("then came %d messages, want none", len(got))
		}
	})
}

func TestStdioGivesBackWhatWaitingCallsTook(t *testing.T) {
	const n = 1000 // more than run at once
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		before := measure()
		for i := range n {
			c.send(call(fmt.Sprint(i), "wait", `{"pad":"`+padding+`"}`))
		}
		synctest.Wait()
		close(f.release)
		got := map[string]int{}
		for range n {
			got[c.receive().String()]++
		}
		for i := range n {
			if want := fmt.Sprintf("%d: waited", i); got[want] != 1 {
				t.Errorf("%q came %d times, want once", want, got[want])
			}
		}
		wantGivenBack(t, before)
		if got := c.rest(); got != nil {
			t.Errorf("then came %q, want nothing", got)
		}
	})
}

func TestSSEGivesBackWhatParallelCallsTook(t *testing.T) {
	const streams, calls = 20, 50
	synctest.Test(t, func(t *testing.T) {
		w := newMemoryWeb(t, newFixture(), serve.HTTPOptions{})
		var open []*sseStream
		for range streams {
			s := w.open()
			defer s.cut()
			open = append(open, s)
		}
		w.client.CloseIdleConnections()
		before := measure()
		done := make(chan error)
		for _, s := range open {
			for i := range calls {
				go func() {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+s.endpoint, strings.NewReader(echoCall(i)))
					if err != nil {
						done <- err
						return
					}
					req.Header.Set("Content-Type", "application/json")
					resp, err := w.client.Do(req)
					if err == nil {
						io.Copy(io.Discard, resp.Body) //nolint:errcheck // the answers are counted below
						resp.Body.Close()
					}
					done <- err
				}()
			}
		}
		for range streams * calls {
			if err := <-done; err != nil {
				t.Errorf("send: %v", err)
			}
		}
		for n, s := range open {
			got := map[string]int{}
			for range calls {
				got[s.receive().String()]++
			}
			for i := range calls {
				if got[echoed(i)] != 1 {
					t.Errorf("the answer to call %d of stream %d came %d times, want once", i, n, got[echoed(i)])
				}
			}
		}
		w.client.CloseIdleConnections()
		wantGivenBack(t, before)
		time.Sleep(time.Second) // fake
		if got := w.Sessions(); got != streams {
			t.Errorf("Sessions() = %d, want %d", got, streams)
		}
	})
}
