package tools

import (
	"strconv"
	"strings"
)

// cursor is a place in a command's output: a piece, and how many bytes of it
// come before. The zero value is the oldest that is kept.
type cursor struct {
	piece  uint64
	offset int
}

// String is the cursor as a model hands it back.
func (c cursor) String() string {
	s := strconv.FormatUint(c.piece, 10)
	if c.offset > 0 {
		s += "." + strconv.Itoa(c.offset)
	}
	return s
}

// parseCursor reads what String wrote. "" is the beginning.
func parseCursor(s string) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	number, offset, dotted := strings.Cut(s, ".")
	var c cursor
	var err error
	if c.piece, err = strconv.ParseUint(number, 10, 63); err == nil && dotted {
		var n uint64
		n, err = strconv.ParseUint(offset, 10, 31)
		c.offset = int(n)
	}
	if err != nil {
		return cursor{}, noPlace(s)
	}
	return c, nil
}

// noPlace refuses a cursor that is none of a process's.
func noPlace(s string) error {
	return refuse("cursor %s is none: take it from an earlier answer about this process, or leave it out to read from the beginning.", quote(s))
}

// rest is what of a piece's text comes after the cursor.
func (c cursor) rest(number uint64, text string) string {
	if number != c.piece {
		return text
	}
	return text[min(c.offset, len(text)):]
}
