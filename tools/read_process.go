package tools

import (
	"context"
	"errors"
	"time"
)

var _ = define(Tool{
	Name:        "read_process",
	Title:       "Read a process's output",
	Description: "Read what a process of exec or a copy in a microVM wrote since cursor; waits for its end, a full page or a line that until matches. The first line says how it stands.",
	Toolset:     toolsetExec,
	Effect:      Reads,
}, (*Toolset).readProcess)

type readProcessInput struct {
	processArgument
	Cursor      string `json:"cursor,omitempty" jsonschema:"maxLength=40" jsonschema_description:"From an earlier answer. Default: the oldest output kept"`
	WaitSeconds *int   `json:"wait_seconds,omitempty" jsonschema:"minimum=0,maximum=50,default=30" jsonschema_description:"Seconds to wait; 0 takes what is there"`
	Until       string `json:"until,omitempty" jsonschema:"maxLength=1000" jsonschema_description:"RE2; return once a line matches"`
	MaxLines    int    `json:"max_lines,omitempty" jsonschema:"minimum=1,maximum=2000" jsonschema_description:"Most lines of a page"`
}

func (t *Toolset) readProcess(ctx context.Context, in readProcessInput) (Result, error) {
	from, err := parseCursor(in.Cursor)
	if err != nil {
		return Result{}, err
	}
	how := reader{paged: true, lines: in.MaxLines}
	if in.Until != "" {
		if how.until, err = compileLine(in.Until); err != nil {
			return Result{}, refuse("until is not a regular expression that RE2 knows: %s. Escape what is meant literally with \\.", oneLine(innermost(err), 200))
		}
	}
	began := time.Now()
	wait := time.Duration(0)
	if in.WaitSeconds != nil {
		wait = time.Duration(*in.WaitSeconds) * time.Second
	}
	how.follow = wait > 0
	a, err := t.findProcess(ctx, in.processArgument)
	if err != nil {
		return Result{}, err
	}
	limit := t.within(killTime)
	if how.follow {
		limit = min(wait, limit)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	saw, stop := t.progress(ctx, began)
	how.saw = saw
	a.reading, err = t.await(limited, how, a.process, from)
	stop()
	if ctx.Err() != nil && t.ending() {
		return t.cutOff(ctx, a)
	}
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if err != nil {
		return t.readBroke(ctx, err, a)
	}
	a.until = in.Until != ""
	if err := t.stands(ctx, &a, how); err != nil {
		return Result{}, err
	}
	return t.outcome(ctx, a)
}

// stands completes what is known of a process with what the daemon says of it.
func (t *Toolset) stands(ctx context.Context, a *processAnswer, how reader) error {
	info, err := a.process.info(ctx)
	if err != nil {
		return onVM(handle(a.vm), err)
	}
	a.lifetime = info.lifetime
	a.took = info.took(time.Now())
	r := &a.reading
	switch {
	case info.running && r.beyond:
		return noPlace(r.next.String())
	case info.running, r.end != nil:
		return nil
	}
	a.ended = &info.end
	if !r.full && !r.matched && !r.beyond {
		// It has ended since the wait was over, perhaps with some last words.
		limited, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		err := how.readRest(limited, a.process, r)
		if err != nil && !errors.Is(err, errBeyond) || limited.Err() != nil {
			return nil //nolint:nilerr // the answer says how to read on
		}
	}
	if r.end == nil && !r.full && !r.matched {
		r.end = &info.end // there was no more
	}
	return nil
}

// took is how long a process has run, or ran.
func (p processInfo) took(now time.Time) time.Duration {
	if !p.running && !p.ended.IsZero() {
		return p.ended.Sub(p.started)
	}
	return max(now.Sub(p.started), 0)
}
