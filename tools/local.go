package tools

import (
	"context"
	"crypto/rand"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// localPrefix begins the handles of processes that this server holds.
	localPrefix = "px_"

	// mostLocals bounds how many of them are kept, localRing how many bytes of
	// output of each, and mostPieces in how many pieces.
	mostLocals = 128
	localRing  = 1 << 20
	mostPieces = localRing / 32

	// joinedBytes is how large a piece gets by joining output that nobody has
	// read yet.
	joinedBytes = 4 << 10

	// readable is how long a process that has ended stays at the least.
	readable = 10 * time.Minute
)

var (
	// errTooManyLocals refuses another process that this server would have to hold.
	errTooManyLocals = refuse("this server holds the output of %d processes already, which is the most. End those that run with signal_process, or read those that have ended to their end with read_process; list_processes shows both.", mostLocals)

	// errLocalsClosed refuses one when the server ends.
	errLocalsClosed = refuse("this server is ending, so nothing was begun. Retry when it is back.")
)

// locals are the processes whose output this server holds: commands on a
// daemon that has no background, commands with input, and long copies. They end
// with the server.
type locals struct {
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu   sync.Mutex
	held map[string]*local
}

func newLocals() *locals {
	ctx, cancel := context.WithCancel(context.Background())
	return &locals{ctx: ctx, cancel: cancel, held: make(map[string]*local)}
}

// close ends every process and waits for the last. None can be started then.
func (l *locals) close() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.tasks.Wait()
}

// start runs a process for at most lifetime, and killGrace more for a guest that
// ends it itself. run hands over what it prints and
// returns at ctx's end at the latest; a signal that ends it ends ctx.
func (l *locals) start(vm slicer.SlicerNode, command string, lifetime time.Duration, run func(ctx context.Context, out func(stream int, text string)) ending) (process, error) {
	p := &local{
		vm: vm.Hostname, command: command, lifetime: lifetime, handle: localPrefix + strings.ToLower(rand.Text()),
		started: time.Now(), changed: make(chan struct{}),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, errLocalsClosed
	}
	l.sweep()
	if len(l.held) >= mostLocals {
		return nil, errTooManyLocals
	}
	l.held[p.handle] = p
	ctx, cancel := context.WithTimeout(l.ctx, lifetime+killGrace)
	p.cancel = cancel
	l.tasks.Go(func() {
		defer cancel()
		p.finish(run(ctx, p.write))
	})
	return p, nil
}

// sweep forgets those that have ended and are old, read ones first when there
// are too many. It is called under the lock.
func (l *locals) sweep() {
	for handle, p := range l.held {
		if p.forgettable(readable) {
			delete(l.held, handle)
		}
	}
	if len(l.held) < mostLocals {
		return
	}
	for handle, p := range l.held {
		if p.forgettable(0) {
			delete(l.held, handle)
		}
	}
}

// find returns the process with that handle, nil when there is none.
func (l *locals) find(handle string) *local {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[handle]
}

// of lists the processes in a VM, oldest first.
func (l *locals) of(hostname string) []*local {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	var list []*local
	for _, p := range l.held {
		if p.vm == hostname {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *local) int { return a.started.Compare(b.started) })
	return list
}

// local is a process whose output this server holds.
type local struct {
	vm, handle, command string
	lifetime            time.Duration
	started             time.Time
	cancel              context.CancelFunc

	mu      sync.Mutex
	kept    []piece // the newest, localRing bytes of text at most; numbered by the bytes before them, from 1
	bytes   int     // of kept
	sealed  uint64  // so many bytes are known to somebody: their pieces stay as they are
	written int64
	dropped int64
	ended   time.Time
	end     *ending
	sent    string        // the one that cancel stands for
	read    bool          // to its end
	changed chan struct{} // closed, and replaced, at each change
}

func (p *local) id() string { return p.handle }

// write takes output. It is held whole, in pieces, until the ring is full.
// Pieces that nobody has seen yet are joined, as a command that writes byte by
// byte would fill memory with what holds the bytes.
func (p *local) write(stream int, text string) {
	if text == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.kept) - 1
	if last >= 0 && p.kept[last].number > p.sealed && p.kept[last].stream == stream && len(p.kept[last].text)+len(text) <= joinedBytes {
		p.kept[last].text += text
		p.kept[last].next += uint64(len(text))
	} else {
		number := uint64(p.written) + 1
		p.kept = append(p.kept, piece{number: number, next: number + uint64(len(text)), stream: stream, text: text})
	}
	p.bytes += len(text)
	p.written += int64(len(text))
	for len(p.kept) > 1 && (p.bytes > localRing || len(p.kept) > mostPieces) {
		n := len(p.kept[0].text)
		p.kept[0] = piece{}
		p.kept = p.kept[1:]
		p.bytes -= n
		p.dropped += int64(n)
	}
	p.wake()
}

func (p *local) finish(end ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sent != "" {
		end = ending{code: -1, signal: p.sent}
	}
	p.end, p.ended = &end, time.Now()
	p.wake()
}

// wake tells those who wait. It is called under the lock.
func (p *local) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// forgettable says whether it ended longer than age ago and was read.
func (p *local) forgettable(age time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end != nil && (p.read || age > 0 && time.Since(p.ended) > 6*age) && time.Since(p.ended) >= age
}

// pieces implements process.
func (p *local) pieces(ctx context.Context, from cursor, follow bool) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		if p.isBeyond(from) {
			yield(piece{}, errBeyond)
			return
		}
		for at := (cursor{max(from.piece, 1), from.offset}); ; {
			batch, missing, end, changed := p.since(at)
			if missing > 0 && !yield(piece{dropped: missing}, nil) {
				return
			}
			for _, part := range batch {
				part.text = from.rest(part.number, part.text)
				at = cursor{piece: part.next}
				if !yield(part, nil) {
					return
				}
			}
			if end != nil {
				yield(piece{number: at.piece, next: at.piece + 1, end: end}, nil)
				return
			}
			if !follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(piece{}, ctx.Err())
				return
			}
		}
	}
}

// isBeyond says whether a place is after the next piece's.
func (p *local) isBeyond(from cursor) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return from.piece > uint64(p.written)+1
}

// since returns the pieces from a place on, how many bytes between the place and
// the first of them are no longer kept, and the end, if there is no more to come.
func (p *local) since(at cursor) (batch []piece, missing int64, end *ending, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := len(p.kept)
	for i > 0 && p.kept[i-1].number >= at.piece {
		i--
	}
	if i == 0 && len(p.kept) > 0 {
		missing = max(0, int64(p.kept[0].number-at.piece)-int64(at.offset))
	}
	p.sealed = uint64(p.written)
	return slices.Clone(p.kept[i:]), missing, p.end, p.changed
}

// info implements process.
func (p *local) info(context.Context) (processInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := processInfo{
		id: p.handle, command: p.command, lifetime: p.lifetime, started: p.started,
		running: p.end == nil, ended: p.ended, written: p.written, dropped: p.dropped,
	}
	if p.end != nil {
		info.end = *p.end
	}
	return info, nil
}

// signal implements process. What this server holds can only be ended: at any
// signal its stream is closed, at which the daemon kills the command.
func (p *local) signal(_ context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		return nil
	}
	if name != "KILL" && name != "TERM" {
		return refuse("process %s takes only TERM and KILL, which both end it: this server holds its input and output.", quote(p.handle))
	}
	p.sent = "KILL"
	p.cancel()
	return nil
}

// markRead notes that all of it has been read.
func (p *local) markRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = true
}
