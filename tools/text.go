package tools

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// visible appends a character as a model may see it: what would be invisible,
// reorder the text around it or steer a terminal is spelt out.
func visible(b []byte, r rune) []byte {
	switch {
	case r < 0x20:
		return utf8.AppendRune(b, 0x2400+r) // the control pictures
	case r == 0x7f:
		return utf8.AppendRune(b, 0x2421)
	case !deceptive(r):
		return utf8.AppendRune(b, r)
	case r <= 0xffff:
		return fmt.Appendf(b, `\u%04x`, r)
	}
	return fmt.Appendf(b, `\U%08x`, r)
}

// deceptive says whether r is a C1 control, a bidirectional control, a line
// separator, or a character without width.
func deceptive(r rune) bool {
	switch {
	case r < 0x80:
		return false
	case r <= 0x9f, r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x180e, r == 0x3164, r == 0xfeff, r == 0xffa0:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	case r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}

// oneLine makes a value from elsewhere fit for the middle of a sentence: one
// line, nothing invisible, at most n characters.
func oneLine(s string, n int) string {
	s = strings.Join(strings.Fields(prefix(s, 8*n)), " ")
	var b []byte
	for _, r := range s {
		b = visible(b, r)
	}
	return cut(string(b), n)
}

// quote is oneLine in double quotes, as a model would write it in a call.
func quote(s string) string {
	if len(s) <= 200 {
		plain := true
		for _, r := range s {
			plain = plain && r >= 0x20 && r != 0x7f && r != utf8.RuneError && !deceptive(r)
		}
		if plain {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
	}
	return quoteASCII(s, 200)
}

// quoteASCII quotes at most n characters of s, all but ASCII escaped. An
// ellipsis tells that there was more; it stays one, by which a redactor sees that
// something was cut.
func quoteASCII(s string, n int) string {
	short := cut(s, n)
	if short == s {
		return strconv.QuoteToASCII(s)
	}
	return strings.TrimSuffix(strconv.QuoteToASCII(short), `\u2026"`) + `…"`
}

// capital is a sentence with its first letter in upper case.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// prefix is at most the first n bytes of s, ending between two characters.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// cut shortens s to n characters, the last of which is an ellipsis if there
// was more.
func cut(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n--; n == 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// fenced puts text from elsewhere between two lines of backticks that it can't
// contain.
func fenced(body string) string {
	longest, run := 2, 0
	for i := range len(body) {
		if body[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	if !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	return fence + "\n" + body + fence
}

// count writes n with thousands separators and the noun, in the plural where
// it belongs.
func count(n int64, noun string) string {
	s := thousands(n) + " " + noun
	if n != 1 {
		s += "s"
	}
	return s
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes for people: 512 bytes, 1.2 KB, 3.4 MB.
func size(n int64) string {
	if n < 1000 {
		return count(n, "byte")
	}
	f := float64(n)
	unit := ""
	for _, unit = range []string{"KB", "MB", "GB", "TB"} {
		f /= 1000
		if f < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// gib writes a number of bytes in GiB, with a fraction where there is one.
func gib(n int64) string {
	return strconv.FormatFloat(inGiB(n), 'f', -1, 64) + " GiB"
}

// inGiB is n bytes in GiB, to two places.
func inGiB(n int64) float64 {
	return float64((n*100+1<<29)>>30) / 100
}

// seconds writes a duration in seconds, with as many places as tell
// something.
func seconds(d time.Duration) string {
	s := d.Seconds()
	if s < 0.1 {
		return strconv.FormatFloat(s, 'f', 3, 64) + " s"
	}
	return strconv.FormatFloat(s, 'f', 1, 64) + " s"
}
