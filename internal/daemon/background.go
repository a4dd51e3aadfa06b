package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// defaultRing is the size of a background exec's ring unless asked.
	defaultRing = 1 << 20

	// ringBudget is what the rings of one VM's agent may hold together.
	ringBudget = 256 << 20

	// maxBackground is how many background execs of a VM are kept, running
	// ones and those that nobody has reaped.
	maxBackground = 1000

	// ordinaryUser is the user that a command runs as unless asked.
	ordinaryUser = 1000
)

// setRing reads what an exec call says of its background.
func (c *execCall) setRing(q query) error {
	c.ringBytes = defaultRing
	if text := q.text("ring_bytes"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return refuse(http.StatusBadRequest, "ring_bytes must be a number from 0 to %d, not %q", ringBudget, text)
		}
		if n > 0 {
			c.ringBytes = n
		}
	}
	switch {
	case !c.background && q.has("ring_bytes"):
		return refuse(http.StatusBadRequest, "ring_bytes needs background=true")
	case c.background && c.stdin:
		return refuse(http.StatusBadRequest, "stdin and background can't be used together")
	case c.background && c.buffered:
		return refuse(http.StatusBadRequest, "buffered and background can't be used together")
	}
	return nil
}

// backgrounds are the background execs of one VM. The zero value has none.
type backgrounds struct {
	mu      sync.Mutex
	key     []byte // of the ids
	serial  uint32 // the last one given
	kept    int    // execs in byID, and those about to be
	bytes   int64  // what the rings of those may hold
	byID    map[string]*background
	ordered []*background // oldest first
}

// background is one background exec.
type background struct {
	id        string
	command   string
	args      []string
	cwd       string
	uid       uint32
	asBase64  bool
	ring      *ring
	startedAt time.Time
	process   Process
	ended     chan struct{} // closed when the process has ended

	mu      sync.Mutex
	status  *ExitStatus // nil while it runs, and when its end isn't known
	endedAt time.Time
	killAt  time.Time     // when a KILL follows a TERM; zero when none does
	sooner  chan struct{} // takes one word when killAt has moved
}

// reserve makes room for an exec with a ring of size bytes.
func (bs *backgrounds) reserve(size int64) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	switch {
	case bs.kept >= maxBackground:
		return refuse(http.StatusServiceUnavailable, "%d background execs are kept already; delete those that have ended", maxBackground)
	case size > ringBudget-bs.bytes:
		return refuse(http.StatusServiceUnavailable, "the ring of %d bytes doesn't fit: %d of %d bytes are taken; delete background execs that have ended", size, bs.bytes, ringBudget)
	}
	bs.kept++
	bs.bytes += size
	return nil
}

// release gives back what reserve took.
func (bs *backgrounds) release(size int64) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.kept--
	bs.bytes -= size
}

// add gives b its id and lets it be found.
func (bs *backgrounds) add(b *background) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.byID == nil {
		bs.byID = make(map[string]*background)
		bs.key = []byte(rand.Text())
	}
	bs.serial++
	b.id = bs.name(bs.serial)
	bs.byID[b.id] = b
	bs.ordered = append(bs.ordered, b)
}

// idPrefix begins the id of every background exec.
const idPrefix = "ex_"

// name is the id of the exec with the given serial number. An id tells whether
// it was ever given, without a list of all that were.
func (bs *backgrounds) name(serial uint32) string {
	text := fmt.Sprintf("%08x", serial)
	mac := hmac.New(sha256.New, bs.key)
	mac.Write([]byte(text)) // never fails
	return idPrefix + text + hex.EncodeToString(mac.Sum(nil)[:8])
}

// find returns the exec called id: a 410 when it has been reaped, a 404 when
// there never was one.
func (bs *backgrounds) find(id string) (*background, error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b := bs.byID[id]; b != nil {
		return b, nil
	}
	if rest, ok := strings.CutPrefix(id, idPrefix); ok && len(rest) > 8 && bs.byID != nil {
		serial, err := strconv.ParseUint(rest[:8], 16, 32)
		if err == nil && serial > 0 && uint32(serial) <= bs.serial && hmac.Equal([]byte(bs.name(uint32(serial))), []byte(id)) {
			return nil, refuse(http.StatusGone, "the background exec %q has been deleted", id)
		}
	}
	return nil, refuse(http.StatusNotFound, "no background exec %q", id)
}

// remove forgets b. It reports false when somebody else did so first.
func (bs *backgrounds) remove(b *background) bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.byID[b.id] != b {
		return false
	}
	delete(bs.byID, b.id)
	bs.ordered = slices.DeleteFunc(bs.ordered, func(other *background) bool { return other == b })
	bs.kept--
	bs.bytes -= b.ring.capacity
	return true
}

// list returns the execs, oldest first.
func (bs *backgrounds) list() []*background {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return slices.Clone(bs.ordered)
}

