package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// heartbeat is how often a watch says that it is still there.
const heartbeat = 15 * time.Second

// watchFiles serves GET /vm/{vm}/fs/watch: server-sent events until the client
// has what it asked for. When the VM ends before, the answer is cut. A watch
// outlasts a pause.
func (d *Daemon) watchFiles(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	req, err := parseWatch(r, q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	watch, err := v.openWatch(ctx, req.spec)
	if err != nil {
		return err
	}
	pump := &watchPump{changes: make(chan WatchChange), done: make(chan struct{})}
	go pump.run(ctx, v, watch)
	defer func() {
		cancel()
		_ = watch.Close() // nothing was written to it
		<-pump.done
	}()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	s := &watchStream{req: req, w: w, conn: http.NewResponseController(w), held: newBurst(req.debounce)}
	if err := s.conn.Flush(); err != nil || r.Method == http.MethodHead {
		return err
	}
	err = s.run(ctx, pump)
	if errors.Is(err, errWatchDone) {
		return nil
	}
	return err
}

// openWatch begins to watch, and refuses paths that aren't there.
func (v *vm) openWatch(ctx context.Context, spec WatchSpec) (Watch, error) {
	for _, name := range spec.Paths {
		if _, err := v.files().Stat(ctx, name); err != nil {
			return nil, fileError(name, err)
		}
	}
	if !v.gate.tryEnter() {
		return nil, v.errPaused()
	}
	defer v.gate.leave()
	watch, err := v.guest.Watch(ctx, spec)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil, refuse(http.StatusNotImplemented, "this VM's files can't be watched")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, fileError(strings.Join(spec.Paths, ", "), err)
	case err != nil:
		return nil, fmt.Errorf("watch the files of VM %q: %w", v.hostname, err)
	}
	return watch, nil
}

// watchPump hands the changes of a watch over.
type watchPump struct {
	changes chan WatchChange
	done    chan struct{} // closed when there are no more
	err     error         // why; set before done is closed
}

func (p *watchPump) run(ctx context.Context, v *vm, watch Watch) {
	defer close(p.done)
	p.err = p.pump(ctx, v, watch)
}

func (p *watchPump) pump(ctx context.Context, v *vm, watch Watch) error {
	for {
		// A guest that is frozen isn't asked for more.
		if err := v.gate.enter(ctx); err != nil {
			return err
		}
		v.gate.leave()
		c, err := watch.Next()
		if err != nil {
			return err
		}
		select {
		case p.changes <- c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errWatchDone says that a watch's client has what it asked for.
var errWatchDone = errors.New("the watch is done")

// watchStream is the answer to a watch call.
type watchStream struct {
	req  *watchRequest
	w    http.ResponseWriter
	conn *http.ResponseController
	held *burst
	sent int
}

// run sends changes until the client has what it asked for, which is
// errWatchDone, or something ends it before.
func (s *watchStream) run(ctx context.Context, pump *watchPump) error {
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	var timeout <-chan time.Time
	if s.req.timeout > 0 {
		timer := time.NewTimer(s.req.timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		if at, ok := s.held.next(); ok {
			due.Reset(time.Until(at))
		} else {
			due.Stop()
		}
		select {
		case c := <-pump.changes:
			if s.req.wants(c) {
				s.held.add(c, time.Now())
			}
		case <-due.C:
		case <-alive.C:
			if err := s.write(":\n\n"); err != nil {
				return err
			}
		case <-timeout:
			return s.finish()
		case <-pump.done:
			return fmt.Errorf("watch: %w", pump.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.sendDue(); err != nil {
			return err
		}
	}
}

// sendDue sends what has been held back for long enough.
func (s *watchStream) sendDue() error {
	for {
		c := s.held.take(time.Now())
		if c == nil {
			return nil
		}
		if err := s.send(c); err != nil {
			return err
		}
	}
}

// finish sends all that is held back.
func (s *watchStream) finish() error {
	for c := s.held.pop(); c != nil; c = s.held.pop() {
		if err := s.send(c); err != nil {
			return err
		}
	}
	return errWatchDone
}

type watchJSON struct {
	ID        uint64    `json:"id"`
	Type      WatchOp   `json:"type"`
	Path      string    `json:"path"`
	Timestamp time.Time `json:"timestamp"`
	Size      int64     `json:"size"`
	IsDir     bool      `json:"isDir"`
	Message   string    `json:"message,omitempty"`
}

// send sends one event. The last one that the client asked for is
// errWatchDone.
func (s *watchStream) send(c *heldChange) error {
	s.sent++
	event := watchJSON{
		ID: uint64(s.sent), Type: c.Op, Path: c.Path, Timestamp: c.at.UTC(), Size: c.Size, IsDir: c.Dir,
	}
	if c.Op == WatchOverflow {
		event.Message = "changes were lost: there were more than could be told; look at the files themselves"
	}
	data, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	if err := s.write(fmt.Sprintf("id: %d\nevent: watch\ndata: %s\n\n", s.sent, data)); err != nil {
		return err
	}
	if s.sent == s.req.maxEvents {
		return errWatchDone
	}
	return nil
}

// write sends text at once.
func (s *watchStream) write(text string) error {
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.conn.Flush()
}
