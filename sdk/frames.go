package slicer

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxFrame bounds one line of an exec stream, in bytes.
const maxFrame = 16 << 20

// frameKind says what a frame of an exec stream tells.
type frameKind int

const (
	frameOther   frameKind = iota // untyped, or of a type that tells nothing about the command
	frameStarted                  // the command runs
	frameStdout
	frameStderr
	frameExit // the command has ended, or could not be started
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
		exitCode: f.exitCode, err: f.err, signal: f.signal,
	}
}

// makeOutput takes from the frame what end returns.
func (f *execFrame) makeOutput() {
	f.kind, f.exitCode, f.err, f.signal = frameOther, 0, "", ""
}

// result copies the frame into what the channel API hands out.
func (f *execFrame) result() SlicerExecWriteResult {
	r := SlicerExecWriteResult{
		Timestamp: f.time,
		Stdout:    string(f.stdout), Stderr: string(f.stderr),
		ExitCode: f.exitCode, Error: f.err, Signal: f.signal,
	}
	switch f.kind {
	case frameStdout:
		r.Type = "stdout"
	case frameStderr:
		r.Type = "stderr"
	case frameExit:
		r.Type = "exit"
	}
	return r
}

// wireFrame is a frame as agents write it: an older one mixes all fields on one
// object without a type, a newer one says its type and may put the payload into
// data.
type wireFrame struct {
	Type      string          `json:"type"`
	Timestamp json.RawMessage `json:"timestamp"`
	StartedAt json.RawMessage `json:"started_at"`
	EndedAt   json.RawMessage `json:"ended_at"`
	PID       int             `json:"pid"`
	Encoding  string          `json:"encoding"`
	Data      string          `json:"data"`
	Stdout    string          `json:"stdout"`
	Stderr    string          `json:"stderr"`
	ExitCode  int             `json:"exit_code"`
	Signal    string          `json:"signal"`
	Error     string          `json:"error"`
}

// frameDecoder reads the NDJSON of an exec stream. Its buffers are reused from
// frame to frame and none grows beyond maxFrame.
type frameDecoder struct {
	br             *bufio.Reader
	line           []byte
	stdout, stderr []byte
	frame          execFrame
}

func newFrameDecoder(r io.Reader) frameDecoder {
	return frameDecoder{br: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next frame that isn't empty, which is valid until the call
// after. At the end of the stream it returns io.EOF; a last line needs no
// newline.
func (d *frameDecoder) next() (*execFrame, error) {
	for {
		line, err := d.readLine()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			continue
		}
		if err := d.decode(line); err != nil {
			return nil, err
		}
		return &d.frame, nil
	}
}

// readLine returns the next line without its end. A line that fits the reader's
// buffer is not copied.
func (d *frameDecoder) readLine() ([]byte, error) {
	d.line = d.line[:0]
	for {
		part, err := d.br.ReadSlice('\n')
		if len(d.line)+len(part) > maxFrame {
			return nil, fmt.Errorf("a frame is longer than %d MiB", maxFrame>>20)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			d.line = append(d.line, part...)
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		line := part
		if len(d.line) > 0 {
			d.line = append(d.line, part...)
			line = d.line
		}
		if err != nil && len(line) == 0 {
			return nil, io.EOF
		}
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
			line = line[:len(line)-1]
		}
		return line, nil
	}
}

// decode reads one line into d.frame.
func (d *frameDecoder) decode(line []byte) error {
	var wire wireFrame
	if err := json.Unmarshal(line, &wire); err != nil {
		return fmt.Errorf("malformed frame: %w", err)
	}
	stdout, stderr := wire.Stdout, wire.Stderr
	f := execFrame{
		typed: wire.Type != "", pid: wire.PID,
		time:     firstTime(wire.Timestamp, wire.StartedAt, wire.EndedAt),
		exitCode: wire.ExitCode, err: wire.Error, signal: wire.Signal,
	}
	switch wire.Type {
	case "started":
		f.kind = frameStarted
	case "stdout":
		f.kind = frameStdout
		if stdout == "" {
			stdout = wire.Data
		}
	case "stderr":
		f.kind = frameStderr
		if stderr == "" {
			stderr = wire.Data
		}
	case "exit":
		f.kind = frameExit
	}
	if f.err != "" && f.exitCode == 0 {
		f.exitCode = -1
	}
	if f.err == "" && f.exitCode != 0 {
		f.err = fmt.Sprintf("exit status %d", f.exitCode)
	}
	var err error
	if d.stdout, err = appendPayload(d.stdout[:0], stdout, wire.Encoding); err != nil {
		return err
	}
	if d.stderr, err = appendPayload(d.stderr[:0], stderr, wire.Encoding); err != nil {
		return err
	}
	f.stdout, f.stderr = d.stdout, d.stderr
	d.frame = f
	return nil
}

// appendPayload appends output to buf, decoded as the frame's encoding says.
func appendPayload(buf []byte, payload, encoding string) ([]byte, error) {
	switch encoding {
	case "", "text", "utf-8", "utf8":
		return append(buf, payload...), nil
	case "base64":
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
