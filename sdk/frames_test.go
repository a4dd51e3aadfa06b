package slicer_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// knownFrames are lines of the shapes that agents write.
var knownFrames = map[string]string{
	"started":               `{"type":"started","timestamp":"2026-03-01T12:00:00.123456789Z","pid":4711,"started_at":"2026-03-01T12:00:00Z"}`,
	"text":                  `{"type":"stdout","timestamp":"2026-03-01T12:00:00Z","stdout":"hello\n\tworld \"quoted\" \\ \/ \b\f\r \u003c\u00e9\u20ac\ud83d\ude00 é€😀"}`,
	"half a pair":           `{"stdout":"\ud83d \ude00 \ud83d\ud83d\ude00 \ud83dA \ud83d\u0041"}`,
	"not UTF-8":             "{\"stdout\":\"a\xffb\xe2\x82 \xed\xa0\x80 \xc0\x80\xf0\x9f\x98\"}",
	"base64":                `{"type":"stderr","stderr":"AAECAwQFBgcICQoLDA0ODxAREhM=","encoding":"base64"}`,
	"base64 with data":      `{"type":"stdout","data":"aGVsbG8gd29ybGQhIQ==","encoding":"base64","id":12345678901}`,
	"nothing in base64":     `{"type":"stdout","data":"","encoding":"base64"}`,
	"untyped":               `{"timestamp":"2026-03-01T12:00:00+02:00","stdout":"a","stderr":"b","exit_code":0}`,
	"untyped end":           `{"timestamp":"2026-03-01T12:00:00Z","exit_code":42,"error":"exit status 42"}`,
	"exit":                  `{"type":"exit","exit_code":-1,"signal":"KILL","error":"signal: KILL","ended_at":"2026-03-01T12:00:00Z","id":7}`,
	"gap":                   `{"type":"gap","id":9,"dropped_bytes":1048576,"dropped_frames":33,"message":"évicted"}`,
	"spaces":                " { \"type\" : \"stdout\" ,\t\"stdout\" : \"a\" } \r",
	"nulls":                 `{"type":"exit","exit_code":null,"error":null,"stdout":null}`,
	"nothing":               `{}`,
	"an unreadable time":    `{"timestamp":"soon","started_at":"","ended_at":"2026-03-01T12:00:00Z"}`,
	"long text":             `{"stdout":"` + strings.Repeat("0123456789abcdef é\\n", 500) + `"}`,
	"DEL is no control":     "{\"stdout\":\"a\x7fb\"}",
	"an unknown type":       `{"type":"later","exit_code":3}`,
	"both texts in one":     `{"type":"stdout","stdout":"a","stderr":"b"}`,
	"an empty stdout, data": `{"type":"stdout","stdout":"","data":"d"}`,
}

