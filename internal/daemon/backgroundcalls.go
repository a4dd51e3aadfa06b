package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// defaultGrace is how long a TERM has before a KILL follows; maxGrace is
	// the longest that can be asked.
	defaultGrace = 5 * time.Second
	maxGrace     = 10 * time.Minute

	// waitDefault and waitLimit bound how long wait-exit waits.
	waitDefault = 30 * time.Second
	waitLimit   = 600 * time.Second
)

// execInfo is what the API tells of a background exec.
type execInfo struct {
	ExecID       string     `json:"exec_id"`
	PID          int        `json:"pid"`
	Command      string     `json:"command"`
	Args         []string   `json:"args"`
	Cwd          string     `json:"cwd"`
	UID          uint32     `json:"uid"`
	StartedAt    time.Time  `json:"started_at"`
	Running      bool       `json:"running"`
	ExitCode     *int       `json:"exit_code"`
	Signal       string     `json:"signal,omitempty"`
	EndedAt      *time.Time `json:"ended_at"`
	BytesWritten int64      `json:"bytes_written"`
	BytesDropped int64      `json:"bytes_dropped"`
	NextID       uint64     `json:"next_id"`
	RingBytes    int64      `json:"ring_bytes"`
}

func (b *background) info() execInfo {
	running, status, endedAt := b.state()
	counts := b.ring.counts()
	info := execInfo{
		ExecID: b.id, PID: b.process.Pid(), Command: b.command, Args: b.args, Cwd: b.cwd, UID: b.uid,
		StartedAt: b.startedAt, Running: running, EndedAt: endedAt,
		BytesWritten: counts.written, BytesDropped: counts.dropped, NextID: counts.next, RingBytes: b.ring.capacity,
	}
	if status != nil {
		info.ExitCode, info.Signal = &status.Code, status.Signal
	}
	return info
}

// listBackground serves GET /vm/{vm}/exec.
func (d *Daemon) listBackground(w http.ResponseWriter, _ *http.Request, _ query, v *vm) error {
	list := make([]execInfo, 0)
	for _, b := range v.execs.list() {
		list = append(list, b.info())
	}
	return writeJSON(w, http.StatusOK, list)
}

// backgroundInfo serves GET /vm/{vm}/exec/{exec}.
func (d *Daemon) backgroundInfo(w http.ResponseWriter, r *http.Request, _ query, v *vm) error {
	b, err := v.execs.find(r.PathValue("exec"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, b.info())
}

// backgroundLogs serves GET /vm/{vm}/exec/{exec}/logs. With follow it ends
// when the process has ended; the last frame is then its exit frame.
func (d *Daemon) backgroundLogs(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	b, err := v.execs.find(r.PathValue("exec"))
	if err != nil {
		return err
	}
	follow, err := q.flag("follow", false)
	if err != nil {
		return err
	}
	reader, err := b.reader(q)
	if err != nil {
		return err
	}
	until := b.ring.counts().next
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	conn := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for {
		batch := reader.read()
		for _, f := range b.lines(batch) {
			if err := enc.Encode(f); err != nil {
				return fmt.Errorf("send the logs: %w", err)
			}
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("send the logs: %w", err)
		}
		switch {
		case batch.ended && follow && isLost(b):
			return refuse(http.StatusInternalServerError, "how the command ended is unknown")
		case batch.ended, !follow && reader.next >= until:
			return nil
		case batch.changed == nil:
			continue
		}
		select {
		case <-batch.changed:
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	}
}

// isLost reports whether b has ended in a way that nobody knows.
func isLost(b *background) bool {
	<-b.ended // its ring has
	running, status, _ := b.state()
	return !running && status == nil
}

// reader reads b's frames from the query's from_id on.
func (b *background) reader(q query) (*ringReader, error) {
	rd := &ringReader{ring: b.ring, next: 1}
	if text := q.text("from_id"); text != "" {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "from_id must be the id of a frame, not %q", text)
		}
		rd.next = max(id, 1)
	}
	if next := b.ring.counts().next; rd.next > next {
		return nil, refuse(http.StatusBadRequest, "from_id is %d, but the next frame will be %d", rd.next, next)
	}
	rd.past = -1
	if rd.next == 1 {
		rd.past = 0
	}
	return rd, nil
}

