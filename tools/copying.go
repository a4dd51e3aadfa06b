package tools

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// copyWait is how long a call waits for a copy, copyLifetime how long a
	// copy may live.
	copyWait     = 30 * time.Second
	copyLifetime = 6 * time.Hour
)

// copying is a copy that may outlast the call which begins it.
type copying struct {
	vm    slicer.SlicerNode
	named bool   // the caller named the VM
	what  string // as list_processes shows it

	hostPath, vmPath string

	run   func(ctx context.Context) (copiedRecord, error)
	sofar func() tally
	done  func() // releases what the copy holds; may be nil
}

// copiedRecord is the answer about a copy.
type copiedRecord struct {
	State      string  `json:"state"` // done or running
	VM         string  `json:"vm"`
	Name       string  `json:"name,omitempty"`
	HostPath   string  `json:"host_path"`
	VMPath     string  `json:"vm_path"`
	Files      int     `json:"files"`
	Bytes      int64   `json:"bytes"`
	Symlinks   int     `json:"symlinks,omitempty"` // copied as such
	Skipped    int     `json:"skipped,omitempty"`  // special files; out of a VM symlinks too
	Ignored    int     `json:"ignored,omitempty"`  // globs of the folder's .slicerignore
	Replaced   int     `json:"replaced,omitempty"` // host files that were there
	Seconds    float64 `json:"seconds"`
	SHA256     string  `json:"sha256,omitempty"`      // of a file, or of the list of a folder's
	Folder     bool    `json:"folder,omitempty"`      // it is of a list
	MadeFolder string  `json:"made_folder,omitempty"` // the folder of a single file, that wasn't there
	Process    string  `json:"process,omitempty"`
	Next       string  `json:"next,omitempty"`

	fromVM bool // it was a copy out of the VM
}

// runCopy begins a copy and waits for it. One that takes longer than copyWait
// goes on as a process of this server's, unless the VM doesn't run.
func (t *Toolset) runCopy(ctx context.Context, c copying) (Result, error) {
	began := time.Now()
	over := make(chan struct{})
	var rec copiedRecord
	var failed error
	p, err := t.locals.start(c.vm, c.what, copyLifetime, func(ctx context.Context, out func(stream int, text string)) ending {
		defer close(over)
		rec, failed = t.guarded(ctx, c)
		if failed != nil {
			out(stderr, t.explain(failed)+"\n")
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ending{code: 124} // as timeout says it
			}
			return ending{code: 1}
		}
		rec.State, rec.Seconds = "done", roundedSeconds(time.Since(began))
		out(stdout, rec.String()+"\n")
		return ending{}
	})
	if err != nil {
		c.release()
		return Result{}, err
	}
	saw, stop := t.progress(ctx, began)
	finished := awaitCopy(ctx, over, min(copyWait, t.within(askTime+killTime)), func() {
		if saw != nil {
			saw(soFar(c.sofar()))
		}
	})
	stop()
	switch {
	case cancelled(ctx):
		t.end(ctx, p)
		awaitCopy(context.WithoutCancel(ctx), over, killTime, func() {})
		return Result{}, ctx.Err()
	case finished:
		t.locals.forget(p)
		return Result{Text: rec.String(), Record: rec}, failed
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	}
	took := time.Since(began)
	if s := t.standingOf(ctx, c.vm); s.text != "" {
		t.end(ctx, p)
		text := fmt.Sprintf("the copy was not done after %s and was ended. %s", seconds(took), s.text)
		if awaitCopy(context.WithoutCancel(ctx), over, killTime/2, func() {}) && failed != nil {
			text += " Of the copy: " + explanation(failed)
		}
		return Result{}, &refusal{text: text}
	}
	return stillCopying(c, p, took), nil
}