// otherFrames are lines that encoding/json decides about.
var otherFrames = map[string]string{
	"an unknown key":             `{"type":"stdout","stdout":"a","extra":{"b":[1,2]}}`,
	"another case":               `{"TYPE":"stdout","StdOut":"a"}`,
	"an escaped key":             `{"std\u006fut":"a"}`,
	"a key twice":                `{"stdout":"a","stdout":"b"}`,
	"a number twice":             `{"exit_code":1,"exit_code":2}`,
	"a time taken back":          `{"timestamp":"2026-03-01T12:00:00Z","timestamp":null}`,
	"a number for a time":        `{"timestamp":17}`,
	"unused data":                `{"stdout":"a","data":"\x"}`,
	"base64 with escapes":        `{"encoding":"base64","stdout":"AAE\/"}`,
	"base64 with a line end":     `{"encoding":"base64","stdout":"AAEC\nAAEC"}`,
	"base64 with a raw CR":       "{\"encoding\":\"base64\",\"stdout\":\"AAEC\r\"}",
	"base64 that is none":        `{"encoding":"base64","stdout":"AA!="}`,
	"base64 after padding":       `{"encoding":"base64","stdout":"AA==AA=="}`,
	"base64 too short":           `{"encoding":"base64","stdout":"AAECAwQFB"}`,
	"an unknown encoding":        `{"encoding":"rot13","stdout":"a"}`,
	"a fraction":                 `{"exit_code":1.5}`,
	"an exponent":                `{"exit_code":1e2}`,
	"a leading zero":             `{"exit_code":01}`,
	"a bare minus":               `{"exit_code":-}`,
	"a large number":             `{"id":18446744073709551615}`,
	"a number that is too large": `{"exit_code":99999999999}`,
	"a negative id":              `{"id":-1}`,
	"a negative zero for an id":  `{"id":-0}`,
	"a text for a number":        `{"exit_code":"1"}`,
	"a number for a text":        `{"stdout":1}`,
	"a control character":        "{\"stdout\":\"a\x01\"}",
	"a control in a type":        "{\"type\":\"a\x01\"}",
	"an unknown escape":          `{"stdout":"\q"}`,
	"a quote's escape":           `{"stdout":"\'"}`,
	"half an escape":             `{"stdout":"\u12"}`,
	"no hexadecimal":             `{"stdout":"\u12g4"}`,
	"an escaped end":             `{"stdout":"a\"}`,
	"an array":                   `[1]`,
	"null":                       `null`,
	"two objects":                `{}{}`,
	"a trailing comma":           `{"stdout":"a",}`,
	"no colon":                   `{"stdout" "a"}`,
	"no end":                     `{"stdout":"a"`,
	"no value":                   `{"stdout":`,
	"an open brace":              `{`,
	"nothing":                    ``,
}

func TestKnownFramesAreDecodedFast(t *testing.T) {
	for name, line := range knownFrames {
		t.Run(name, func(t *testing.T) {
			if _, ok := slicer.DecodeKnownFrame([]byte(line)); !ok {
				t.Errorf("%s is not known", line)
			}
			compareDecoders(t, []byte(line))
		})
	}
}

func TestOtherFramesAreLeftToJSON(t *testing.T) {
	for name, line := range otherFrames {
		t.Run(name, func(t *testing.T) {
			if got, ok := slicer.DecodeKnownFrame([]byte(line)); ok {
				t.Errorf("%s is known, as %+v", line, got)
			}
		})
	}
}

// compareDecoders fails if the decoder of known shapes accepts a line that
// encoding/json decodes differently.
func compareDecoders(t *testing.T, line []byte) {
	t.Helper()
	fast, ok := slicer.DecodeKnownFrame(bytes.Clone(line))
	if !ok {
		return
	}
	slow, err := slicer.DecodeAnyFrame(line)
	if err != nil {
		t.Fatalf("%q is known, but encoding/json says: %v", line, err)
	}
	if diff := cmp.Diff(slow, fast); diff != "" {
		t.Fatalf("%q (-encoding/json +known):\n%s", line, diff)
	}
}

func FuzzFrame(f *testing.F) {
	for _, line := range knownFrames {
		f.Add([]byte(line))
	}
	for _, line := range otherFrames {
		f.Add([]byte(line))
	}
	f.Fuzz(compareDecoders)
}

// FuzzFrameOutput puts arbitrary bytes into a frame as agents do.
func FuzzFrameOutput(f *testing.F) {
	f.Add([]byte("hello\n"), 0)
	f.Add([]byte("\x00\xff<é\u2028\"\\"), 3)
	f.Fuzz(func(t *testing.T, output []byte, cut int) {
		text, err := json.Marshal(map[string]string{"type": "stdout", "stdout": string(output)})
		if err != nil {
			t.Fatal(err)
		}
		compareDecoders(t, text)
		encoded := base64.StdEncoding.EncodeToString(output)
		line := []byte(`{"type":"stdout","encoding":"base64","stdout":"` + encoded + `"}`)
		frame, ok := slicer.DecodeKnownFrame(line)
		if !ok || frame.Stdout != string(output) {
			t.Fatalf("base64 of %q = %q, %v", output, frame.Stdout, ok)
		}
		// The bytes themselves, whatever they are.
		raw := append(append([]byte(`{"stdout":"`), output...), `"}`...)
		compareDecoders(t, raw)
		if cut >= 0 && cut < len(encoded) {
			compareDecoders(t, []byte(`{"encoding":"base64","stdout":"`+encoded[:cut]+`"}`))
		}
	})
}

