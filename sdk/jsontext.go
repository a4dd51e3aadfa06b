package slicer

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// plainRun returns how many bytes at the start of raw, the inside of a JSON
// string, stand for themselves: there is no escape and no control character in
// them. ascii says that no byte up to there, or in the few after it, has the
// high bit.
func plainRun(raw []byte) (n int, ascii bool) {
	var high uint64
	for ; len(raw)-n >= 8; n += 8 {
		word := binary.LittleEndian.Uint64(raw[n:])
		escape := word ^ lowBits*'\\'
		// The lowest bit that is set is that of the first such byte.
		special := ((word-lowBits*0x20)&^word | (escape-lowBits)&^escape) & highBits
		high |= word & highBits
		if special != 0 {
			return n + bits.TrailingZeros64(special)/8, high == 0
		}
	}
	for ; n < len(raw); n++ {
		if raw[n] < 0x20 || raw[n] == '\\' {
			break
		}
		high |= uint64(raw[n]) & 0x80
	}
	return n, high == 0
}

// isPlain reports whether raw, the inside of a JSON string, stands for itself.
func isPlain(raw []byte) bool {
	n, ascii := plainRun(raw)
	return n == len(raw) && (ascii || utf8.Valid(raw))
}

// appendUnescaped appends what raw, the inside of a JSON string, stands for. As
// in encoding/json a byte that is not UTF-8, and half a surrogate pair, becomes
// U+FFFD. It returns false if raw is malformed.
func appendUnescaped(dst, raw []byte) ([]byte, bool) {
	for {
		n, ascii := plainRun(raw)
		switch run := raw[:n]; {
		case ascii || utf8.Valid(run):
			dst = append(dst, run...)
		default:
			for len(run) > 0 {
				r, size := utf8.DecodeRune(run)
				dst = utf8.AppendRune(dst, r)
				run = run[size:]
			}
		}
		if n == len(raw) {
			return dst, true
		}
		var ok bool
		if dst, raw, ok = appendEscape(dst, raw[n:]); !ok {
			return dst, false
		}
	}
}

// appendEscape appends what the escape at the start of raw stands for, and
// returns what comes after it.
func appendEscape(dst, raw []byte) (_, rest []byte, ok bool) {
	if len(raw) < 2 || raw[0] != '\\' {
		return dst, raw, false
	}
	char := raw[1]
	switch char {
	case '"', '\\', '/':
	case 'b':
		char = '\b'
	case 'f':
		char = '\f'
	case 'n':
		char = '\n'
	case 'r':
		char = '\r'
	case 't':
		char = '\t'
	case 'u':
		r := codeUnit(raw)
		if r < 0 {
			return dst, raw, false
		}
		raw = raw[6:]
		if utf16.IsSurrogate(r) {
			// Without its other half, that is U+FFFD. What follows is
			// then read by itself, well formed or not.
			r = utf16.DecodeRune(r, codeUnit(raw))
			if r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		return utf8.AppendRune(dst, r), raw, true
	default:
		return dst, raw, false
	}
	return append(dst, char), raw[2:], true
}

// codeUnit returns the value of the \uXXXX at the start of raw, or -1.
func codeUnit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	var unit rune
	for _, char := range raw[2:6] {
		switch {
		case '0' <= char && char <= '9':
			char -= '0'
		case 'a' <= char && char <= 'f':
			char -= 'a' - 10
		case 'A' <= char && char <= 'F':
			char -= 'A' - 10
		default:
			return -1
		}
		unit = unit<<4 | rune(char)
	}
	return unit
}
