package tools

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// The bound of an answer's bulk text in characters, and how much of it is the
// beginning. What went wrong is mostly at the end.
const (
	mostCharacters = 30_000
	headCharacters = 10_000
	tailCharacters = mostCharacters - headCharacters
)

// markWidth is how many characters a mark becomes when it is written out. A
// mark is a byte below 0x08.
const markWidth = len("[stderr] ")

// excerpt keeps the head and the tail of a text of any length in bounded
// memory. Its zero value is ready.
type excerpt struct {
	room  int // characters of the head; 0 is headCharacters
	head  []byte
	used  int  // characters of the head
	full  bool // the head takes no more
	tail  []byte
	bytes int64 // of the whole text
	lines int64 // newlines of the whole text
}

// write adds text, a number of whole UTF-8 characters.
func (e *excerpt) write(text []byte) {
	e.bytes += int64(len(text))
	e.lines += newlines(text)
	if !e.full {
		text = text[e.fill(text):]
	}
	const most = tailCharacters * utf8.UTFMax
	text = text[max(0, len(text)-most):]
	if len(e.tail)+len(text) > 2*most {
		keep := copy(e.tail, e.tail[len(e.tail)-most:])
		e.tail = e.tail[:keep]
	}
	e.tail = append(e.tail, text...)
}

// fill takes as much of text as the head has room for and returns how many
// bytes that was.
func (e *excerpt) fill(text []byte) int {
	room := orElse(e.room, headCharacters)
	n := 0
	for ; n < len(text); n++ {
		w := width(text[n])
		if e.used+w > room {
			e.full = true
			break
		}
		e.used += w
	}
	e.head = append(e.head, text[:n]...)
	return n
}

// parts returns the beginning and the end of the text, cut at line ends where
// there are any near, and how many lines and bytes between them are left out.
// With none left out it is all in head.
func (e *excerpt) parts() (head, tail []byte, lines, left int64) {
	tail = lastCharacters(e.tail, tailCharacters)
	if int64(len(e.head)+len(tail)) == e.bytes {
		return append(e.head, tail...), nil, 0, 0
	}
	const near = 4000 // bytes given up for a whole line
	head = e.head
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 && len(head)-i < near {
		head = head[:i+1]
	}
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && i < near && i+1 < len(tail) {
		tail = tail[i+1:]
	}
	return head, tail, e.lines - newlines(head) - newlines(tail), e.bytes - int64(len(head)) - int64(len(tail))
}

// omission says in a sentence how much is left out.
func omission(lines, left int64) string {
	if lines < 2 {
		return fmt.Sprintf("… %s omitted", size(left))
	}
	return fmt.Sprintf("… %s (%s) omitted", count(lines, "line"), size(left))
}

func newlines(text []byte) int64 {
	return int64(bytes.Count(text, []byte{'\n'}))
}

// width is how many characters a byte of the text stands for.
func width(b byte) int {
	switch {
	case b < 0x08:
		return markWidth
	case utf8.RuneStart(b):
		return 1
	}
	return 0
}

// lastCharacters is the end of text, at most n characters wide, beginning with
// a whole one.
func lastCharacters(text []byte, n int) []byte {
	i := len(text)
	for i > 0 {
		w := width(text[i-1])
		if n < w {
			break
		}
		n -= w
		i--
	}
	for i < len(text) && !utf8.RuneStart(text[i]) {
		i++
	}
	return text[i:]
}
