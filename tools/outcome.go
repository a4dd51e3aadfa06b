package tools

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// processAnswer is what an answer about a process is made of.
type processAnswer struct {
	vm       slicer.SlicerNode
	named    bool // the caller named the VM
	process  process
	lifetime time.Duration // 0 is unknown
	took     time.Duration // since it began, to its end if it has ended
	earlier  bool          // an earlier call began it
	reading  reading
	ended    *ending // how it ended, also where reading hasn't come to that; nil when it runs or that isn't known
	until    bool    // the caller waits for a line
}

// call writes the literal call of a tool about the process.
func (a processAnswer) call(tool, arguments string) string {
	s := fmt.Sprintf("%s(process=%s", tool, quote(a.process.id()))
	if a.named {
		s += ", vm=" + quote(handle(a.vm))
	}
	if arguments != "" {
		s += ", " + arguments
	}
	return s + ")"
}

// begun is the answer about a command that nobody waits for. Whatever else goes
// wrong, it names the process: nobody else knows of it.
func (t *Toolset) begun(ctx context.Context, a processAnswer) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	info, err := a.process.info(limited)
	if ctx.Err() != nil {
		return Result{}, t.abandoned(ctx, a.process)
	}
	if err == nil && !info.running {
		how := reader{}
		a.took, a.ended = info.ended.Sub(info.started), &info.end
		if a.reading, err = how.read(limited, a.process, cursor{}); err != nil {
			return t.readBroke(ctx, err, a)
		}
		return t.outcome(ctx, a)
	}
	return Result{Text: fmt.Sprintf("started (process %s). It lives for at most %s: timeout_seconds allows more.\nNext: %s shows its output; %s ends it.",
		a.process.id(), plainSeconds(a.lifetime), a.call("read_process", "wait_seconds=5"), a.call("signal_process", ""))}, nil
}

// outcome is the answer about a process after its output was read.
func (t *Toolset) outcome(ctx context.Context, a processAnswer) (Result, error) {
	r := a.reading
	res := Result{}
	end := cmp.Or(r.end, a.ended)
	if end == nil {
		res.Text = "still running"
	} else {
		t.finished(a.process, r.end != nil)
		if end.notStarted {
			return Result{}, refuse("the command could not be started: %s. Check cwd and user, and that the VM has /bin/sh and %s.", trimmed(end.reason), shell)
		}
		res.Text = a.ending(*end)
	}
	if end == nil || a.earlier || r.out.body.full {
		res.Text += fmt.Sprintf(" (process %s)", a.process.id())
	}
	switch {
	case r.matched:
		res.Text += "; a line matches until"
	case a.until:
		res.Text += "; no line here matches until"
	}
	if end == nil {
		res.Text += t.whileEnding()
	}
	t.addStanding(ctx, &res, a)
	res.Text += "\n" + r.out.text(a.call("read_process", "cursor="+quote(r.cut.String()))+" reads on")
	if next := a.next(); next != "" && (end != nil || !t.ending() || !t.vmsEnd) {
		res.Text += "\n" + next
	}
	return res, nil
}

// ending is the first line about a command that has ended.
func (a processAnswer) ending(end ending) string {
	took := seconds(a.took)
	overdue := a.lifetime > 0 && a.took >= a.lifetime
	switch {
	case end.signal != "" && overdue:
		return fmt.Sprintf("killed by SIG%s (timeout %s)", end.signal, plainSeconds(a.lifetime))
	case end.signal != "":
		return fmt.Sprintf("killed by SIG%s after %s", end.signal, took)
	case overdue && end.code == 124:
		return fmt.Sprintf("killed by SIGTERM (timeout %s)", plainSeconds(a.lifetime))
	case overdue && end.code == 128+9:
		return fmt.Sprintf("killed by SIGKILL (timeout %s)", plainSeconds(a.lifetime))
	case end.code < 0:
		return fmt.Sprintf("how the command ended is not known: %s. Call list_vms to see the VM's status before a retry.", trimmed(end.reason))
	}
	return fmt.Sprintf("exit %d%s in %s", end.code, meaning(end.code), took)
}

// next is what to call now, if anything.
func (a processAnswer) next() string {
	at := "cursor=" + quote(a.reading.next.String())
	switch {
	case a.reading.full && a.reading.out.open:
		return "Next: " + a.call("read_process", at) + " reads on in the middle of the line."
	case a.reading.full, a.reading.end == nil && a.ended != nil:
		return "Next: " + a.call("read_process", at) + " reads on."
	case a.reading.end == nil:
		return fmt.Sprintf("Next: %s waits for more; %s ends it.", a.call("read_process", at), a.call("signal_process", ""))
	}
	return ""
}

// addStanding says how the VM stands, where that is why a command ended as it
// did or stands still.
func (t *Toolset) addStanding(ctx context.Context, res *Result, a processAnswer) {
	var s standing
	end := cmp.Or(a.reading.end, a.ended)
	switch {
	case end == nil:
		s = t.standingOf(ctx, a.vm)
		if s.still != "" {
			s.text = fmt.Sprintf("VM %s is %s: the command stands still until %s(vm=%s).", quote(handle(a.vm)), s.still, wakingTool(s.still), quote(handle(a.vm)))
		}
	case end.code < 0, end.signal == "KILL", end.signal == "TERM", end.code == 128+9:
		s = t.standingAfter(ctx, a.vm)
	}
	// That a VM has gone is not something that a command can tell.
	res.Failed = s.gone || end != nil && end.code < 0 && end.signal == ""
	if s.text != "" {
		res.Text += "\n" + s.text
	}
}

// readBroke is the answer when a process's output couldn't be read to where it
// was wanted, with what was.
func (t *Toolset) readBroke(ctx context.Context, err error, a processAnswer) (Result, error) {
	s := t.standingAfter(ctx, a.vm)
	if s.still != "" {
		return t.outcome(ctx, a)
	}
	if !s.gone && !brokenOff(err) {
		return Result{}, onVM(handle(a.vm), err)
	}
	if !s.gone {
		s.text = fmt.Sprintf("the connection broke while the output of process %s was read; the command itself may run on. Call %s.",
			a.process.id(), a.call("read_process", "cursor="+quote(a.reading.next.String())))
	}
	return Result{Failed: true, Text: s.text + "\nOutput so far:\n" + a.reading.out.text("the rest is lost")}, nil
}

// plainSeconds writes whole seconds.
func plainSeconds(d time.Duration) string { return fmt.Sprintf("%d s", int(d/time.Second)) }

func trimmed(reason string) string {
	if reason == "" {
		return "the daemon doesn't say why"
	}
	return strings.TrimRight(oneLine(reason, 300), ". ")
}
