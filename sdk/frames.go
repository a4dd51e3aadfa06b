package slicer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// frameKind says what a frame of an exec stream tells.
type frameKind int

const (
	frameOther   frameKind = iota // untyped, or of a type that tells nothing about the command
	frameStarted                  // the command runs
	frameStdout
	frameStderr
	frameExit // the command has ended, or could not be started
	frameGap  // output of a background command is missing
)

// The types of frames on the wire.
const (
	typeStarted = "started"
	typeStdout  = "stdout"
	typeStderr  = "stderr"
	typeExit    = "exit"
	typeGap     = "gap"
)

// execFrame is one frame of an exec stream. Its byte slices belong to the
// decoder and are overwritten by the next frame.
type execFrame struct {
	kind           frameKind
	typed          bool // the frame names its type
	time           time.Time
	pid            int // in a started frame
	stdout, stderr []byte
	exitCode       int // -1 where there is an error and no code
	err            string
	signal         string
	notStarted     bool // set by the stream, which knows what came before

	// In the log of a background command.
	id            uint64
	droppedBytes  int64 // in a gap frame, as are the next two
	droppedFrames int
	message       string
}

// kindOf returns the kind of frames of a type.
func kindOf(frameType []byte) frameKind {
	switch string(frameType) {
	case typeStarted:
		return frameStarted
	case typeStdout:
		return frameStdout
	case typeStderr:
		return frameStderr
	case typeExit:
		return frameExit
	case typeGap:
		return frameGap
	}
	return frameOther
}

// endsTyped reports whether a frame of a typed stream tells how the command
// ended: by its type, or because it has an error or an exit code and is no
// output.
func (f *execFrame) endsTyped() bool {
	switch f.kind {
	case frameExit:
		return true
	case frameOther:
		return f.err != "" || f.exitCode != 0
	}
	return false
}

// end returns the frame's news about the command's end, without output.
func (f *execFrame) end() execFrame {
	return execFrame{
		kind: frameExit, typed: true, time: f.time,
		exitCode: f.exitCode, err: f.err, signal: f.signal, notStarted: f.notStarted,
	}
}

// makeOutput takes from the frame what end returns.
func (f *execFrame) makeOutput() {
	f.kind, f.exitCode, f.err, f.signal, f.notStarted = frameOther, 0, "", "", false
}

// settle completes what the frame says about the command's end: an error goes
// with an exit code, and an exit code with an error.
func (f *execFrame) settle() {
	if f.err != "" && f.exitCode == 0 {
		f.exitCode = -1
	}
	if f.err == "" && f.exitCode != 0 {
		f.err = fmt.Sprintf("exit status %d", f.exitCode)
	}
}

// deniesStart reports whether err, an agent's words at the end of a command of
// which nothing has been seen, say that it could not be started. They are
// else about its exit status.
func deniesStart(err, signal string) bool {
	return err != "" && signal == "" && !strings.HasPrefix(err, "exit status ") && !strings.HasPrefix(err, "signal")
}

// result copies the frame into what the channel API hands out.
func (f *execFrame) result() SlicerExecWriteResult {
	r := SlicerExecWriteResult{
		Timestamp: f.time,
		Stdout:    string(f.stdout), Stderr: string(f.stderr),
		ExitCode: f.exitCode, Error: f.err, Signal: f.signal, NotStarted: f.notStarted,
		PID: f.pid, ID: f.id,
		DroppedBytes: f.droppedBytes, DroppedFrames: f.droppedFrames, Message: f.message,
	}
	switch f.kind {
	case frameStarted:
		r.Type = typeStarted
	case frameStdout:
		r.Type = typeStdout
	case frameStderr:
		r.Type = typeStderr
	case frameExit:
		r.Type = typeExit
	case frameGap:
		r.Type = typeGap
	}
	return r
}

// frameDecoder reads the NDJSON of an exec stream. Its buffers are reused from
// frame to frame; none grows much beyond maxFrame.
type frameDecoder struct {
	lines          lineReader
	stdout, stderr []byte
	frame          execFrame
}

func newFrameDecoder(r io.Reader) frameDecoder {
	return frameDecoder{lines: lineReader{src: r}}
}

// next returns the next frame that isn't empty, which is valid until the call
// after. At the end of the stream it returns io.EOF; a last line needs no
// newline.
func (d *frameDecoder) next() (*execFrame, error) {
	for {
		line, err := d.lines.next()
		if err != nil {
			return nil, err
		}
		if len(skipSpace(line)) == 0 {
			continue
		}
		if d.decodeKnown(line) {
			return &d.frame, nil
		}
		if err := d.decodeAny(line); err != nil {
			return nil, err
		}
		return &d.frame, nil
	}
}

