package tools

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "search_files",
	Title:       "Search files",
	Description: "Search text files in a microVM line by line. Binary files, .git and node_modules are passed over.",
	Toolset:     toolsetFiles,
	Effect:      Reads,
}, (*Toolset).searchFiles)

type searchFilesInput struct {
	Pattern string `json:"pattern" jsonschema:"required,minLength=1,maxLength=1000" jsonschema_description:"RE2, for one line"`
	Path    string `json:"path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Folder or file in the VM"`
	vmArgument
	Glob       string `json:"glob,omitempty" jsonschema:"maxLength=500" jsonschema_description:"Such as *.go or src/**/*.{ts,tsx}"`
	IgnoreCase bool   `json:"ignore_case,omitempty" jsonschema:"default=false" jsonschema_description:"Ignore case"`
	Context    int    `json:"context,omitempty" jsonschema:"minimum=0,maximum=20,default=0" jsonschema_description:"Lines around a match"`
	Mode       string `json:"mode,omitempty" jsonschema:"enum=content,enum=files,enum=count,maxLength=7,default=content" jsonschema_description:"Lines, paths or counts"`
	Limit      int64  `json:"limit,omitempty" jsonschema:"minimum=1,maximum=1000,default=100" jsonschema_description:"Most to show"`
}

func (t *Toolset) searchFiles(ctx context.Context, in searchFilesInput) (Result, error) {
	began := time.Now()
	if err := checkVMPath("path", in.Path); err != nil {
		return Result{}, err
	}
	only, err := parseGlob(in.Glob)
	if err != nil {
		return Result{}, err
	}
	m, err := newMatcher(in)
	if err != nil {
		return Result{}, err
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, t.within(2*askTime))
	defer cancel()
	info, err := t.client.Stat(limited, vm.Hostname, in.Path)
	if err != nil {
		return Result{}, t.listFailed(ctx, err, vm, in.Path)
	}
	f := &findings{in: in, vm: vm}
	s := &searching{
		client: t.client, vm: vm.Hostname, only: only, match: m,
		walk: &walk{client: t.client, vm: vm.Hostname, root: in.Path, deep: true},
	}
	saw, stop := t.progress(ctx, began)
	take := func(p string, res searched) bool {
		if saw != nil {
			saw(fmt.Sprintf("%s searched, %s", count(s.files, "file"), f.so()))
		}
		return f.take(p, res)
	}
	if info.IsDir() {
		err = s.run(limited, take)
	} else {
		f.alone = true
		j := &job{path: in.Path, size: info.Size, done: make(chan struct{})}
		if j.size <= largestSearched {
			s.work(limited, j)
		}
		_, err = s.took(limited, j, take)
	}
	stop()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if err != nil {
		return Result{}, t.listFailed(ctx, err, vm, in.Path)
	}
	if s.over != "" && s.files == 0 {
		return Result{}, t.listFailed(ctx, context.DeadlineExceeded, vm, in.Path)
	}
	text := f.result(s, time.Since(began))
	if s.over != "" {
		if stands := t.standingOf(ctx, vm); stands.text != "" {
			text += "\n" + stands.text
		}
	}
	return Result{Text: text}, nil
}

func newMatcher(in searchFilesInput) (*matcher, error) {
	flags := ""
	if in.IgnoreCase {
		flags = "(?i)"
	}
	expr, err := compileLine(flags + in.Pattern)
	if err != nil {
		return nil, refuse("pattern %s is not a regular expression of RE2: %s. It has no look-around and no back references; a backslash makes ( [ { . * + ? literal.", quote(in.Pattern), innermost(err))
	}
	m := &matcher{expr: expr, context: in.Context, enough: in.Limit}
	switch in.Mode {
	case "files":
		m.bare, m.once = true, true
	case "count":
		m.bare, m.enough = true, 0
	}
	return m, nil
}

// findings is the answer of search_files on its way.
type findings struct {
	in    searchFilesInput
	vm    slicer.SlicerNode
	alone bool // path is a file

	text    strings.Builder
	used    int   // characters of text
	matches int64 // lines that are shown, or counted
	files   int64
	first   string // the first file with a match
	line    int64  // its first one
	full    string // why there is no more, as a clause
}

// so says how much was found so far.
func (f *findings) so() string {
	if f.in.Mode == "files" {
		return count(f.files, "file") + " found"
	}
	return count(f.matches, "match") + " found"
}