// guarded runs a copy. A panic comes back as an error.
func (t *Toolset) guarded(ctx context.Context, c copying) (rec copiedRecord, err error) {
	defer c.release()
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("a copy panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = refuse("the copy ran into a fault of this MCP server (a bug, not your call's fault). Tell the user, who finds the details in the server's log.")
		}
	}()
	return c.run(ctx)
}

func (c copying) release() {
	if c.done != nil {
		c.done()
	}
}

// awaitCopy waits for the end of a copy for at most limit, and calls tick every
// now and then. It reports whether the copy has ended.
func awaitCopy(ctx context.Context, over <-chan struct{}, limit time.Duration, tick func()) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	ticker := time.NewTicker(progressSilence)
	defer ticker.Stop()
	for {
		select {
		case <-over:
			return true
		case <-ticker.C:
			tick()
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func soFar(t tally) string {
	return fmt.Sprintf("%s, %s so far", count(int64(t.files), "file"), size(t.bytes))
}

// stillCopying is the answer about a copy that goes on.
func stillCopying(c copying, p process, took time.Duration) Result {
	a := processAnswer{vm: c.vm, named: c.named, process: p}
	done := c.sofar()
	rec := copiedRecord{State: "running", VM: c.vm.Hostname, Name: tagValue(c.vm, tagName), HostPath: c.hostPath, VMPath: c.vmPath, Files: done.files, Bytes: done.bytes, Seconds: roundedSeconds(took), Process: p.id()}
	rec.Next = fmt.Sprintf("%s waits for its end, %d hours from its start at the latest; %s ends it.", a.call("read_process", ""), int(copyLifetime.Hours()), a.call("signal_process", ""))
	return Result{
		Text: fmt.Sprintf("still copying (process %s): %s, %s so far after %v s, by %s in %s.\nNext: %s",
			rec.Process, count(int64(rec.Files), "file"), exactSize(rec.Bytes), rec.Seconds, c.what, label(rec.VM, rec.Name), rec.Next),
		Record: rec,
	}
}

// String is the record of a copy that is done, in sentences.
func (r copiedRecord) String() string {
	var b strings.Builder
	from, into := quote(r.HostPath), quote(r.VMPath)+" in "+label(r.VM, r.Name)
	if r.fromVM {
		from, into = into, from
	}
	fmt.Fprintf(&b, "Copied %s, %s, in %v s from %s to %s.", count(int64(r.Files), "file"), exactSize(r.Bytes), r.Seconds, from, into)
	if r.Replaced > 0 {
		fmt.Fprintf(&b, " Replaced %s that %s there.", count(int64(r.Replaced), "file"), wereOrWas(r.Replaced))
	}
	if r.Symlinks > 0 {
		fmt.Fprintf(&b, " %s copied as such.", count(int64(r.Symlinks), "symlink"))
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&b, " Skipped %s.", count(int64(r.Skipped), "symlink or special file"))
	}
	if r.Ignored > 0 {
		fmt.Fprintf(&b, " Left out what %s of its %s %s.", count(int64(r.Ignored), "line"), ignoreFile, plural(r.Ignored, "names", "name"))
	}
	if r.MadeFolder != "" {
		fmt.Fprintf(&b, " Made the missing folder %s.", quote(r.MadeFolder))
	}
	switch {
	case r.Folder:
		fmt.Fprintf(&b, " SHA-256 of the list of its files (sha256sum's lines, sorted by name) %s.", r.SHA256)
	case r.SHA256 != "":
		fmt.Fprintf(&b, " SHA-256 %s.", r.SHA256)
	}
	return b.String()
}

func wereOrWas(n int) string { return plural(n, "was", "were") }

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// exactSize writes a number of bytes in full, and for people where it is large.
func exactSize(n int64) string {
	if n < 10_000 {
		return count(n, "byte")
	}
	return fmt.Sprintf("%s (%s)", count(n, "byte"), size(n))
}

// forget drops a process whose end has been told.
func (l *locals) forget(p process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, p.id())
}