// decodeKnown reads a line into d.frame, as decodeAny does, if it is of one of
// the shapes that agents are known to write. It returns false if it isn't, and
// for whatever is malformed. Output that needs no decoding stays where it is.
func (d *frameDecoder) decodeKnown(line []byte) bool {
	var t frameTokens
	if !t.scan(line) {
		return false
	}
	for _, slot := range [...]int{textType, textTimestamp, textStartedAt, textEndedAt, textEncoding, textSignal, textError, textMessage} {
		if !isPlain(t.text[slot]) {
			return false
		}
	}
	for _, slot := range [...]int{numberPID, numberExitCode, numberDroppedFrames} {
		if n := t.number[slot]; n < math.MinInt32 || n > math.MaxInt32 {
			return false
		}
	}
	if t.number[numberID] < 0 {
		return false
	}
	f := execFrame{
		kind: kindOf(t.text[textType]), typed: len(t.text[textType]) > 0, pid: int(t.number[numberPID]),
		exitCode: int(t.number[numberExitCode]), err: string(t.text[textError]), signal: string(t.text[textSignal]),
		id: uint64(t.number[numberID]), droppedBytes: t.number[numberDroppedBytes],
		droppedFrames: int(t.number[numberDroppedFrames]), message: string(t.text[textMessage]),
	}
	for _, slot := range [...]int{textTimestamp, textStartedAt, textEndedAt} {
		if len(t.text[slot]) == 0 || f.time.UnmarshalText(t.text[slot]) != nil {
			f.time = time.Time{}
		}
		if !f.time.IsZero() {
			break
		}
	}
	stdout, stderr, data := t.text[textStdout], t.text[textStderr], t.text[textData]
	switch {
	case len(data) == 0:
	case f.kind == frameStdout && len(stdout) == 0:
		stdout = data
	case f.kind == frameStderr && len(stderr) == 0:
		stderr = data
	default:
		return false // data that is passed over must be well formed all the same
	}
	var ok bool
	if f.stdout, d.stdout, ok = decodeOutput(d.stdout, stdout, t.text[textEncoding]); !ok {
		return false
	}
	if f.stderr, d.stderr, ok = decodeOutput(d.stderr, stderr, t.text[textEncoding]); !ok {
		return false
	}
	f.settle()
	d.frame = f
	return true
}

// decodeOutput returns what raw, the inside of a JSON string, stands for, and
// buf, which it may have used and made larger for that.
func decodeOutput(buf, raw, encoding []byte) (out, grown []byte, ok bool) {
	if len(raw) == 0 {
		return buf[:0], buf, isTextEncoding(string(encoding)) || string(encoding) == encodingBase64
	}
	switch {
	case string(encoding) == encodingBase64:
		out, ok = appendBase64(buf[:0], raw)
	case !isTextEncoding(string(encoding)):
		return nil, buf, false
	case isPlain(raw):
		return raw, buf, true
	default:
		out, ok = appendUnescaped(buf[:0], raw)
	}
	return out, out, ok
}

// encodingBase64 is the encoding of output that may hold any bytes.
const encodingBase64 = "base64"

// isTextEncoding reports whether a frame of this encoding has its output as it
// is.
func isTextEncoding(encoding string) bool {
	switch encoding {
	case "", "text", "utf-8", "utf8":
		return true
	}
	return false
}

// wireFrame is a frame as agents write it: an older one mixes all fields on one
// object without a type, a newer one says its type and may put the payload into
// data.
type wireFrame struct {
	Type          string          `json:"type"`
	Timestamp     json.RawMessage `json:"timestamp"`
	StartedAt     json.RawMessage `json:"started_at"`
	EndedAt       json.RawMessage `json:"ended_at"`
	PID           int             `json:"pid"`
	Encoding      string          `json:"encoding"`
	Data          string          `json:"data"`
	Stdout        string          `json:"stdout"`
	Stderr        string          `json:"stderr"`
	ExitCode      int             `json:"exit_code"`
	Signal        string          `json:"signal"`
	Error         string          `json:"error"`
	ID            uint64          `json:"id"`
	DroppedBytes  int64           `json:"dropped_bytes"`
	DroppedFrames int             `json:"dropped_frames"`
	Message       string          `json:"message"`
}

// decodeAny reads one line of whatever shape into d.frame.
func (d *frameDecoder) decodeAny(line []byte) error {
	var wire wireFrame
	if err := json.Unmarshal(line, &wire); err != nil {
		return fmt.Errorf("malformed frame: %w", err)
	}
	f := execFrame{
		kind: kindOf([]byte(wire.Type)), typed: wire.Type != "", pid: wire.PID,
		time:     firstTime(wire.Timestamp, wire.StartedAt, wire.EndedAt),
		exitCode: wire.ExitCode, err: wire.Error, signal: wire.Signal,
		id: wire.ID, droppedBytes: wire.DroppedBytes, droppedFrames: wire.DroppedFrames, message: wire.Message,
	}
	stdout, stderr := wire.Stdout, wire.Stderr
	switch {
	case f.kind == frameStdout && stdout == "":
		stdout = wire.Data
	case f.kind == frameStderr && stderr == "":
		stderr = wire.Data
	}
	var err error
	if d.stdout, err = appendPayload(d.stdout[:0], stdout, wire.Encoding); err != nil {
		return err
	}
	if d.stderr, err = appendPayload(d.stderr[:0], stderr, wire.Encoding); err != nil {
		return err
	}
	f.stdout, f.stderr = d.stdout, d.stderr
	f.settle()
	d.frame = f
	return nil
}

// appendPayload appends output to buf, decoded as the frame's encoding says.
func appendPayload(buf []byte, payload, encoding string) ([]byte, error) {
	switch {
	case isTextEncoding(encoding):
		return append(buf, payload...), nil
	case encoding == encodingBase64:
		buf, err := base64.StdEncoding.AppendDecode(buf, []byte(payload))
		if err != nil {
			return buf, fmt.Errorf("malformed frame: %w", err)
		}
		return buf, nil
	}
	return buf, fmt.Errorf("a frame has the unknown encoding %.40q", encoding)
}

// firstTime returns the first of several times that is there and well formed. A
// frame with a time that nobody can read is still worth its output.
func firstTime(times ...json.RawMessage) time.Time {
	for _, raw := range times {
		var t time.Time
		if len(raw) > 0 && json.Unmarshal(raw, &t) == nil && !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}