// lines are the frames of a batch as they are sent, a gap before them when
// there is one. The gap's id is that of the last frame in it, so that ids rise.
func (b *background) lines(batch ringBatch) []*frame {
	list := make([]*frame, 0, len(batch.frames)+1)
	if batch.droppedFrames > 0 {
		list = append(list, &frame{
			Type: frameGap, ID: batch.first - 1, Timestamp: time.Now().UTC(),
			DroppedBytes: batch.droppedBytes, DroppedFrames: batch.droppedFrames,
			Message: fmt.Sprintf("%d frames with %d bytes were evicted from the ring of %d bytes", batch.droppedFrames, batch.droppedBytes, b.ring.capacity),
		})
	}
	for i, rf := range batch.frames {
		f := &frame{Timestamp: rf.at}
		if rf.whole != nil {
			*f = *rf.whole
		} else {
			f.carry(rf.stream, rf.data, b.asBase64)
		}
		f.ID = batch.first + uint64(i)
		list = append(list, f)
	}
	return list
}

// killBackground serves POST /vm/{vm}/exec/{exec}/kill. It returns when the
// signal is sent; nothing is sent to a process that has ended.
func (d *Daemon) killBackground(w http.ResponseWriter, r *http.Request, _ query, v *vm) error {
	b, err := v.execs.find(r.PathValue("exec"))
	if err != nil {
		return err
	}
	var body struct {
		Signal  string `json:"signal"`
		GraceMS *int64 `json:"grace_ms"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	if body.Signal == "" {
		body.Signal = "TERM"
	}
	if names := []string{"TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"}; !slices.Contains(names, body.Signal) {
		return refuse(http.StatusBadRequest, "signal must be one of %v, not %q", names, body.Signal)
	}
	grace := defaultGrace
	if ms := body.GraceMS; ms != nil {
		if *ms < 0 || *ms > maxGrace.Milliseconds() {
			return refuse(http.StatusBadRequest, "grace_ms must be from 0 to %d, not %d", maxGrace.Milliseconds(), *ms)
		}
		grace = time.Duration(*ms) * time.Millisecond
	}
	sent := ""
	if running, _, _ := b.state(); running {
		sent = body.Signal
		if err := b.signal(v, sent); err != nil {
			return err
		}
		if sent == "TERM" {
			b.killIn(d, v, grace)
		}
	}
	running, _, _ := b.state()
	return writeJSON(w, http.StatusOK, struct {
		ExecID     string `json:"exec_id"`
		PID        int    `json:"pid"`
		Running    bool   `json:"running"`
		SignalSent string `json:"signal_sent"`
	}{b.id, b.process.Pid(), running, sent})
}

// signal signals b's process group.
func (b *background) signal(v *vm, name string) error {
	if !v.gate.tryEnter() {
		return v.errPaused()
	}
	defer v.gate.leave()
	if err := b.process.Signal(name); err != nil {
		return fmt.Errorf("signal the command: %w", err)
	}
	return nil
}

// waitBackground serves GET /vm/{vm}/exec/{exec}/wait-exit.
func (d *Daemon) waitBackground(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	b, err := v.execs.find(r.PathValue("exec"))
	if err != nil {
		return err
	}
	limit, err := parseSeconds("timeout", q.text("timeout"), waitDefault, waitLimit)
	if err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.ended:
	case <-timer.C:
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	running, status, endedAt := b.state()
	answer := struct {
		ExecID   string     `json:"exec_id"`
		Running  bool       `json:"running"`
		ExitCode *int       `json:"exit_code"`
		Signal   string     `json:"signal,omitempty"`
		EndedAt  *time.Time `json:"ended_at"`
		TimedOut bool       `json:"timed_out"`
	}{ExecID: b.id, Running: running, EndedAt: endedAt, TimedOut: running}
	if status != nil {
		answer.ExitCode, answer.Signal = &status.Code, status.Signal
	}
	return writeJSON(w, http.StatusOK, answer)
}

// reapBackground serves DELETE /vm/{vm}/exec/{exec}.
func (d *Daemon) reapBackground(w http.ResponseWriter, r *http.Request, _ query, v *vm) error {
	b, err := v.execs.find(r.PathValue("exec"))
	if err != nil {
		return err
	}
	if running, _, _ := b.state(); running {
		return refuse(http.StatusConflict, "the background exec %q is running; kill it first", b.id)
	}
	if !v.execs.remove(b) {
		_, err := v.execs.find(b.id)
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		ExecID string `json:"exec_id"`
		Reaped bool   `json:"reaped"`
	}{b.id, true})
}
