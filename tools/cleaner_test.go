package tools

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// clean runs a stream through a cleaner in the pieces given.
func clean(pieces ...string) string {
	var out strings.Builder
	c := cleaner{emit: func(text []byte) { out.Write(text) }}
	for _, p := range pieces {
		c.write(p)
	}
	c.close()
	return out.String()
}

func TestCleaner(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []string
		want string
	}{
		{"plain text stays", []string{"a\tb\nc"}, "a\tb\nc"},
		{"colours are dropped", []string{"\x1b[1;31mred\x1b[0m\n"}, "red\n"},
		{"a split escape sequence is dropped", []string{"a\x1b", "[3", "1mb"}, "ab"},
		{"a title is dropped up to the bell", []string{"\x1b]0;title\x07x"}, "x"},
		{"a link is dropped up to its terminator", []string{"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"}, "link"},
		{"a device string is dropped", []string{"\x1bPq#0\x1b\\x"}, "x"},
		{"a character set is dropped", []string{"\x1b(Bx"}, "x"},
		{"an unended title gives way at the newline", []string{"\x1b]0;evil\nshown\n"}, "\nshown\n"},
		{"an unended title gives way after its bound", []string{"\x1b]0;" + strings.Repeat("x", longestSequence) + "shown"}, "xxshown"},
		{"progress collapses to its last state", []string{"10%\r20%\r", "100%\ndone\n"}, "100%\ndone\n"},
		{"progress without an end keeps its last state", []string{"10%\r20%\r"}, "20%"},
		{"CR LF is a newline", []string{"a\r\nb\r", "\nc"}, "a\nb\nc"},
		{"a backspace takes a character back", []string{"aé\b\bbc"}, "bc"},
		{"a split character is joined", []string{"gr\xc3", "\xbc\xc3\x9f"}, "grüß"},
		{"a split character of four bytes is joined", []string{"\xf0", "\x9f", "\x98", "\x80!"}, "😀!"},
		{"invalid bytes are replaced", []string{"a\xff\xc3(b\xe2\x82"}, "a\ufffd\ufffd(b\ufffd"},
		{"a byte that only continues is replaced", []string{"\x80x"}, "\ufffdx"},
		{"controls are shown", []string{"a\x00b\x7f\x0c"}, "a␀b␡␌"},
		{"bells are dropped", []string{"a\ab"}, "ab"},
		{"bidirectional controls are spelt out", []string{"a\u202eb\u2066"}, `a\u202eb\u2066`},
		{"characters without width are spelt out", []string{"a\u200bb\ufeff\U000e0041"}, `a\u200bb\ufeff\U000e0041`},
		{"C1 controls are spelt out", []string{"\u009b31m"}, `\u009b31m`},
		{"emoji and accents stay", []string{"é 😀 e\u0301 ❤\ufe0f"}, "é 😀 e\u0301 ❤\ufe0f"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := clean(tc.in...); got != tc.want {
				t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestCleanerHoldsOneBoundedLine(t *testing.T) {
	c := cleaner{emit: func([]byte) {}}
	piece := strings.Repeat("x", 1<<16)
	for range 64 {
		c.write(piece)
	}
	if got := cap(c.line); got > 4*longestHeld {
		t.Errorf("a line of 4 MiB left a buffer of %d bytes, want at most %d", got, 4*longestHeld)
	}
}

func FuzzCleaner(f *testing.F) {
	for _, seed := range []string{"a\x1b[31mb\r\nc\xff", "\x1b]0;t\x07\u202e", "10%\r\b\b20%\xe2\x82"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, s string, at int) {
		whole := clean(s)
		if !utf8.ValidString(whole) {
			t.Errorf("clean(%q) = %q, not valid UTF-8", s, whole)
		}
		for _, r := range whole {
			if r < 0x20 && r != '\n' && r != '\t' || deceptive(r) {
				t.Errorf("clean(%q) = %q, which has the character %U", s, whole, r)
			}
		}
		if at < 0 || at > len(s) {
			at = len(s) / 2
		}
		if split := clean(s[:at], s[at:]); split != whole {
			t.Errorf("clean(%q, %q) = %q, in one piece %q", s[:at], s[at:], split, whole)
		}
	})
}
