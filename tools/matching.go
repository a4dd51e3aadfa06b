package tools

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// longestSearched is how many bytes of a line are matched.
	longestSearched = 1 << 20

	// longestShown is how many characters of a line a search shows, and
	// shownBefore how many of those come before the match where it is cut.
	longestShown = 500
	shownBefore  = 100
)

// matcher looks for lines in files.
type matcher struct {
	expr    *lineExpr
	context int   // lines to keep around a match
	enough  int64 // matches after which a file isn't read on; 0 is never
	once    bool  // one match is enough
	bare    bool  // no line is kept
}

// searched is what a matcher found in one file.
type searched struct {
	rows    []foundRow
	matches int64
	bytes   int64
	binary  bool
	cut     bool // a line was longer than what is matched
}

// foundRow is a line of a file that a search shows.
type foundRow struct {
	number int64
	text   string
	match  bool // and not just beside one
}

// file searches one file of a VM.
func (m *matcher) file(ctx context.Context, client *slicer.SlicerClient, vm, p string) (searched, error) {
	file, err := client.OpenFile(ctx, vm, p)
	if err != nil {
		return searched{}, err
	}
	defer file.Close()
	counted := &countingReader{r: file}
	s, err := m.read(ctx, bufio.NewReaderSize(counted, 64<<10))
	s.bytes = counted.n
	return s, err
}

func (m *matcher) read(ctx context.Context, r *bufio.Reader) (searched, error) {
	var s searched
	kept := 0 // bytes of rows
	start, err := r.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return s, err
	}
	if kind := http.DetectContentType(start); isImage(kind) || isBinary(start, kind) {
		s.binary = true
		return s, nil
	}
	var number int64
	var before []foundRow // lines that a match may want above it
	after := 0            // lines that the last match still wants below it
	var long []byte
	for {
		line, isCut, err := wholeLine(r, &long)
		atEnd := errors.Is(err, io.EOF)
		if err != nil && !atEnd {
			return s, err
		}
		if atEnd && len(line) == 0 {
			return s, nil
		}
		number++
		s.cut = s.cut || isCut
		place, err := m.expr.find(ctx, line)
		if err != nil {
			return s, err
		}
		switch {
		case place != nil:
			s.matches++
			// One match beyond what is enough tells that there are more.
			if m.once || m.enough > 0 && s.matches > m.enough {
				return s, nil
			}
			if !m.bare {
				rows := slices.Concat(before, []foundRow{{number, shownLine(line, place[0]), true}})
				s.rows, kept = append(s.rows, rows...), kept+textBytes(rows)
				before, after = before[:0], m.context
			}
		case after > 0:
			s.rows = append(s.rows, foundRow{number, shownLine(line, 0), false})
			kept += len(s.rows[len(s.rows)-1].text)
			after--
		case m.context > 0:
			if len(before) == m.context {
				copy(before, before[1:])
				before = before[:len(before)-1]
			}
			before = append(before, foundRow{number, shownLine(line, 0), false})
		}
		if atEnd || kept > mostCharacters*utf8.UTFMax {
			return s, nil // no answer shows more
		}
	}
}

func textBytes(rows []foundRow) int {
	n := 0
	for _, row := range rows {
		n += len(row.text)
	}
	return n
}

// wholeLine reads a line without its end, or the beginning of one that is too
// long. long is room for lines that the reader's buffer doesn't hold.
func wholeLine(r *bufio.Reader, long *[]byte) (line []byte, isCut bool, err error) {
	line, err = r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		*long = append((*long)[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n')
			room := longestSearched - len(*long)
			isCut = isCut || len(line) > room
			*long = append(*long, line[:min(len(line), room)]...)
		}
		line = *long
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), isCut, err
}

// shownLine is a line as a search shows it, cut around the byte at which it
// matches.
func shownLine(line []byte, at int) string {
	var out []byte
	if utf8.RuneCount(line[:min(len(line), longestShown*utf8.UTFMax)]) <= longestShown {
		at = 0
	}
	if from := at - shownBefore; from > 0 {
		for from < len(line) && !utf8.RuneStart(line[from]) {
			from++
		}
		line = line[from:]
		out = append(out, "…"...)
	}
	shown := 0
	for len(line) > 0 {
		if shown == longestShown {
			return string(append(out, "…"...))
		}
		r, n := utf8.DecodeRune(line)
		line = line[n:]
		shown++
		if r == '\t' {
			out = append(out, '\t')
			continue
		}
		out = visible(out, r)
	}
	return string(out)
}

// countingReader counts what is read.
type countingReader struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
