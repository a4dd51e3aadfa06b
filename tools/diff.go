package tools

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// contextLines is how many unchanged lines a diff shows around a change.
	contextLines = 2

	// longestDiff bounds a diff in characters, and longestDiffLine a line of it.
	longestDiff     = 6000
	longestDiffLine = 500
)

// diff shows what has changed since the old text, as a unified diff, fenced. It
// is empty when nothing has.
func (r *revision) diff(old string) string {
	before, after := inLines(old), inLines(r.text)
	hunks := r.hunks(before, after)
	var out strings.Builder
	used := 0
	for i := 0; i < len(hunks); {
		n := 1 // how many hunks share their context
		for i+n < len(hunks) && hunks[i+n].old.start-hunks[i+n-1].old.end <= 2*contextLines {
			n++
		}
		for _, row := range hunkRows(hunks[i:i+n], before, after) {
			used += utf8.RuneCountInString(row)
			if used > longestDiff {
				return fenced(out.String()) + fmt.Sprintf("\n… the diff goes on; it has %s in all", count(int64(len(hunks)), "change"))
			}
			out.WriteString(row)
		}
		i += n
	}
	if out.Len() == 0 {
		return ""
	}
	return fenced(out.String())
}

// hunk is a change in whole lines, counted from 0.
type hunk struct{ old, new stretch }

// hunks are the stretches that are not kept, in whole lines; those that share a
// line are one.
func (r *revision) hunks(before, after lined) []hunk {
	var list []hunk
	from, at := 0, 0
	ends := append(slices.Clone(r.kept), kept{len(before.text), len(after.text), 0})
	for _, k := range ends {
		if k.from > from || k.at > at {
			h := widen(before, after, stretch{from, k.from}, stretch{at, k.at})
			last := len(list) - 1
			if last >= 0 && (h.old.start < list[last].old.end || h.new.start < list[last].new.end) {
				list[last].old.end, list[last].new.end = h.old.end, h.new.end
			} else {
				list = append(list, h)
			}
		}
		from, at = k.from+k.length, k.at+k.length
	}
	for i := range list {
		list[i] = narrow(before, after, list[i])
	}
	return slices.DeleteFunc(list, func(h hunk) bool { return h.old.start == h.old.end && h.new.start == h.new.end })
}

// widen is a change of bytes as one of whole lines.
func widen(before, after lined, old, now stretch) hunk {
	h := hunk{stretch{before.at(old.start), before.lines()}, stretch{after.at(now.start), after.lines()}}
	switch {
	case before.begins(old.end) && after.begins(now.end):
		h.old.end, h.new.end = before.at(old.end), after.at(now.end)
	case old.end < len(before.text):
		// What comes after is the same in both, the line's end too.
		h.old.end, h.new.end = before.holding(old.end)+1, after.holding(now.end)+1
	}
	return h
}

// narrow takes the lines off a hunk that are the same at its beginning and end.
func narrow(before, after lined, h hunk) hunk {
	for h.old.start < h.old.end && h.new.start < h.new.end && before.line(h.old.start) == after.line(h.new.start) {
		h.old.start++
		h.new.start++
	}
	for h.old.start < h.old.end && h.new.start < h.new.end && before.line(h.old.end-1) == after.line(h.new.end-1) {
		h.old.end--
		h.new.end--
	}
	return h
}

// lined is a text and where its lines begin.
type lined struct {
	text   string
	starts []int // and the text's end
}

func inLines(text string) lined {
	l := lined{text: text}
	for at := 0; at < len(text); {
		l.starts = append(l.starts, at)
		n := strings.IndexByte(text[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
	}
	l.starts = append(l.starts, len(text))
	return l
}

func (l lined) lines() int { return len(l.starts) - 1 }

// line is a line with its end.
func (l lined) line(i int) string { return l.text[l.starts[i]:l.starts[i+1]] }

// begins says whether a line begins, or would begin, at a byte.
func (l lined) begins(at int) bool { return at == 0 || l.text[at-1] == '\n' }

// holding is the line that holds a byte.
func (l lined) holding(at int) int {
	i, exact := slices.BinarySearch(l.starts, at)
	if exact {
		return i
	}
	return i - 1
}

// at is the line that a change which starts at a byte starts in.
func (l lined) at(at int) int {
	if l.begins(at) {
		return l.holding(at)
	}
	return l.holding(at - 1)
}

// hunkRows writes hunks that lie close together, with the lines around them.
func hunkRows(hunks []hunk, before, after lined) []string {
	first, last := hunks[0], hunks[len(hunks)-1]
	lead := min(contextLines, first.old.start)
	trail := min(contextLines, before.lines()-last.old.end)
	rows := []string{fmt.Sprintf("@@ -%s +%s @@\n",
		hunkRange(first.old.start-lead, last.old.end+trail), hunkRange(first.new.start-lead, last.new.end+trail))}
	at := first.old.start - lead
	for _, h := range hunks {
		same := 0 // bytes at the beginning of the lines that change
		if h.old.start < h.old.end && h.new.start < h.new.end {
			same = commonPrefix(before.line(h.old.start), after.line(h.new.start))
		}
		rows = append(rows, diffRows(" ", before, stretch{at, h.old.start}, 0)...)
		rows = append(rows, diffRows("-", before, h.old, same)...)
		rows = append(rows, diffRows("+", after, h.new, same)...)
		at = h.old.end
	}
	return append(rows, diffRows(" ", before, stretch{at, at + trail}, 0)...)
}

// hunkRange is a range of lines as a diff writes it: without lines it names the
// one before.
func hunkRange(start, end int) string {
	if start == end {
		return fmt.Sprintf("%d,0", start)
	}
	return fmt.Sprintf("%d,%d", start+1, end-start)
}

// commonPrefix is how many bytes two texts begin with alike.
func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// diffRows writes lines of a text with a sign before each. The first is shown
// from where it changes, after as many bytes as stay the same, if it is long.
func diffRows(sign string, text lined, lines stretch, same int) []string {
	var rows []string
	for i := lines.start; i < lines.end; i++ {
		line := text.line(i)
		bare := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		row := []byte(sign)
		const lead = 100 // bytes shown before a change
		if from := same - lead; i == lines.start && from > 0 && len(bare) > longestDiffLine {
			for from > 0 && from < len(bare) && !utf8.RuneStart(bare[from]) {
				from--
			}
			bare = bare[min(from, len(bare)):]
			row = append(row, "…"...)
		}
		for _, c := range cut(prefix(bare, 4*longestDiffLine), longestDiffLine) {
			if c == '\t' {
				row = append(row, '\t')
				continue
			}
			row = visible(row, c)
		}
		row = append(row, '\n')
		if !strings.HasSuffix(line, "\n") {
			row = append(row, "\\ No newline at end of file\n"...)
		}
		rows = append(rows, string(row))
	}
	return rows
}
