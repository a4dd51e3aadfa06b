package tools

import (
	"bytes"
	"encoding/binary"
)

const (
	// seed is how many bytes of a form lead to it. Forms that are shorter have
	// an index of their own, of shortSeed bytes.
	seed      = 8
	shortSeed = 4

	// mostStride is how far the places inside a long form that lead to it are
	// apart at the most, and mostInside how many share a seed.
	mostStride = 64
	mostInside = 8
)

// secretSpan is a part of a text that shows a value.
type secretSpan struct {
	from, to int
	secret   *knownSecret
}

// secretIndex finds the forms of values in one pass over a text.
type secretIndex struct {
	forms  []secretForm
	begin  map[uint64][]int32 // forms by their first seed bytes
	short  map[uint32][]int32 // shorter forms by their first shortSeed bytes
	inside map[uint64][]place // seeds further in
	stride int                // the greatest distance between those of a form
}

// place is a place in a form.
type place struct{ form, at int32 }

func newSecretIndex() *secretIndex {
	return &secretIndex{begin: map[uint64][]int32{}, short: map[uint32][]int32{}, inside: map[uint64][]place{}}
}

func (x *secretIndex) add(f secretForm) {
	n := int32(len(x.forms))
	text := []byte(f.text)
	switch {
	case len(text) < shortSeed:
		return
	case len(text) < seed:
		key := binary.LittleEndian.Uint32(text)
		x.short[key] = append(x.short[key], n)
		x.forms = append(x.forms, f)
		return
	}
	x.forms = append(x.forms, f)
	key := binary.LittleEndian.Uint64(text)
	x.begin[key] = append(x.begin[key], n)
	if !f.whole {
		return
	}
	stride := min(max(1, len(text)/256), mostStride)
	x.stride = max(x.stride, stride)
	for at := stride; at+seed <= len(text); at += stride {
		key := binary.LittleEndian.Uint64(text[at:])
		if len(x.inside[key]) < mostInside {
			x.inside[key] = append(x.inside[key], place{n, int32(at)})
		}
	}
}

// search is one pass over a text.
type search struct {
	*secretIndex
	text  []byte
	spans []secretSpan
	edge  int           // the last edge, at or before where the pass is
	until map[int32]int // where the last span of a form ends
}

// find adds the spans of text that show a value.
func (x *secretIndex) find(text []byte, spans []secretSpan) []secretSpan {
	if len(x.forms) == 0 {
		return spans
	}
	s := search{secretIndex: x, text: text, spans: spans, until: map[int32]int{}}
	for i := range text {
		if beginsAfterEdge(text, i, s.edge) {
			s.edge = i
		}
		if i+shortSeed > len(text) {
			break
		}
		for _, n := range x.short[binary.LittleEndian.Uint32(text[i:])] {
			s.try(n, i, i, 0)
		}
		if i+seed > len(text) {
			continue
		}
		key := binary.LittleEndian.Uint64(text[i:])
		for _, n := range x.begin[key] {
			s.try(n, i, i, 0)
		}
		if i-s.edge < x.stride {
			for _, p := range x.inside[key] {
				s.tryInside(p, i)
			}
		}
	}
	return s.spans
}

// tryInside looks whether what stands since the last edge is the end of a form,
// or a part that ends at an edge too.
func (s *search) tryInside(p place, i int) {
	since := i - s.edge
	at := int(p.at) - since
	if at <= 0 || s.forms[p.form].text[at:p.at] != string(s.text[s.edge:i]) {
		return
	}
	s.try(p.form, s.edge, s.edge, at)
}

// try looks how far a form stands in the text at i, from its place at on, and
// takes what does if the form is whole or cut off by an edge.
func (s *search) try(n int32, from, i, at int) {
	if from < s.until[n] {
		return
	}
	f := &s.forms[n]
	to, end := follow(s.text, i, f.text, at)
	part := end-at < len(f.text)
	if part && (end < len(f.text) && !endsAtEdge(s.text, to) || end-at < leastPart(f) || isArmour(s.text[i:to])) {
		return
	}
	s.until[n] = to
	if at == 0 && f.before && from > 0 && isBase64(s.text[from-1]) {
		from--
	}
	if end == len(f.text) && f.after {
		if to < len(s.text) && isBase64(s.text[to]) {
			to++
		}
	}
	s.spans = append(s.spans, secretSpan{from: from, to: to, secret: f.secret})
}

// leastPart is how many bytes of a form must stand at an edge to be taken for
// it: the larger of two halves always does.
func leastPart(f *secretForm) int {
	return min(max(len(f.text)/2, seed), 2*seed)
}

// isArmour says whether a part is but the first or the last line of a PEM block.
func isArmour(part []byte) bool {
	part = bytes.TrimSpace(part)
	return bytes.HasPrefix(part, []byte(armour)) && bytes.HasSuffix(part, []byte(armour)) && !bytes.Contains(part, []byte{'\n'})
}

// follow compares text from i on with form from at on, over the breaks of a text
// that is wrapped. It returns where both differ.
func follow(text []byte, i int, form string, at int) (to, end int) {
	for at < len(form) && i < len(text) {
		if text[i] == form[at] {
			i++
			at++
			continue
		}
		n := lineBreak(text[i:])
		if n == 0 || i+n >= len(text) || text[i+n] != form[at] {
			break
		}
		i += n
	}
	return i, at
}

// lineBreak is the length of a line break at the beginning of text, with what
// the tools put before the next line: a number, or the name of its stream.
func lineBreak(text []byte) int {
	n := 0
	if len(text) > 0 && text[0] == '\r' {
		n++
	}
	if n >= len(text) || text[n] != '\n' {
		return 0
	}
	n++
	if rest := text[n:]; bytes.HasPrefix(rest, []byte(stderrPrefix)) || bytes.HasPrefix(rest, []byte(stdoutPrefix)) {
		return n + len(stderrPrefix)
	}
	const widest = 20
	next := text[n:min(len(text), n+widest)]
	number := bytes.TrimLeft(next, " ")
	tab := bytes.TrimLeft(number, "0123456789")
	if len(tab) > 0 && len(tab) < len(number) && tab[0] == '\t' {
		return n + len(next) - len(tab) + 1
	}
	return n
}

// ellipsis is where the tools cut a line.
const ellipsis = "…"

// beginsAfterEdge says whether text has an edge right before i: its beginning,
// that of a line, or where something was cut. edge is the one before.
func beginsAfterEdge(text []byte, i, edge int) bool {
	if i == 0 {
		return true
	}
	switch text[i-1] {
	case '\n', '\r', '\t':
		return true
	case ' ':
		mark := text[edge:i]
		return len(mark) == len(stderrPrefix) && (string(mark) == stderrPrefix || string(mark) == stdoutPrefix)
	}
	return bytes.HasSuffix(text[:i], []byte(ellipsis))
}

// endsAtEdge says whether text has an edge at i.
func endsAtEdge(text []byte, i int) bool {
	return i == len(text) || text[i] == '\n' || text[i] == '\r' || text[i] == '\t' || bytes.HasPrefix(text[i:], []byte(ellipsis))
}
