package tools

import (
	"fmt"
	"sort"
	"strings"
)

// edit is one replacement of edit_file.
type edit struct {
	OldString  string `json:"old_string" jsonschema:"required,minLength=1,maxLength=1048576" jsonschema_description:"Exact text, without line numbers; must be there once"`
	NewString  string `json:"new_string" jsonschema:"required,maxLength=1048576" jsonschema_description:"What takes its place"`
	ReplaceAll bool   `json:"replace_all,omitempty" jsonschema:"default=false" jsonschema_description:"Replace each occurrence"`
}

// revision is a text under change.
type revision struct {
	text string
	kept []kept // what of the old text is left, in order
	crlf bool   // lines end in CR LF, at least some
	most string // how most of them end
}

// kept is a run of the old text that is still there.
type kept struct{ from, at, length int } // from in the old text, at in the new

// stretch is a part of a text.
type stretch struct{ start, end int }

func newRevision(text string) *revision {
	r := &revision{text: text, kept: []kept{{length: len(text)}}, most: "\n"}
	crlf := strings.Count(text, "\r\n")
	r.crlf = crlf > 0
	if 2*crlf > strings.Count(text, "\n") {
		r.most = "\r\n"
	}
	return r
}

// apply makes an edit and returns how many places it changed. name is the
// edit's own in an error.
func (r *revision) apply(name string, e edit) (int, error) {
	old, replacement := e.OldString, e.NewString
	if r.crlf {
		old, replacement = plainEnds(old), strings.ReplaceAll(plainEnds(replacement), "\n", r.most)
	}
	if e.OldString == e.NewString {
		return 0, refuse("%s changes nothing: old_string and new_string are the same. Nothing was written.", name)
	}
	places := r.find(old)
	switch {
	case len(places) == 0:
		return 0, r.noMatch(name, old)
	case len(places) > 1 && !e.ReplaceAll:
		return 0, r.manyMatches(name, places)
	}
	size := len(r.text) + len(places)*len(replacement)
	for _, p := range places {
		size -= p.end - p.start
	}
	if size > largestEdit {
		return 0, refuse("%s would make the file %s; %s is the most that edit_file takes. Nothing was written. Use exec with sed, or a script.", name, count(int64(size), "byte"), count(largestEdit, "byte"))
	}
	r.replace(places, replacement)
	return len(places), nil
}

// find returns where old is in the text, whatever its lines end in where they
// end in CR LF.
func (r *revision) find(old string) []stretch {
	text, dropped := r.text, []int(nil)
	if r.crlf {
		text, dropped = dropCRs(text)
	}
	var places []stretch
	for from := 0; ; {
		i := strings.Index(text[from:], old)
		if i < 0 {
			return places
		}
		start, end := from+i, from+i+len(old)
		places = append(places, stretch{start + sort.SearchInts(dropped, start), end + sort.SearchInts(dropped, end)})
		from = end
	}
}

// dropCRs returns text with LF for CR LF, and where in it a CR was dropped.
func dropCRs(text string) (plain string, dropped []int) {
	var b strings.Builder
	for {
		i := strings.Index(text, "\r\n")
		if i < 0 {
			b.WriteString(text)
			return b.String(), dropped
		}
		b.WriteString(text[:i])
		dropped = append(dropped, b.Len())
		b.WriteByte('\n')
		text = text[i+2:]
	}
}

func plainEnds(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// replace puts replacement in every one of places.
func (r *revision) replace(places []stretch, replacement string) {
	var text strings.Builder
	var left []kept
	done, k := 0, 0 // of the text, and of what was kept
	keep := func(until int) {
		for ; k < len(r.kept); k++ {
			run := r.kept[k]
			start, end := max(run.at, done), min(run.at+run.length, until)
			if start < end {
				left = append(left, kept{run.from + start - run.at, text.Len() + start - done, end - start})
			}
			if run.at+run.length > until {
				break
			}
		}
		text.WriteString(r.text[done:until])
	}
	for _, p := range places {
		keep(p.start)
		text.WriteString(replacement)
		done = p.end
	}
	keep(len(r.text))
	r.text, r.kept = text.String(), left
}

// manyMatches says where old_string is.
func (r *revision) manyMatches(name string, places []stretch) error {
	const most = 20
	var numbers []string
	line, at := 1, 0
	for _, p := range places[:min(most, len(places))] {
		line += strings.Count(r.text[at:p.start], "\n")
		at = p.start
		numbers = append(numbers, fmt.Sprint(line))
	}
	lines := strings.Join(numbers, ", ")
	if more := len(places) - most; more > 0 {
		lines += fmt.Sprintf(" and %s more", thousands(int64(more)))
	}
	return refuse("%s: old_string is there %s times, on lines %s%s. Nothing was written. Put more of the lines around the right one into old_string, or set replace_all=true to change all.",
		name, thousands(int64(len(places))), lines, r.since())
}

// since says which lines are meant when earlier edits have moved them.
func (r *revision) since() string {
	if len(r.kept) == 1 && r.kept[0].from == 0 && r.kept[0].at == 0 && r.kept[0].length == len(r.text) {
		return ""
	}
	return " (as the edits before it leave the file)"
}
