package slicer

import (
	"io"
	"time"
)

// Frame is a decoded frame, for the tests.
type Frame struct {
	Kind           int
	Typed          bool
	Time           time.Time
	PID            int
	Stdout, Stderr string
	ExitCode       int
	Err, Signal    string
	ID             uint64
	DroppedBytes   int64
	DroppedFrames  int
	Message        string
}

func frameForTest(f *execFrame) Frame {
	return Frame{
		Kind: int(f.kind), Typed: f.typed, Time: f.time, PID: f.pid,
		Stdout: string(f.stdout), Stderr: string(f.stderr),
		ExitCode: f.exitCode, Err: f.err, Signal: f.signal,
		ID: f.id, DroppedBytes: f.droppedBytes, DroppedFrames: f.droppedFrames, Message: f.message,
	}
}

// DecodeKnownFrame decodes a line by the decoder of known shapes.
func DecodeKnownFrame(line []byte) (Frame, bool) {
	var d frameDecoder
	if !d.decodeKnown(line) {
		return Frame{}, false
	}
	return frameForTest(&d.frame), true
}

// DecodeAnyFrame decodes a line by encoding/json.
func DecodeAnyFrame(line []byte) (Frame, error) {
	var d frameDecoder
	if err := d.decodeAny(line); err != nil {
		return Frame{}, err
	}
	return frameForTest(&d.frame), nil
}

// ReadFrames decodes a stream and returns how many bytes of output it has.
func ReadFrames(r io.Reader) (output int64, frames int, err error) {
	d := newFrameDecoder(r)
	for {
		frame, err := d.next()
		if err != nil {
			return output, frames, err
		}
		output += int64(len(frame.stdout) + len(frame.stderr))
		frames++
	}
}
