package slicer

import (
	"errors"
	"io"
)

// MatchExclude reports whether patterns leave out name, for the tests.
func MatchExclude(patterns []string, name string, isDir bool) (bool, error) {
	excluded, err := newExcluder(patterns)
	if err != nil {
		return false, err
	}
	return excluded.match(name, isDir), nil
}

// EscapePath escapes names as parts of a path, for the tests.
func EscapePath(segments ...string) (string, error) {
	_, escaped, err := escapePath(segments)
	return escaped, err
}

// SSEEvent is an event of a stream, for the tests.
type SSEEvent struct{ ID, Name, Data string }

// ReadSSE reads a stream of server-sent events to its end, for the tests. The
// error is nil if it ends between two events.
func ReadSSE(r io.Reader) ([]SSEEvent, error) {
	var events []SSEEvent
	reader := newSSEReader(r)
	for {
		event, err := reader.next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, SSEEvent{event.id, event.name, string(event.data)})
	}
}
