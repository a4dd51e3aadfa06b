package tools

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// mostNear is how many places are shown for an old_string that isn't there.
	mostNear = 3

	// longestNear is how many bytes of a line are compared and shown.
	longestNear = 300
)

// numberedLine begins a line as read_file shows it.
var numberedLine = regexp.MustCompile(`^ *[0-9]+\t`)

// noMatch says what in the text comes nearest to an old_string that isn't in
// it.
func (r *revision) noMatch(name, old string) error {
	lines := strings.Split(plainEnds(r.text), "\n")
	wanted := strings.Split(strings.Trim(old, "\n"), "\n")
	why := fmt.Sprintf("%s: old_string is not in the file%s. Nothing was written.", name, r.since())
	if len(wanted) > 0 && numberedLine.MatchString(wanted[0]) {
		return refuse("%s It begins with a line number of read_file: leave the numbers and the tab after them out.", why)
	}
	if at := sameButSpace(lines, wanted); at >= 0 {
		return refuse("%s Only white space differs from these lines:\n%s\nTake the text between the quotes as it stands there: \\t is a tab.", why, quotedLines(lines, at, at+len(wanted)))
	}
	near := nearestLines(lines, wanted)
	if len(near) == 0 {
		return refuse("%s Nothing in it is like it: read the file again with read_file, or find the place with search_files.", why)
	}
	var shown []string
	for _, at := range near {
		shown = append(shown, quotedLines(lines, at, at+1))
	}
	return refuse("%s The nearest lines are:\n%s\nRead the lines around the right one with read_file and copy them exactly.", why, strings.Join(shown, "\n"))
}

// sameButSpace is the first of as many lines as are wanted that differ from
// them in white space only; -1 if there are none.
func sameButSpace(lines, wanted []string) int {
	bare := func(s string) string { return strings.Join(strings.Fields(s), "") }
	want := make([]string, len(wanted))
	for i, line := range wanted {
		want[i] = bare(line)
	}
	if strings.Join(want, "") == "" {
		return -1
	}
	have := make([]string, len(lines))
	for i, line := range lines {
		have[i] = bare(line)
	}
	for i := 0; i+len(want) <= len(have); i++ {
		if sameLines(have[i:i+len(want)], want) {
			return i
		}
	}
	return -1
}

// sameLines compares lines. The first wanted one may be the end of a line, and
// the last the beginning of one, as an old_string may be.
func sameLines(have, want []string) bool {
	last := len(want) - 1
	if last == 0 {
		return strings.Contains(have[0], want[0])
	}
	return strings.HasSuffix(have[0], want[0]) && strings.HasPrefix(have[last], want[last]) &&
		slices.Equal(have[1:last], want[1:last])
}

// nearestLines finds the lines that are most like the longest of those wanted.
func nearestLines(lines, wanted []string) []int {
	longest := slices.MaxFunc(wanted, func(a, b string) int { return cmp.Compare(len(strings.TrimSpace(a)), len(strings.TrimSpace(b))) })
	want := pairs(longest)
	type scored struct {
		at    int
		score float64
	}
	var best []scored
	for i, line := range lines {
		const least = 0.4
		score := likeness(want, pairs(line))
		if score < least || len(best) == mostNear && score <= best[mostNear-1].score {
			continue
		}
		best = append(best, scored{i, score})
		slices.SortStableFunc(best, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
		best = best[:min(len(best), mostNear)]
	}
	var at []int
	for _, b := range best {
		at = append(at, b.at)
	}
	return at
}

// pairs are the neighbouring bytes of a line without the space around it,
// sorted.
func pairs(line string) []uint16 {
	line = strings.TrimSpace(prefix(line, longestNear))
	var list []uint16
	for i := 0; i+1 < len(line); i++ {
		list = append(list, uint16(line[i])<<8|uint16(line[i+1]))
	}
	slices.Sort(list)
	return list
}

// likeness is the share of pairs that two lines have in common, from 0 to 1.
func likeness(a, b []uint16) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	common := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			common++
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	return 2 * float64(common) / float64(len(a)+len(b))
}

// quotedLines writes lines with their numbers, and in quotes, so that tabs and
// blanks can be told apart.
func quotedLines(lines []string, from, to int) string {
	const most = 10
	var rows []string
	for i := from; i < min(to, from+most, len(lines)); i++ {
		row := strconv.Quote(prefix(lines[i], longestNear))
		if len(lines[i]) > longestNear {
			row += "…"
		}
		rows = append(rows, fmt.Sprintf("%6d: %s", i+1, row))
	}
	if to-from > most {
		rows = append(rows, fmt.Sprintf("… %d lines more", to-from-most))
	}
	return strings.Join(rows, "\n")
}
