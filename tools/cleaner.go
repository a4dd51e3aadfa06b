package tools

import "unicode/utf8"

// longestHeld bounds the part of a line that is held back for a carriage
// return to overwrite, and longestSequence an escape sequence.
const (
	longestHeld     = 8 << 10
	longestSequence = 4 << 10
)

// cleaner turns the bytes that a program wrote to one stream into text for a
// model: escape sequences are dropped, a line that a carriage return
// overwrites is dropped, invalid UTF-8 is replaced, what is invisible is made
// visible. It holds back at most one line.
type cleaner struct {
	// emit takes text as it is done: whole lines with their newline, or a
	// piece of one.
	emit func(text []byte)

	line   []byte // the current line, cleaned
	back   bool   // a carriage return stands before what comes next
	state  escapeState
	length int     // of the current escape sequence
	tail   [4]byte // an incomplete UTF-8 sequence
	held   int     // bytes of it
}

type escapeState int

const (
	ground     escapeState = iota
	escape                 // after ESC
	control                // CSI: ESC [ … until a final byte
	charset                // ESC ( and its like: one more byte
	message                // OSC, DCS and their like: until BEL or ESC \
	messageEnd             // ESC inside a message
)

// write cleans more bytes of the stream.
func (c *cleaner) write(p string) {
	for len(p) > 0 {
		if c.state != ground {
			c.sequence(p[0])
			p = p[1:]
			continue
		}
		if c.held == 0 {
			if n := plainPrefix(p); n > 0 {
				c.plain(p[:n])
				p = p[n:]
				continue
			}
		}
		if p[0] < utf8.RuneSelf {
			c.broken()
			c.ascii(p[0])
			p = p[1:]
			continue
		}
		p = c.multibyte(p)
	}
}

// plainPrefix is how many bytes of p are printable ASCII or tabs.
func plainPrefix(p string) int {
	for i := range len(p) {
		if b := p[i]; (b < 0x20 && b != '\t') || b >= 0x7f {
			return i
		}
	}
	return len(p)
}

func (c *cleaner) plain(p string) {
	c.overwrite()
	for len(p) > 0 {
		n := min(len(p), longestHeld-len(c.line))
		c.line = append(c.line, p[:n]...)
		p = p[n:]
		if len(c.line) >= longestHeld {
			c.spill()
		}
	}
}

// ascii takes a control character.
func (c *cleaner) ascii(b byte) {
	switch b {
	case '\n':
		c.back = false
		c.line = append(c.line, '\n')
		c.spill()
	case '\r':
		c.back = true
	case '\b':
		if !c.back && len(c.line) > 0 {
			_, n := utf8.DecodeLastRune(c.line)
			c.line = c.line[:len(c.line)-n]
		}
	case 0x07: // the bell
	case 0x1b:
		c.state, c.length = escape, 0
	default:
		c.rune(rune(b))
	}
}

func (c *cleaner) rune(r rune) {
	c.overwrite()
	c.line = visible(c.line, r)
	if len(c.line) >= longestHeld {
		c.spill()
	}
}

// multibyte takes the next character that isn't ASCII, or as much of it as
// there is.
func (c *cleaner) multibyte(p string) string {
	for len(p) > 0 && p[0] >= utf8.RuneSelf {
		if c.held > 0 && utf8.RuneStart(p[0]) {
			c.broken()
		}
		c.tail[c.held] = p[0]
		c.held++
		p = p[1:]
		if !utf8.FullRune(c.tail[:c.held]) {
			continue
		}
		r, n := utf8.DecodeRune(c.tail[:c.held])
		if r == utf8.RuneError && n == 1 {
			c.broken()
			return p
		}
		c.held = 0
		c.rune(r)
		return p
	}
	return p
}

// broken replaces an incomplete UTF-8 sequence that nothing can complete.
func (c *cleaner) broken() {
	if c.held > 0 {
		c.held = 0
		c.rune(utf8.RuneError)
	}
}

// sequence takes a byte of an escape sequence. A sequence ends at a newline at
// the latest, so that a lone introducer can't swallow what follows.
func (c *cleaner) sequence(b byte) {
	c.length++
	if b == '\n' || c.length > longestSequence {
		c.state = ground
		if b == '\n' {
			c.ascii(b)
		}
		return
	}
	switch c.state {
	case escape:
		c.introduce(b)
	case control:
		if b >= 0x40 && b <= 0x7e {
			c.state = ground
		}
	case charset:
		if b >= 0x30 {
			c.state = ground
		}
	case message:
		switch b {
		case 0x07:
			c.state = ground
		case 0x1b:
			c.state = messageEnd
		}
	case messageEnd:
		c.state = message
		if b == '\\' {
			c.state = ground
		}
	}
}

func (c *cleaner) introduce(b byte) {
	switch {
	case b == '[':
		c.state = control
	case b == ']', b == 'P', b == 'X', b == '^', b == '_':
		c.state = message
	case b >= 0x20 && b <= 0x2f:
		c.state = charset
	case b == 0x1b:
		// Another ESC begins anew.
	case b >= 0x30 && b <= 0x7e:
		c.state = ground
	default:
		c.state = ground
		c.write(string([]byte{b}))
	}
}

// overwrite drops the line that a carriage return went back over.
func (c *cleaner) overwrite() {
	if c.back {
		c.back = false
		c.line = c.line[:0]
	}
}

// spill hands on what is held.
func (c *cleaner) spill() {
	if len(c.line) > 0 {
		c.emit(c.line)
		c.line = c.line[:0]
	}
}

// flush hands on the unfinished line, unless a carriage return says that it is
// about to be overwritten.
func (c *cleaner) flush() {
	if !c.back {
		c.spill()
	}
}

// close hands on all that is left.
func (c *cleaner) close() {
	c.broken()
	c.spill()
}
