package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// prefixLen is how much of a line that is too long is kept, to find its id.
const prefixLen = 4 << 10

// errLineTooLong is next's error for a line over the limit. The line's
// beginning comes with it, its rest has been skipped.
var errLineTooLong = errors.New("line too long")

// lineReader splits a stream into lines of bounded length.
type lineReader struct {
	r   *bufio.Reader
	max int // bytes, without the newline
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: limit}
}

// next returns the next line that isn't blank, without its newline. The last
// line needs none. io.EOF says that there are no more.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return line, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// line returns the next line, blank or not.
func (l *lineReader) line() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := l.r.ReadSlice('\n')
		whole := err == nil
		if whole {
			part = part[:len(part)-1]
		}
		switch {
		case tooLong:
		case len(line)+len(part) > l.max:
			tooLong = true
			line = append(line, part...)
			line = bytes.Clone(line[:min(len(line), prefixLen)])
		default:
			line = append(line, part...)
		}
		switch {
		case whole || errors.Is(err, io.EOF) && (tooLong || len(line) > 0):
			if tooLong {
				return line, errLineTooLong
			}
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// idInPrefix returns the id of a JSON-RPC message of which only the beginning
// is known, or nil when it isn't in there.
func idInPrefix(prefix []byte) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(prefix))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil
		}
		if key == "id" {
			return value
		}
	}
	return nil
}
