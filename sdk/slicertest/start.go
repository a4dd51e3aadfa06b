package slicertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
)

// Start is NewServer where there is no test, as in an Example or in a program
// that shows something. The caller closes the server. What would fail a test
// afterwards goes to the log of opts. The network can't be Unix, as nobody would
// remove the socket's folder.
func Start(opts Options) (s *Server, err error) {
	if opts.Network == Unix {
		return nil, errors.New("slicertest: Start can't serve a Unix socket")
	}
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case startFailure:
			s, err = nil, errors.New(string(cause))
		default:
			panic(cause)
		}
	}()
	return NewServer(noTest{log: opts.Log}, opts), nil
}

// startFailure is what noTest panics with.
type startFailure string

// noTest stands for a test where there is none. It has the methods that a Server
// uses; any other panics.
type noTest struct {
	testing.TB
	log *slog.Logger // nil discards
}

func (t noTest) Helper() {}

// Cleanup drops f, as the caller of Start closes the server.
func (t noTest) Cleanup(func()) {}

func (t noTest) Errorf(format string, args ...any) {
	if t.log != nil {
		t.log.LogAttrs(context.Background(), slog.LevelError, "slicertest", slog.String("problem", fmt.Sprintf(format, args...)))
	}
}

func (t noTest) Fatal(args ...any) { panic(startFailure(fmt.Sprint(args...))) }

func (t noTest) Fatalf(format string, args ...any) { panic(startFailure(fmt.Sprintf(format, args...))) }
