package tools

import (
	"bytes"
	"strings"
)

// The marks in a transcript. Cleaned text holds no byte below 0x08, so that a
// guest can't write them.
const (
	markStderr = 0x01 // before a line that came from stderr
	markStdout = 0x02 // before a line from stdout that looks like a written-out mark
	markGap    = 0x03 // before the line that tells of missing output
)

// The marks as they are written out.
const (
	stderrPrefix = "[stderr] "
	stdoutPrefix = "[stdout] "
	gapPrefix    = "[gap] "
)

// transcript is what a command wrote to its two streams, in the order in which
// it came, cleaned and bounded.
type transcript struct {
	streams [2]cleaner // stdout, stderr
	last    int        // the stream that wrote last
	line    int        // the stream of the last line
	open    bool       // the last line has no newline yet
	wrote   [2]bool    // which streams wrote anything
	marked  bool       // a line from stderr looks like a written-out mark
	body    excerpt
	gaps    gaps

	// saw, unless nil, is given the cleaned output as it comes.
	saw func(text []byte)
}

const (
	stdout = 0
	stderr = 1
)

func newTranscript() *transcript {
	t := &transcript{}
	for i := range t.streams {
		t.streams[i].emit = func(text []byte) { t.take(i, text) }
	}
	return t
}

// write adds what came on a stream. The other stream's unfinished line goes
// first, so that the order is kept.
func (t *transcript) write(stream int, p string) {
	if p == "" {
		return
	}
	if stream != t.last {
		t.streams[t.last].flush()
		t.last = stream
	}
	t.streams[stream].write(p)
}

// take adds a cleaned piece of a line, which may end it.
func (t *transcript) take(stream int, piece []byte) {
	if t.open && t.line != stream {
		t.body.write([]byte{'\n'})
		t.open = false
	}
	if !t.open {
		switch {
		case stream == stderr:
			t.body.write([]byte{markStderr})
			t.marked = t.marked || likeMark(piece)
		case likeMark(piece):
			t.body.write([]byte{markStdout})
		}
	}
	if t.saw != nil {
		t.saw(piece)
	}
	t.body.write(piece)
	t.wrote[stream] = true
	t.line = stream
	t.open = piece[len(piece)-1] != '\n'
}

// likeMark says whether a line begins as a written-out mark does.
func likeMark(line []byte) bool {
	return bytes.HasPrefix(line, []byte(stderrPrefix)) || bytes.HasPrefix(line, []byte(stdoutPrefix)) || bytes.HasPrefix(line, []byte(gapPrefix))
}

// gap notes that n bytes of output are missing here.
func (t *transcript) gap(n int64) {
	t.gaps.add(n)
	t.streams[t.last].flush()
	if t.open {
		t.body.write([]byte{'\n'})
		t.open = false
	}
	t.body.write([]byte{markGap})
	t.body.write([]byte(size(n) + " of output are missing here: they are no longer kept\n"))
}

// unfinished is the line that has no end yet and is still held back.
func (t *transcript) unfinished() string {
	return string(t.streams[t.last].line)
}

// characters is how long the transcript is, at least.
func (t *transcript) characters() int {
	return t.body.used + len(t.streams[stdout].line) + len(t.streams[stderr].line)
}

// text is the transcript for a model: fenced, with what was left out between
// two fences. more says how to see that.
func (t *transcript) text(more string) string {
	t.streams[t.last].close()
	t.streams[1-t.last].close()
	if t.body.bytes == 0 {
		return "(no output)"
	}
	head, tail, lines, left := t.body.parts()
	title := ""
	if t.unmarked() {
		title = "all on stderr:\n"
	}
	if left == 0 {
		return title + fenced(t.written(head))
	}
	said := omission(lines, left)
	mark := []byte{markGap}
	if gone := t.gaps.hidden(bytes.Count(head, mark), bytes.Count(tail, mark)); gone > 0 {
		said += ", and " + size(gone) + " there that are no longer kept"
	}
	return title + fenced(t.written(head)) + "\n" + said + "; " + more + "\n" + fenced(t.written(tail))
}

// unmarked says whether lines from stderr are written without their mark: when
// all are, and none could be taken for something else.
func (t *transcript) unmarked() bool { return !t.wrote[stdout] && !t.marked }

// written writes the marks out.
func (t *transcript) written(text []byte) string {
	prefix := stderrPrefix
	if t.unmarked() {
		prefix = ""
	}
	return strings.NewReplacer(string(rune(markStderr)), prefix, string(rune(markStdout)), stdoutPrefix, string(rune(markGap)), gapPrefix).Replace(string(text))
}
