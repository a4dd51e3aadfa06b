package daemon

import (
	"bytes"
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// joinBytes is how large a frame gets by joining output that nobody has
	// read yet. It keeps a program that writes byte by byte from filling
	// memory with tiny frames.
	joinBytes = 4 << 10

	// batchFrames is how many frames are read at once.
	batchFrames = 64

	// maxMarks is how many points of the past a ring remembers.
	maxMarks = 1024
)

// ring keeps the newest output of a background exec as numbered frames. Ids
// begin at 1 and rise by 1. Once its frames carry more than capacity bytes the
// oldest are evicted; the newest one always stays.
type ring struct {
	capacity  int64
	maxFrames int

	mu      sync.Mutex
	frames  []ringFrame // oldest first
	first   uint64      // id of frames[0]
	bytes   int64       // carried by frames
	dropped int64       // carried by evicted frames
	sealed  uint64      // frames up to this id are known to somebody, and stay as they are
	marks   []ringMark  // of evicted frames, by rising id
	stride  uint64      // ids of marks are multiples of it
	ended   bool        // no frame is added any more
	changed chan struct{}
}

// ringFrame is one frame: output as it was written, or another frame whole.
type ringFrame struct {
	stream string
	at     time.Time
	data   []byte
	whole  *frame
}

// ringMark says how many bytes the frames before id carried.
type ringMark struct {
	id     uint64
	offset int64
}

func newRing(capacity int64) *ring {
	return &ring{capacity: capacity, maxFrames: int(capacity/32) + 64, first: 1, stride: 1}
}

// payload is the largest payload that output should be added in.
func (r *ring) payload() int {
	return int(min(maxFrame, max(64, r.capacity/4)))
}

// add adds output. It copies p.
func (r *ring) add(stream string, p []byte, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.bytes += int64(len(p))
	if !r.join(stream, p) {
		r.frames = append(r.frames, ringFrame{stream: stream, at: at, data: bytes.Clone(p)})
	}
	r.evict()
	r.wake()
}

// join adds p to the newest frame when nobody has seen that one yet.
func (r *ring) join(stream string, p []byte) bool {
	if len(r.frames) == 0 || r.next()-1 <= r.sealed {
		return false
	}
	last := &r.frames[len(r.frames)-1]
	if last.whole != nil || last.stream != stream || len(last.data)+len(p) > min(joinBytes, r.payload()) {
		return false
	}
	last.data = append(last.data, p...)
	return true
}

// addFrame adds a frame that carries no output.
func (r *ring) addFrame(f *frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, ringFrame{whole: f})
	r.evict()
	r.wake()
}

// end says that nothing is added any more.
func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.wake()
}

func (r *ring) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// next is the id that the next frame gets.
func (r *ring) next() uint64 { return r.first + uint64(len(r.frames)) }

// evict makes room by dropping the oldest frames.
func (r *ring) evict() {
	for len(r.frames) > 1 && (r.bytes > r.capacity || len(r.frames) > r.maxFrames) {
		r.mark()
		n := int64(len(r.frames[0].data))
		r.frames[0] = ringFrame{}
		r.frames = r.frames[1:]
		r.first++
		r.bytes -= n
		r.dropped += n
	}
}

// mark remembers where the oldest frame begins, if that is one to remember.
func (r *ring) mark() {
	if r.first%r.stride != 0 {
		return
	}
	r.marks = append(r.marks, ringMark{r.first, r.dropped})
	if len(r.marks) < maxMarks {
		return
	}
	r.stride *= 2
	r.marks = slices.DeleteFunc(r.marks, func(m ringMark) bool { return m.id%r.stride != 0 })
}

// offset is how many bytes the frames before the evicted id carried, or fewer
// when that isn't remembered exactly.
func (r *ring) offset(id uint64) int64 {
	i := sort.Search(len(r.marks), func(i int) bool { return r.marks[i].id > id })
	if i == 0 {
		return 0
	}
	return r.marks[i-1].offset
}

// ringCounts is what a ring tells of itself.
type ringCounts struct {
	written, dropped int64
	next             uint64
}

// counts tells of the ring, whose frames now stay as they are.
func (r *ring) counts() ringCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sealed = r.next() - 1
	return ringCounts{r.dropped + r.bytes, r.dropped, r.next()}
}

// ringReader reads a ring's frames from a given one on. Any number of them
// read beside each other.
type ringReader struct {
	ring *ring
	next uint64 // the frame to read next
	// past is how many bytes the frames before next carried; -1 as long as
	// that isn't known.
	past int64
}

// ringBatch is what a reader found.
type ringBatch struct {
	droppedFrames uint64 // evicted before the reader came to them
	droppedBytes  int64  // what those carried, at most
	first         uint64 // id of frames[0]
	frames        []ringFrame
	ended         bool            // nothing follows
	changed       <-chan struct{} // closed when there is more; nil unless frames is empty
}

// read returns the next frames, without waiting.
func (rd *ringReader) read() ringBatch {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	var b ringBatch
	if rd.next < r.first {
		if rd.past < 0 {
			rd.past = r.offset(rd.next)
		}
		b.droppedFrames, b.droppedBytes = r.first-rd.next, r.dropped-rd.past
		rd.next, rd.past = r.first, r.dropped
	}
	b.first = rd.next
	if i := rd.next - r.first; i < uint64(len(r.frames)) {
		b.frames = slices.Clone(r.frames[i:min(i+batchFrames, uint64(len(r.frames)))])
	}
	for _, f := range b.frames {
		rd.next++
		if rd.past >= 0 {
			rd.past += int64(len(f.data))
		}
	}
	r.sealed = max(r.sealed, rd.next-1)
	b.ended = r.ended && rd.next >= r.next()
	if len(b.frames) == 0 && !b.ended {
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		b.changed = r.changed
	}
	return b
}
