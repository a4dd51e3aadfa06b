package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// segment is how much of a line is taken at once, so that a cursor can
	// stand inside a long one.
	segment = 1 << 10

	// pageCharacters is when a page is full. The rest of a line, at most a
	// segment, and what a segment can become when it is written out still fit
	// in below mostCharacters.
	pageCharacters = mostCharacters - 4*segment

	// retries is how often a log is asked for again after its stream broke.
	retries = 2
)

// reader says how to read a command's output.
type reader struct {
	follow bool // wait for what is yet to come
	paged  bool // stop when the page is full; else keep head and tail

	lines int       // most lines of a page; 0 is no bound
	until *lineExpr // stop after a line that it matches; may be nil

	// saw, unless nil, is told the last line whenever output has come.
	saw func(line string)
}

// reading is what was read.
type reading struct {
	out     *transcript
	next    cursor  // where reading goes on
	cut     cursor  // where what was left out begins
	end     *ending // nil when the command hasn't ended, or wasn't read to there
	dropped int64   // bytes that were no longer kept
	full    bool    // the page is full, and there may be more
	matched bool    // until has matched
	beyond  bool    // the place where it began is after all that there is

	seen *lastLines
}

// read reads p's output from a place on until the command's end, the end of
// ctx, which is no error, or what how says.
func (how reader) read(ctx context.Context, p process, from cursor) (reading, error) {
	r := reading{out: newTranscript(), next: from, seen: &lastLines{until: how.until}}
	if how.paged {
		r.out.body.room = mostCharacters
	}
	r.out.saw = r.seen.add
	for try := 0; ; {
		before := r.next
		err := how.pass(ctx, p, &r)
		switch {
		case err == nil:
			return r, nil
		case errors.Is(err, errBeyond):
			r.beyond = true
			return r, nil
		case ctx.Err() != nil:
			return r, nil //nolint:nilerr // the end of the wait, which is no error
		case try == retries || !brokenOff(err):
			return r, err
		case r.next == before:
			try++
		}
		if !pause(ctx, 100*time.Millisecond) {
			return r, nil
		}
	}
}

// readRest adds to r what has come since it was read, without waiting.
func (how reader) readRest(ctx context.Context, p process, r *reading) error {
	how.follow, how.saw = false, nil
	return how.pass(ctx, p, r)
}

// pass reads the log once, as far as its stream goes.
func (how reader) pass(ctx context.Context, p process, r *reading) error {
	from := r.next
	for part, err := range p.pieces(ctx, from, how.follow) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil && part.end == nil {
			return nil // much may lie ready, in very small pieces
		}
		if part.dropped > 0 {
			r.dropped += part.dropped
			r.out.gap(part.dropped)
			continue
		}
		if part.end != nil {
			r.end = part.end
			return nil
		}
		base := 0
		if part.number == from.piece {
			base = from.offset
		}
		if stop := how.take(ctx, r, part, base); stop {
			return nil
		}
		r.next = cursor{piece: part.next}
		if how.saw != nil {
			how.saw(r.seen.last(r.out))
		}
	}
	if ctx.Err() == nil && how.follow {
		return fmt.Errorf("the log ended before the command: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// take adds a piece. base is how many bytes of it came before. It reports
// whether reading stops inside it or after it; next then stands there.
func (how reader) take(ctx context.Context, r *reading, part piece, base int) (stop bool) {
	text := part.text
	for len(text) > 0 {
		if !how.paged && r.out.body.full {
			r.out.write(part.stream, text)
			return false
		}
		n := min(strings.IndexByte(text, '\n')+1, segment)
		if n == 0 {
			n = min(len(text), segment)
		}
		r.cut = cursor{piece: part.number, offset: base}
		r.out.write(part.stream, text[:n])
		whole := text[n-1] == '\n'
		text, base = text[n:], base+n
		r.next = cursor{piece: part.number, offset: base}
		if len(text) == 0 {
			r.next = cursor{piece: part.next}
		}
		if r.seen.matches(ctx, r.out) {
			r.matched = true
			return true
		}
		if how.paged && (r.out.characters() >= pageCharacters && whole || r.out.characters() >= pageCharacters+segment || how.lines > 0 && r.out.body.lines >= int64(how.lines)) {
			r.full = true
			return true
		}
	}
	return false
}

// lastLines holds the end of the cleaned output, for a look at its last lines.
type lastLines struct {
	until *lineExpr
	text  []byte // lines not looked at yet, then the unfinished one
}

// add takes cleaned output.
func (l *lastLines) add(text []byte) {
	l.text = append(l.text, text...)
	if len(l.text) > 4*longestHeld {
		l.text = append(l.text[:0], l.text[len(l.text)-2*longestHeld:]...)
	}
}

// matches looks whether until matches one of the lines that came since it was
// last asked, or the unfinished one. At ctx's end none does.
func (l *lastLines) matches(ctx context.Context, out *transcript) bool {
	if l.until == nil {
		return false
	}
	for line := range strings.Lines(string(l.text) + out.unfinished()) {
		place, err := l.until.find(ctx, []byte(strings.TrimSuffix(line, "\n")))
		if err == nil && place != nil {
			return true
		}
	}
	if i := strings.LastIndexByte(string(l.text), '\n'); i >= 0 {
		l.text = append(l.text[:0], l.text[i+1:]...)
	}
	return false
}

// last is the last line that isn't empty.
func (l *lastLines) last(out *transcript) string {
	const enough = 1 << 10 // of what a progress notification has room for
	text := string(l.text[max(0, len(l.text)-enough):]) + out.unfinished()
	text = strings.TrimRight(text, "\n ")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
