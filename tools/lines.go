package tools

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// page is the part of a text file that read_file shows, as cat -n numbers it.
// Every line of the file begins with its number, so that none can pass for a
// line of the answer's own.
type page struct {
	text   strings.Builder
	used   int   // characters of text
	last   int64 // number of the last line that is shown
	crlf   bool  // a line that is shown ends in CR LF
	noEOL  bool  // the last line of the file has no newline
	closed bool  // no more fits
}

// readLines numbers the lines from in.Offset on, in bounded memory however
// long the file and its lines are.
func readLines(r *bufio.Reader, in readFileInput, vm string) (Result, error) {
	var p page
	var number int64 // of the line that has been read last
	var beyond int64 // bytes read after the page was full
	counted := true  // the file was read to its end
	line := make([]byte, 0, longestLine*utf8.UTFMax)
	for {
		var size, chars int64
		var err error
		line, size, chars, err = nextLine(r, line[:0], number+1 < in.Offset || p.closed)
		if size == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return Result{}, err
		}
		number++
		p.noEOL = err != nil
		switch {
		case p.closed:
			beyond += size
		case number >= in.Offset:
			p.add(number, line, chars)
			p.closed = p.closed || p.last == in.Offset+in.Limit-1
		}
		if err != nil {
			break
		}
		if beyond > furtherCount {
			counted = false
			break
		}
	}
	return p.result(in, vm, number, counted)
}

// nextLine reads one line, without its newline, and keeps the first longestLine
// characters of it, or none when it is to be skipped. size counts its bytes
// with the newline, chars its characters. The error is io.EOF for a line that
// has no newline.
func nextLine(r *bufio.Reader, line []byte, skip bool) (kept []byte, size, chars int64, err error) {
	const enough = longestLine*utf8.UTFMax + utf8.UTFMax
	for {
		part, err := r.ReadSlice('\n')
		size += int64(len(part))
		if err == nil {
			part = part[:len(part)-1]
		}
		if !skip {
			chars += int64(utf8.RuneCount(part))
			line = append(line, part[:min(len(part), max(0, enough-len(line)))]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, size, chars, err
		}
	}
}

// add puts a line on the page if it fits.
func (p *page) add(number int64, line []byte, chars int64) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
		p.crlf = true
		chars--
	}
	row := fmt.Appendf(nil, "%6d\t", number)
	shown := 0
	for i := 0; i < len(line) && shown < longestLine; shown++ {
		r, n := utf8.DecodeRune(line[i:])
		i += n
		if r == '\t' {
			row = append(row, '\t')
			continue
		}
		row = visible(row, r)
	}
	if more := chars - int64(shown); more > 0 {
		row = fmt.Appendf(row, "… (%s more)", count(more, "character"))
	}
	row = append(row, '\n')
	width := utf8.RuneCount(row)
	if p.used+width > mostCharacters {
		p.closed = true
		return
	}
	p.text.Write(row)
	p.used += width
	p.last = number
}

// result is the page with what comes before and after it. lines is how many
// the file has, as far as it was counted.
func (p *page) result(in readFileInput, vm string, lines int64, counted bool) (Result, error) {
	total := count(lines, "line")
	if !counted {
		total = "more than " + total
	}
	switch {
	case lines == 0:
		return Result{Text: fmt.Sprintf("%s is empty.", quote(in.FilePath))}, nil
	case p.last == 0:
		return Result{}, refuse("offset %d is beyond the end of %s, which has %s. Choose an offset from 1 to %d.", in.Offset, quote(in.FilePath), total, lines)
	}
	text := fmt.Sprintf("%s, lines %s–%s of %s", quote(in.FilePath), thousands(in.Offset), thousands(p.last), total)
	if p.crlf {
		text += ", CRLF"
	}
	text += "\n" + strings.TrimSuffix(p.text.String(), "\n")
	if p.last < lines {
		text += fmt.Sprintf("\nread_file(vm=%s, file_path=%s, offset=%d) reads on.", quote(vm), quote(in.FilePath), p.last+1)
	} else if p.noEOL {
		text += "\n(no newline at the end)"
	}
	return Result{Text: text}, nil
}
