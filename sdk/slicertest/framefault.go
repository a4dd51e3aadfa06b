package slicertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// FrameFault is what goes wrong with the frames of an NDJSON answer: those of a
// streaming exec and of a background exec's logs. Its parts can be combined.
// The zero value changes nothing.
type FrameFault struct {
	// Split sends the answer in pieces of that many bytes, so that the
	// boundaries of what arrives lie anywhere in a frame. 0 doesn't.
	Split int

	// Merge sends that many frames at a time, and what is left when the answer
	// ends. 0 and 1 don't. An answer that is cut loses what is held back.
	Merge int

	// ExitEarly sends the exit frame before the last frame of output.
	ExitEarly bool

	// Malformed breaks the frame of that number, counted from 1: the rest of
	// its line is missing from the middle on. 0 breaks none.
	Malformed int

	// HalfCharacter cuts frames of text in two inside their last character of
	// more than one byte, as agents do that take no care. The bytes of such
	// frames are no valid UTF-8.
	HalfCharacter bool

	// LongLine, unless 0, sends a frame of output that is as many bytes long,
	// after the answer's first frame. It is not held in memory.
	LongLine int64
}

// frameMangler is a ResponseWriter that lets a FrameFault hit what goes
// through. finish must be called in the end.
type frameMangler struct {
	http.ResponseWriter
	fault FrameFault

	mu     sync.Mutex
	begun  []byte   // of a line
	number int      // of the lines so far
	held   []byte   // the last frame of output, when exit goes first
	wait   [][]byte // lines that are to be merged
}

// Unwrap lets http.ResponseController reach the connection.
func (m *frameMangler) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// Write implements http.ResponseWriter.
func (m *frameMangler) Write(p []byte) (int, error) {
	if m.Header().Get("Content-Type") != "application/x-ndjson" {
		return m.ResponseWriter.Write(p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = append(m.begun, p...)
	for {
		i := bytes.IndexByte(m.begun, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := bytes.Clone(m.begun[:i+1])
		m.begun = m.begun[i+1:]
		if err := m.take(line); err != nil {
			return 0, err
		}
	}
}

// take handles one line of the daemon's.
func (m *frameMangler) take(line []byte) error {
	m.number++
	if m.number == m.fault.Malformed {
		line = append(line[:len(line)/2:len(line)/2], '\n')
	}
	held := m.held
	switch m.held = nil; {
	case !m.fault.ExitEarly:
		return m.pass(line)
	case hasType(line, "exit"):
		held, line = line, held
	case hasType(line, "stdout"), hasType(line, "stderr"):
		m.held, line = line, nil
	}
	if err := m.pass(held); err != nil {
		return err
	}
	return m.pass(line)
}

// hasType reports whether a line is a typed frame of that type.
func hasType(line []byte, name string) bool {
	return bytes.Contains(line, []byte(`"type":"`+name+`"`))
}

// pass sends a line, cut in two if so asked, and the long line after the first.
func (m *frameMangler) pass(line []byte) error {
	if line == nil {
		return nil
	}
	lines := [][]byte{line}
	if m.fault.HalfCharacter {
		lines = halve(line)
	}
	for _, l := range lines {
		m.wait = append(m.wait, l)
		if len(m.wait) >= m.fault.Merge {
			if err := m.flush(); err != nil {
				return err
			}
		}
	}
	if n := m.fault.LongLine; n > 0 {
		m.fault.LongLine = 0
		if err := m.flush(); err != nil {
			return err
		}
		return m.long(n)
	}
	return nil
}

// flush sends what waits.
func (m *frameMangler) flush() error {
	text := bytes.Join(m.wait, nil)
	m.wait = nil
	for len(text) > 0 {
		n := len(text)
		if m.fault.Split > 0 {
			n = min(n, m.fault.Split)
		}
		if _, err := m.ResponseWriter.Write(text[:n]); err != nil {
			return err
		}
		if err := http.NewResponseController(m.ResponseWriter).Flush(); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// long sends a line of n bytes, newline included, or as many as a frame needs.
func (m *frameMangler) long(n int64) error {
	const begin, end = `{"type":"stdout","timestamp":"2000-01-01T00:00:00Z","stdout":"`, "\"}\n"
	filler := strings.Repeat("x", 32<<10)
	if _, err := io.WriteString(m.ResponseWriter, begin); err != nil {
		return err
	}
	for left := n - int64(len(begin)+len(end)); left > 0; left -= int64(len(filler)) {
		if _, err := io.WriteString(m.ResponseWriter, filler[:min(left, int64(len(filler)))]); err != nil {
			return err
		}
	}
	_, err := io.WriteString(m.ResponseWriter, end)
	return err
}

// finish sends what is still held back.
func (m *frameMangler) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	// A client that isn't there any more gets nothing.
	_ = m.pass(m.held)
	m.held = nil
	_ = m.flush()
	if len(m.begun) > 0 {
		_, _ = m.ResponseWriter.Write(m.begun)
		m.begun = nil
	}
}

// halve cuts a frame of text in two, inside its last character of several
// bytes. Other lines come back as they are.
func halve(line []byte) [][]byte {
	var f map[string]json.RawMessage
	if err := json.Unmarshal(line, &f); err != nil || f["encoding"] != nil {
		return [][]byte{line}
	}
	for _, stream := range []string{"stdout", "stderr"} {
		var text string
		if json.Unmarshal(f[stream], &text) != nil {
			continue
		}
		at := strings.LastIndexFunc(text, func(c rune) bool { return c >= utf8.RuneSelf })
		if at < 0 {
			continue
		}
		var parts [][]byte
		for _, part := range []string{text[:at+1], text[at+1:]} {
			parts = append(parts, withRaw(f, stream, part))
		}
		return parts
	}
	return [][]byte{line}
}

// withRaw is the line of f with raw as its stream's text. Bytes that are no
// valid UTF-8 stay as they are.
func withRaw(f map[string]json.RawMessage, stream, raw string) []byte {
	const mark = "\x00raw\x00"
	marked, err := json.Marshal(mark)
	if err != nil {
		return nil
	}
	changed := make(map[string]json.RawMessage, len(f))
	for name, value := range f {
		changed[name] = value
	}
	changed[stream] = marked
	line, err := json.Marshal(changed)
	if err != nil {
		return nil
	}
	return append(bytes.Replace(line, marked, quoteRaw(raw), 1), '\n')
}

// quoteRaw is a JSON string whose bytes above 127 are raw's.
func quoteRaw(raw string) []byte {
	quoted := []byte{'"'}
	for _, c := range []byte(raw) {
		switch {
		case c == '"' || c == '\\':
			quoted = append(quoted, '\\', c)
		case c < ' ':
			quoted = append(quoted, `\u00`...)
			if c < 16 {
				quoted = append(quoted, '0')
			}
			quoted = strconv.AppendUint(quoted, uint64(c), 16)
		default:
			quoted = append(quoted, c)
		}
	}
	return append(quoted, '"')
}
