package serve

import "sync"

const (
	maxLine     = 8 << 20  // bytes of one message from the client
	maxRunning  = 256      // tool calls that run at once; more wait their turn
	maxInFlight = 4096     // requests without an answer; more are refused
	maxHeld     = 32 << 20 // bytes of the requests without an answer
)

// budget bounds what requests in flight take, those of one client or of all
// clients of a transport.
type budget struct {
	running chan struct{} // holds an element for every tool call that runs

	mu       sync.Mutex
	requests int
	bytes    int
}

func newBudget() *budget { return &budget{running: make(chan struct{}, maxRunning)} }

// take sets aside what a request of this size takes. It reports false when
// there is not so much left; else the caller gives it back.
func (b *budget) take(size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.requests >= maxInFlight || size > maxHeld-b.bytes {
		return false
	}
	b.requests++
	b.bytes += size
	return true
}

// grow sets aside more for a request, which then gives that back too. It
// reports false when there is not so much left.
func (b *budget) grow(size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if size > maxHeld-b.bytes {
		return false
	}
	b.bytes += size
	return true
}

// give gives back what take set aside.
func (b *budget) give(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests--
	b.bytes -= size
}