// take adds a file's matches as far as they fit, and reports whether there is
// room for more.
func (f *findings) take(p string, res searched) bool {
	if f.in.Mode != "content" {
		return f.takeFile(p, res)
	}
	if f.matches >= f.in.Limit {
		f.full = "the limit is reached"
		return false
	}
	named := false
	var before int64
	for _, row := range res.rows {
		if row.match && f.matches >= f.in.Limit {
			f.full = "the limit is reached"
			return false
		}
		line := fmt.Sprintf("%6d- %s\n", row.number, row.text)
		if row.match {
			line = fmt.Sprintf("%6d: %s\n", row.number, row.text)
		}
		switch {
		case !named:
			line = fileName(p) + "\n" + line
		case row.number != before+1 && f.in.Context > 0:
			line = "    --\n" + line
		}
		if !f.add(line) {
			return false
		}
		if !named {
			named = true
			f.files++
		}
		before = row.number
		if row.match {
			f.matches++
			if f.first == "" {
				f.first, f.line = p, row.number
			}
		}
	}
	if res.matches > f.in.Limit {
		f.full = "the limit is reached"
		return false
	}
	return true
}

func (f *findings) takeFile(p string, res searched) bool {
	if f.files >= f.in.Limit {
		f.full = "the limit is reached"
		return false
	}
	row := fileName(p) + "\n"
	if f.in.Mode == "count" {
		row = fmt.Sprintf("%8s  %s", thousands(res.matches), row)
	}
	if !f.add(row) {
		return false
	}
	f.files++
	f.matches += res.matches
	return true
}

func (f *findings) add(text string) bool {
	width := utf8.RuneCountInString(text)
	if f.used+width > mostCharacters {
		f.full = "the answer is full"
		return false
	}
	f.text.WriteString(text)
	f.used += width
	return true
}

// call writes a search of the same kind, with other arguments.
func (f *findings) call(arguments string) string {
	ignore := ""
	if f.in.IgnoreCase {
		ignore = ", ignore_case=true"
	}
	return fmt.Sprintf("search_files(vm=%s, pattern=%s, path=%s%s%s)", quote(handle(f.vm)), quote(f.in.Pattern), quote(f.in.Path), ignore, arguments)
}

func (f *findings) result(s *searching, took time.Duration) string {
	at := "below " + quote(f.in.Path)
	if f.alone {
		at = "in " + quote(f.in.Path)
	}
	more := ""
	if f.full != "" || s.over != "" || s.walk.unfinished {
		more = "at least "
	}
	found := more + count(f.matches, "matching line")
	if f.in.Mode == "files" {
		found = more + count(f.files, "file") + " with a match"
	} else if f.files > 0 {
		found += " in " + count(f.files, "file")
	}
	if f.files == 0 {
		found = "no match for " + quote(f.in.Pattern)
		if more != "" {
			found += " so far"
		}
	}
	text := fmt.Sprintf("%s %s in VM %s; searched %s, %s, in %s\n", found, at, quote(handle(f.vm)), count(s.files, "text file"), size(s.bytes), seconds(took))
	text += f.text.String() + s.notes()
	switch {
	case f.full != "" && f.in.Mode == "content":
		text += fmt.Sprintf("There is more: %s. Narrow it with path, glob or pattern; %s counts them all.\n", f.full, f.call(`, mode="count"`))
	case f.full != "":
		text += fmt.Sprintf("There is more: %s. Narrow it with path, glob or pattern.\n", f.full)
	case f.files == 0 && s.files == 0 && f.in.Glob != "":
		text += fmt.Sprintf("No text file was searched. list_files(vm=%s, path=%s, glob=%s) shows what the glob matches.\n", quote(handle(f.vm)), quote(f.in.Path), quote(f.in.Glob))
	}
	if f.first != "" {
		text += fmt.Sprintf("read_file(vm=%s, file_path=%s, offset=%d) shows the lines around the first.\n", quote(handle(f.vm)), quote(f.first), max(1, f.line-20))
	}
	return strings.TrimSuffix(text, "\n")
}

// notes says what a search left out, in lines of their own.
func (s *searching) notes() string {
	text := s.walk.notes()
	if s.binary > 0 {
		text += fmt.Sprintf("Skipped %s.\n", count(s.binary, "binary file"))
	}
	if s.large.n > 0 {
		text += fmt.Sprintf("Skipped as larger than %s: %s. Use exec with grep there.\n", size(largestSearched), s.large.String())
	}
	if s.closed.n > 0 {
		text += fmt.Sprintf("Skipped as unreadable: %s.\n", s.closed.String())
	}
	if s.cut > 0 {
		text += fmt.Sprintf("Of lines over %s only the beginning was searched, in %s.\n", size(longestSearched), count(s.cut, "file"))
	}
	if s.over != "" || s.walk.unfinished {
		text += fmt.Sprintf("Not all was searched: %s after %s. Name a folder further down as path, or narrow with glob.\n", orElse(s.over, "there are too many folders"), fileName(s.last))
	}
	return text
}
