package tools

import (
	"context"
	"errors"
	"fmt"
)

// StopWaiting makes the calls that wait for a process of the daemon answer now:
// with what there is and what becomes of it. It is for a server that is about to
// end. Calls that change something are refused from then on; those that run, and
// wait for what ends with this server or for a VM, go on until their contexts end.
func (t *Toolset) StopWaiting() { t.endWaits() }

// ending reports whether this server is about to end.
func (t *Toolset) ending() bool { return t.waits.Err() != nil }

// await reads p's output as how says until limited ends, or until this server is
// about to end: then it takes what lies ready.
func (t *Toolset) await(limited context.Context, how reader, p process, from cursor) (reading, error) {
	if _, ends := p.(*local); ends || !how.follow {
		return how.read(limited, p, from)
	}
	waiting, cancel := context.WithCancel(limited)
	defer cancel()
	defer context.AfterFunc(t.waits, cancel)()
	r, err := how.read(waiting, p, from)
	if err != nil || waiting.Err() == nil || limited.Err() != nil || r.end != nil || r.full || r.matched || r.beyond {
		return r, err
	}
	if err := how.readRest(limited, p, &r); err != nil && !errors.Is(err, errBeyond) {
		return r, err
	}
	return r, nil
}

// cutOff is the answer of a call whose context has ended while it waited for a
// process. If its client has taken it back, the process ends too.
func (t *Toolset) cutOff(ctx context.Context, a processAnswer) (Result, error) {
	if cancelled(ctx) || !t.ending() {
		return Result{}, t.abandoned(ctx, a.process)
	}
	text := fmt.Sprintf("this server is ending, and process %s with it: the server held its streams. Run it again when the server is back.\n", a.process.id())
	if _, ends := a.process.(*local); !ends {
		text = fmt.Sprintf("still running (process %s)%s\n", a.process.id(), t.whileEnding())
	}
	return Result{Failed: true, Text: text + a.reading.out.text("this is all that was read")}, nil
}

// whileEnding says in the first line about a process that runs what this
// server's end does to it.
func (t *Toolset) whileEnding() string {
	switch {
	case !t.ending():
		return ""
	case t.vmsEnd:
		return "; this server is ending, and its VMs with all that runs there end with it. Run it again when the server is back."
	}
	return "; this server is ending, and the command goes on. Read on when the server is back."
}

// endingAdvice says what to do about a call that was cut off by this server's end.
func endingAdvice(tool Tool, err error) string {
	var told *refusal
	switch {
	case !errors.Is(err, context.Canceled) || errors.As(err, &told):
		return ""
	case tool.Effect == Reads:
		return " Retry when it is back."
	}
	return " What it began may be half-done: look what is there before you retry."
}
