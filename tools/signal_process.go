package tools

import (
	"context"
	"fmt"
	"time"
)

var _ = define(Tool{
	Name:        "signal_process",
	Title:       "Signal a process",
	Description: "Signal the whole group of a process in a microVM. TERM is followed by KILL after 5 s.",
	Toolset:     toolsetExec,
	Effect:      Destroys,
}, (*Toolset).signalProcess)

type signalProcessInput struct {
	processArgument
	Signal string `json:"signal,omitempty" jsonschema:"maxLength=4,enum=TERM,enum=KILL,enum=INT,enum=HUP,enum=QUIT,enum=USR1,enum=USR2,default=TERM" jsonschema_description:"The signal"`
}

// signalRecord is signal_process's answer.
type signalRecord struct {
	Process string `json:"process"`
	Signal  string `json:"signal,omitempty"` // that was sent; none to a process that had ended
	Running bool   `json:"running"`
	Outcome string `json:"outcome"`
	Next    string `json:"next,omitempty"`
}

// endWait is how long signal_process waits for a process to end.
const endWait = time.Second

func (t *Toolset) signalProcess(ctx context.Context, in signalProcessInput) (Result, error) {
	a, err := t.findProcess(ctx, in.processArgument)
	if err != nil {
		return Result{}, err
	}
	before, err := a.process.info(ctx)
	if err != nil {
		return Result{}, onVM(handle(a.vm), err)
	}
	a.lifetime = before.lifetime
	rec := signalRecord{Process: a.process.id()}
	if !before.running {
		a.took = before.took(time.Now())
		rec.Outcome = "it had ended before: " + a.ending(before.end)
		return Result{Text: fmt.Sprintf("process %s: no signal was sent, %s", rec.Process, rec.Outcome), Record: rec}, nil
	}
	if err := a.process.signal(ctx, in.Signal); err != nil {
		return Result{}, onVM(handle(a.vm), err)
	}
	rec.Signal = in.Signal
	after, err := t.awaitEnd(ctx, a.process)
	if err != nil {
		return Result{}, onVM(handle(a.vm), err)
	}
	a.took = after.took(time.Now())
	rec.Running = after.running
	rec.Outcome = "still running"
	if !after.running {
		t.finished(a.process, false)
		rec.Outcome = a.ending(after.end)
	}
	rec.Next = a.call("read_process", "wait_seconds=5") + " shows what it wrote."
	return Result{
		Text:   fmt.Sprintf("process %s: SIG%s sent to its group; %s\nNext: %s", rec.Process, rec.Signal, rec.Outcome, rec.Next),
		Record: rec,
	}, nil
}

// awaitEnd waits a moment for a process that was signalled to end.
func (t *Toolset) awaitEnd(ctx context.Context, p process) (processInfo, error) {
	deadline := time.Now().Add(endWait)
	for {
		info, err := p.info(ctx)
		if err != nil || !info.running || time.Now().After(deadline) || !pause(ctx, 50*time.Millisecond) {
			return info, err
		}
	}
}