func TestFramesOfEveryLength(t *testing.T) {
	for _, reader := range []struct {
		name string
		wrap func(io.Reader) io.Reader
	}{
		{"at once", func(r io.Reader) io.Reader { return r }},
		{"byte by byte", iotest.OneByteReader},
		{"with the end in the last read", iotest.DataErrReader},
	} {
		t.Run(reader.name, func(t *testing.T) {
			var stream bytes.Buffer
			var want int64
			for _, length := range []int{0, 1, 4000, 4096, 0, 9000, 70000, 3, 140000, 300000, 1} {
				stream.WriteString(`{"stdout":"` + strings.Repeat("x", length) + `"}` + "\n")
				want += int64(length)
			}
			got, frames, err := slicer.ReadFrames(reader.wrap(&stream))
			if got != want || frames != 11 || !errors.Is(err, io.EOF) {
				t.Errorf("ReadFrames = %d bytes in %d frames, %v, want %d in 11, EOF", got, frames, err, want)
			}
		})
	}
}

func TestFrameReaderBoundsLines(t *testing.T) {
	const most = 16 << 20
	line := func(length int) io.Reader {
		prefix := `{"stdout":"`
		return io.MultiReader(strings.NewReader(prefix), io.LimitReader(endless{}, int64(length-len(prefix)-2)), strings.NewReader(`"}`+"\n"))
	}
	if _, frames, err := slicer.ReadFrames(line(most)); frames != 1 || !errors.Is(err, io.EOF) {
		t.Errorf("a line of 16 MiB: %d frames, %v, want 1, EOF", frames, err)
	}
	if _, frames, err := slicer.ReadFrames(line(most + 1)); frames != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line of 16 MiB and a byte: %d frames, %v, want an error", frames, err)
	}
	unended := io.LimitReader(io.MultiReader(strings.NewReader(`{"stdout":"`), endless{}), most+1)
	if _, frames, err := slicer.ReadFrames(unended); frames != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a last line of 16 MiB and a byte: %d frames, %v, want an error", frames, err)
	}
	long := &counter{r: line(64 << 20)}
	if _, _, err := slicer.ReadFrames(long); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line of 64 MiB: %v, want an error", err)
	}
	if long.n > most+1 {
		t.Errorf("of a line of 64 MiB %d bytes were read, want no more than its bound", long.n)
	}
}

// TestFramesNeedNoMemory is what lets output stream at the speed of the wire.
func TestFramesNeedNoMemory(t *testing.T) {
	for name, line := range map[string]string{
		"base64": `{"type":"stdout","timestamp":"2026-03-01T12:00:00Z","encoding":"base64","stdout":"` + strings.Repeat("AAEC", 8<<10) + `"}` + "\n",
		"text":   `{"type":"stdout","timestamp":"2026-03-01T12:00:00Z","stdout":"` + strings.Repeat("a line\\n", 4<<10) + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			const frames = 200
			stream := strings.Repeat(line, frames)
			allocs := testing.AllocsPerRun(5, func() {
				if _, n, err := slicer.ReadFrames(strings.NewReader(stream)); n != frames || !errors.Is(err, io.EOF) {
					t.Fatalf("ReadFrames = %d frames, %v, want %d, EOF", n, err, frames)
				}
			})
			if allocs > frames/4 {
				t.Errorf("%v allocations for %d frames", allocs, frames)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestFrameReaderGivesUpOnSilence(t *testing.T) {
	if _, _, err := slicer.ReadFrames(silent{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("ReadFrames = %v, want %v", err, io.ErrNoProgress)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }
