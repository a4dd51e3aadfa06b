package slicer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxSilence is how long nothing at all may come of a watch, on which a daemon
// sends a comment every 15 seconds.
const maxSilence = time.Minute

// errSilent is why a watch was given up.
var errSilent = fmt.Errorf("nothing came from the daemon for %s", maxSilence)

// SlicerFSWatchRequest says what to watch. Only Paths is required.
type SlicerFSWatchRequest struct {
	// Paths are the files and folders to watch, which must exist.
	Paths []string

	// Patterns are globs, matched against a path and its last part; only
	// changes that match one are reported. None means all.
	Patterns []string

	// Events are the kinds of change to report: "create", "write", "remove",
	// "rename" and "chmod". None means all.
	Events []string

	// Recursive watches the folders below as well, also those made later.
	Recursive bool

	// OneShot ends the watch after its first event.
	OneShot bool

	// Debounce is for how long changes of one kind to one path are gathered
	// into one event; 0 is the daemon's choice, 200 ms.
	Debounce time.Duration

	// Timeout ends the watch after a time; 0 is never.
	Timeout time.Duration

	// MaxEvents ends the watch after so many events; 0 is never.
	MaxEvents int

	// UID is the user whose home a leading ~ in Paths is: 0 is root,
	// NonRootUser the agent's ordinary user.
	UID uint32

	// LastEventID is the ID of the last event seen on a watch before, for
	// daemons that can go on from there; 0 is none.
	LastEventID uint64
}

// SlicerFSWatchEvent is one change of a watched file or folder.
type SlicerFSWatchEvent struct {
	ID        uint64    `json:"id"`        // rises within a watch
	Type      string    `json:"type"`      // create, write, remove, rename or chmod
	Path      string    `json:"path"`      // absolute
	Timestamp time.Time `json:"timestamp"` // zero if the daemon doesn't say
	Size      int64     `json:"size,omitempty"`
	IsDir     bool      `json:"isDir,omitempty"`
	Message   string    `json:"message,omitempty"` // the daemon's remark, such as that events were lost

	// Err is why a watch broke. It is set only in the last event of a
	// channel, which has no other field.
	Err error `json:"-"`
}

// UnmarshalJSON reads an event as a daemon describes it; the time has two forms.
func (e *SlicerFSWatchEvent) UnmarshalJSON(data []byte) error {
	type fields SlicerFSWatchEvent
	wire := struct {
		*fields
		Timestamp wireTime `json:"timestamp"`
	}{fields: (*fields)(e)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	e.Timestamp = time.Time(wire.Timestamp)
	return nil
}

// WatchFS reports changes of a VM's files (GET /vm/{vm}/fs/watch). When it
// returns the daemon watches.
//
// The channel is unbuffered. It is closed when the watch is over: after one
// event with OneShot, after MaxEvents of them, after Timeout, or when ctx ends,
// which whoever stops receiving earlier must see to. A watch that ends before
// that has broken, because of the connection, because the VM ended or because
// nothing came for a minute, not even the comments that daemons send; then the
// last event has an Err. It is not begun anew, since what happened meanwhile
// would be lost without a word. When ctx has ended only a receiver that is
// waiting at that moment gets its error.
func (c *SlicerClient) WatchFS(ctx context.Context, vmName string, request SlicerFSWatchRequest) (chan SlicerFSWatchEvent, error) {
	w, err := c.openWatch(ctx, vmName, request)
	if err != nil {
		return nil, err
	}
	events := make(chan SlicerFSWatchEvent)
	go func() {
		defer close(events)
		defer w.close()
		for {
			event, err := w.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				sendLastEvent(ctx, events, SlicerFSWatchEvent{Err: err})
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// sendLastEvent sends the event that says why a watch broke. Once ctx has ended
// nobody may be left to receive, so only a receiver that waits gets it.
func sendLastEvent(ctx context.Context, events chan<- SlicerFSWatchEvent, last SlicerFSWatchEvent) {
	select {
	case events <- last:
		return
	default:
	}
	select {
	case events <- last:
	case <-ctx.Done():
	}
}

// WatchFSSeq is WatchFS as a sequence. The watch begins with the loop over it
// and ends with it, by a break too. An error, a refusal of the daemon among
// them, comes once, as the last element.
func (c *SlicerClient) WatchFSSeq(ctx context.Context, vmName string, request SlicerFSWatchRequest) iter.Seq2[SlicerFSWatchEvent, error] {
	return func(yield func(SlicerFSWatchEvent, error) bool) {
		w, err := c.openWatch(ctx, vmName, request)
		if err != nil {
			yield(SlicerFSWatchEvent{}, err)
			return
		}
		defer w.close()
		for {
			event, err := w.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// fsWatch is an open watch.
type fsWatch struct {
	client  *SlicerClient
	vmName  string
	request SlicerFSWatchRequest
	began   time.Time
	count   int // of events

	ctx    context.Context // ends the stream
	cancel context.CancelCauseFunc
	silent *time.Timer
	body   io.ReadCloser
	events *sseReader
}

func (c *SlicerClient) openWatch(ctx context.Context, vmName string, request SlicerFSWatchRequest) (*fsWatch, error) {
	query, err := request.query()
	if err != nil {
		return nil, fmt.Errorf("watch files in VM %q: %w", vmName, err)
	}
	r := apiRequest{
		method: http.MethodGet, path: []string{"vm", vmName, "fs", "watch"}, query: query, accept: "text/event-stream",
	}
	if request.LastEventID != 0 {
		r.header = http.Header{"Last-Event-Id": {strconv.FormatUint(request.LastEventID, 10)}}
	}
	w := &fsWatch{client: c, vmName: vmName, request: request, began: time.Now()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.silent = time.AfterFunc(maxSilence, func() { w.cancel(errSilent) })
	resp, err := c.send(w.ctx, r) //nolint:bodyclose // close closes it
	if err == nil {
		w.body = resp.Body
		if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(strings.ToLower(kind), "text/event-stream") {
			err = fmt.Errorf("the answer is %.100q, not a stream of events", kind)
		}
	}
	if err != nil {
		err = w.failed(err)
		w.close()
		return nil, err
	}
	w.events = newSSEReader(w)
	return w, nil
}

// query returns the request's parameters.
func (r *SlicerFSWatchRequest) query() (url.Values, error) {
	switch {
	case len(r.Paths) == 0:
		return nil, errNoVMPath
	case r.Debounce < 0 || r.Timeout < 0 || r.MaxEvents < 0:
		return nil, errors.New("debounce, timeout and max events can't be negative")
	}
	query := url.Values{"paths": r.Paths}
	if len(r.Patterns) > 0 {
		query["patterns"] = r.Patterns
	}
	if len(r.Events) > 0 {
		query["events"] = r.Events
	}
	if r.Recursive {
		query.Set("recursive", "true")
	}
	if r.OneShot {
		query.Set("one_shot", "true")
	}
	if r.Debounce > 0 {
		query.Set("debounce", r.Debounce.String())
	}
	if r.Timeout > 0 {
		query.Set("timeout", r.Timeout.String())
	}
	if r.MaxEvents > 0 {
		query.Set("max_events", strconv.Itoa(r.MaxEvents))
	}
	setID(query, "uid", r.UID)
	return query, nil
}

// Read reads the stream and takes note that something came.
func (w *fsWatch) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if n > 0 {
		w.silent.Reset(maxSilence)
	}
	return n, err
}

// next returns the next event, or io.EOF when the watch is over as was asked.
func (w *fsWatch) next() (SlicerFSWatchEvent, error) {
	for {
		frame, err := w.events.next()
		if errors.Is(err, io.EOF) {
			if w.complete() {
				return SlicerFSWatchEvent{}, io.EOF
			}
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return SlicerFSWatchEvent{}, w.failed(err)
		}
		switch frame.name {
		case "", "message", "watch":
		case "error":
			return SlicerFSWatchEvent{}, w.failed(fmt.Errorf("the daemon says: %s", w.client.clean(string(frame.data))))
		default:
			continue
		}
		var event SlicerFSWatchEvent
		if err := json.Unmarshal(frame.data, &event); err != nil {
			return SlicerFSWatchEvent{}, w.failed(fmt.Errorf("malformed event: %w", err))
		}
		if event.Type == "" {
			return SlicerFSWatchEvent{}, w.failed(errors.New("malformed event: it has no type"))
		}
		if event.ID == 0 {
			// An id that is no number stays 0.
			event.ID, _ = strconv.ParseUint(frame.id, 10, 64)
		}
		w.count++
		return event, nil
	}
}

// complete reports whether the watch has lasted as long as was asked. A daemon
// counts the time from a moment after began, by a clock of its own.
func (w *fsWatch) complete() bool {
	r := w.request
	return r.OneShot && w.count > 0 ||
		r.MaxEvents > 0 && w.count >= r.MaxEvents ||
		r.Timeout > 0 && time.Since(w.began) >= r.Timeout-r.Timeout/100
}

// failed says what was being done when err came.
func (w *fsWatch) failed(err error) error {
	if errors.Is(context.Cause(w.ctx), errSilent) {
		err = errSilent
	} else {
		err = fileError(transportError(w.ctx, err), w.vmName, strings.Join(w.request.Paths, " "))
	}
	return fmt.Errorf("watch files in VM %q: %w", w.vmName, err)
}

// close ends the stream.
func (w *fsWatch) close() {
	w.silent.Stop()
	w.cancel(nil)
	if w.body != nil {
		w.body.Close()
	}
}