// execBackground starts a command that goes on without its client, until it
// ends or the VM does.
func (d *Daemon) execBackground(w http.ResponseWriter, r *http.Request, q query, v *vm, c *execCall) error {
	if err := v.execs.reserve(c.ringBytes); err != nil {
		return err
	}
	b := &background{
		command:  q.text("cmd"),
		args:     append([]string{}, q.list("args")...),
		cwd:      c.dir,
		uid:      ordinaryUser,
		asBase64: c.base64,
		ring:     newRing(c.ringBytes),
		ended:    make(chan struct{}),
		sooner:   make(chan struct{}, 1),
	}
	if c.uid != nil {
		b.uid = *c.uid
	}
	cmd := c.command()
	begun := make(chan struct{})
	var streams []*ringStream
	stream := func(name string) *ringStream {
		s := &ringStream{ring: b.ring, name: name, begun: begun, cut: splitter{raw: b.asBase64, max: b.ring.payload()}}
		streams = append(streams, s)
		return s
	}
	if c.stdout {
		cmd.Stdout = stream(frameStdout)
	}
	if c.stderr {
		cmd.Stderr = stream(frameStderr)
	}
	p, err := v.start(r.Context(), cmd)
	defer close(begun)
	if err != nil {
		v.execs.release(c.ringBytes)
		if isRefusal(err) {
			return err
		}
		return refuse(http.StatusBadRequest, "the command could not be started: %v", err)
	}
	b.process, b.startedAt = p, time.Now().UTC()
	b.ring.addFrame(startedFrame(p.Pid(), b.startedAt))
	v.execs.add(b)
	d.tasks.Go(func() { b.await(d, v, streams) })
	return writeJSON(w, http.StatusCreated, struct {
		ExecID    string    `json:"exec_id"`
		PID       int       `json:"pid"`
		StartedAt time.Time `json:"started_at"`
		RingBytes int64     `json:"ring_bytes"`
	}{b.id, p.Pid(), b.startedAt, b.ring.capacity})
}

// await waits for the process and notes how it ended.
func (b *background) await(d *Daemon, v *vm, streams []*ringStream) {
	status, err := b.process.Wait()
	for _, s := range streams {
		s.flush()
	}
	now := time.Now().UTC()
	b.mu.Lock()
	b.endedAt = now
	if err == nil {
		b.status = &status
	}
	b.mu.Unlock()
	if err == nil {
		b.ring.addFrame(exitFrame(status, status.text(), now))
	} else {
		d.log.Error("background exec was lost", "vm", v.hostname, "exec", b.id, "err", err)
	}
	b.ring.end()
	close(b.ended)
}

// ringStream writes one output stream into a ring. It is used by one goroutine
// at a time.
type ringStream struct {
	ring  *ring
	name  string
	begun <-chan struct{} // closed when the ring has its first frame
	cut   splitter
}

// Write implements io.Writer.
func (s *ringStream) Write(p []byte) (int, error) {
	<-s.begun
	return len(p), s.cut.write(p, s.add)
}

// flush adds what is held back. The stream's writer has ended.
func (s *ringStream) flush() { _ = s.cut.flush(s.add) } // add never fails

func (s *ringStream) add(p []byte) error {
	s.ring.add(s.name, p, time.Now().UTC())
	return nil
}

// killIn makes a KILL follow after grace, unless one comes sooner anyway.
func (b *background) killIn(d *Daemon, v *vm, grace time.Duration) {
	at := time.Now().Add(grace)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.killAt.IsZero():
		b.killAt = at
		d.tasks.Go(func() { b.killLater(d, v) })
	case at.Before(b.killAt):
		b.killAt = at
		select {
		case b.sooner <- struct{}{}:
		default:
		}
	}
}

// killLater sends KILL at killAt. It returns when it has, or when the process
// or the VM has ended before.
func (b *background) killLater(d *Daemon, v *vm) {
	for {
		b.mu.Lock()
		wait := time.Until(b.killAt)
		b.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.sooner:
			timer.Stop()
			continue
		case <-b.ended:
			timer.Stop()
			return
		case <-v.over:
			timer.Stop()
			return
		}
		break
	}
	ctx, release := bind(context.Background(), v.over, errGone, nil)
	defer release()
	if v.gate.enter(ctx) != nil {
		return // the VM's end is the process's
	}
	defer v.gate.leave()
	if err := b.process.Signal("KILL"); err != nil {
		d.log.Warn("background exec could not be killed", "vm", v.hostname, "exec", b.id, "err", err)
	}
}

// state is how b stands: its status is nil while it runs.
func (b *background) state() (running bool, status *ExitStatus, endedAt *time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !isClosed(b.ended) {
		return true, nil, nil
	}
	at := b.endedAt
	return false, b.status, &at
}

// parseSeconds reads a whole number of seconds from 0 on; more than most is
// most.
func parseSeconds(name, text string, byDefault, most time.Duration) (time.Duration, error) {
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%s must be a whole number of seconds, not %q", name, text)
	}
	return min(time.Duration(min(n, math.MaxInt32))*time.Second, most), nil
}
