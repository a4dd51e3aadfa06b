package slicer

import "bytes"

// The texts and numbers that a frame may hold.
const (
	textType = iota
	textTimestamp
	textStartedAt
	textEndedAt
	textEncoding
	textData
	textStdout
	textStderr
	textSignal
	textError
	textMessage
	texts // how many there are
)

const (
	numberPID = iota
	numberExitCode
	numberID
	numberDroppedBytes
	numberDroppedFrames
	numbers
)

// frameTokens are the values of a frame, as they stand in its line.
type frameTokens struct {
	text   [texts][]byte // between the quotes; nil if absent
	number [numbers]int64
	known  [numbers]bool
}

// scan finds the values of a frame of one of the known shapes: an object whose
// keys are all known and written plainly, none twice, each with a text, a whole
// number or null as befits it. It returns false on whatever else.
func (t *frameTokens) scan(line []byte) bool {
	rest, ok := token(line, '{')
	if !ok {
		return false
	}
	if end, ok := token(rest, '}'); ok {
		return len(skipSpace(end)) == 0
	}
	for {
		var key []byte
		if key, rest, ok = quoted(skipSpace(rest)); !ok {
			return false
		}
		if rest, ok = token(rest, ':'); !ok {
			return false
		}
		if rest, ok = t.scanValue(key, skipSpace(rest)); !ok {
			return false
		}
		if end, ok := token(rest, '}'); ok {
			return len(skipSpace(end)) == 0
		}
		if rest, ok = token(rest, ','); !ok {
			return false
		}
	}
}

// scanValue reads the value of key at the start of p and returns what follows.
func (t *frameTokens) scanValue(key, p []byte) ([]byte, bool) {
	slot, isText, ok := placeOf(key)
	if !ok {
		return p, false
	}
	if after, isNull := bytes.CutPrefix(p, []byte("null")); isNull {
		// As if it were absent; but a time can be taken back by it.
		isTime := isText && textTimestamp <= slot && slot <= textEndedAt
		return after, !isTime
	}
	if isText {
		if t.text[slot] != nil {
			return p, false
		}
		t.text[slot], p, ok = quoted(p)
		return p, ok
	}
	if t.known[slot] {
		return p, false
	}
	t.known[slot] = true
	t.number[slot], p, ok = wholeNumber(p)
	return p, ok
}

// placeOf tells where the value of a key belongs.
func placeOf(key []byte) (slot int, isText, ok bool) {
	switch string(key) {
	case "type":
		return textType, true, true
	case "timestamp":
		return textTimestamp, true, true
	case "started_at":
		return textStartedAt, true, true
	case "ended_at":
		return textEndedAt, true, true
	case "encoding":
		return textEncoding, true, true
	case "data":
		return textData, true, true
	case "stdout":
		return textStdout, true, true
	case "stderr":
		return textStderr, true, true
	case "signal":
		return textSignal, true, true
	case "error":
		return textError, true, true
	case "message":
		return textMessage, true, true
	case "pid":
		return numberPID, false, true
	case "exit_code":
		return numberExitCode, false, true
	case "id":
		return numberID, false, true
	case "dropped_bytes":
		return numberDroppedBytes, false, true
	case "dropped_frames":
		return numberDroppedFrames, false, true
	}
	return 0, false, false
}

func skipSpace(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t' || p[0] == '\r') {
		p = p[1:]
	}
	return p
}

// token returns what follows char, which may have space before it.
func token(p []byte, char byte) ([]byte, bool) {
	p = skipSpace(p)
	if len(p) == 0 || p[0] != char {
		return p, false
	}
	return p[1:], true
}

// quoted returns the inside of the JSON string that p begins with, unchecked,
// and what follows it.
func quoted(p []byte) (inside, rest []byte, ok bool) {
	if len(p) == 0 || p[0] != '"' {
		return nil, p, false
	}
	p = p[1:]
	for end := 0; ; end++ {
		n := bytes.IndexByte(p[end:], '"')
		if n < 0 {
			return nil, p, false
		}
		end += n
		slashes := 0
		for slashes < end && p[end-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return p[:end:end], p[end+1:], true
		}
	}
}

// wholeNumber returns the number that p begins with, of 18 digits at most, and
// what follows it.
func wholeNumber(p []byte) (value int64, rest []byte, ok bool) {
	rest, negative := bytes.CutPrefix(p, []byte("-"))
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		value = value*10 + int64(rest[digits]-'0')
		if digits++; digits > 18 {
			return 0, p, false
		}
	}
	if digits == 0 || digits > 1 && rest[0] == '0' {
		return 0, p, false
	}
	if negative {
		if value == 0 {
			return 0, p, false // not every number may be written so
		}
		value = -value
	}
	return value, rest[digits:], true
}
