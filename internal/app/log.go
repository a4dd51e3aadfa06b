package app

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/lmittmann/tint"
)

// newLogger logs to w for a person to read, in colour on a terminal unless
// NO_COLOR is set.
func newLogger(w io.Writer, level slog.Level, getenv func(string) string) *slog.Logger {
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level:      level,
		TimeFormat: time.TimeOnly,
		NoColor:    !isTerminal(w) || getenv("NO_COLOR") != "",
	}))
}

// redactable is a log whose redaction is set once what it takes is known: parts
// of the program log before there is anything that knows secrets.
type redactable struct {
	to     slog.Handler
	redact *atomic.Pointer[func(slog.Handler) slog.Handler]
	with   []func(slog.Handler) slog.Handler // WithAttrs and WithGroup, in order
}

// newRedactable returns a logger to h, and a function that has all its records,
// and those of loggers made from it, pass through redact from then on.
func newRedactable(h slog.Handler) (*slog.Logger, func(redact func(slog.Handler) slog.Handler)) {
	r := redactable{to: h, redact: new(atomic.Pointer[func(slog.Handler) slog.Handler])}
	return slog.New(r), func(redact func(slog.Handler) slog.Handler) { r.redact.Store(&redact) }
}

// Enabled implements slog.Handler.
func (r redactable) Enabled(ctx context.Context, level slog.Level) bool {
	return r.to.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (r redactable) WithAttrs(attrs []slog.Attr) slog.Handler {
	return r.then(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (r redactable) WithGroup(name string) slog.Handler {
	return r.then(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (r redactable) then(with func(slog.Handler) slog.Handler) slog.Handler {
	r.with = append(r.with[:len(r.with):len(r.with)], with)
	return r
}

// Handle implements slog.Handler.
func (r redactable) Handle(ctx context.Context, rec slog.Record) error {
	h := r.to
	if redact := r.redact.Load(); redact != nil {
		h = (*redact)(h)
	}
	for _, with := range r.with {
		h = with(h)
	}
	return h.Handle(ctx, rec)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// parseLevel is the inverse of slog.Level.String for the names in lower case.
func parseLevel(name string) (slog.Level, bool) {
	switch name {
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	}
	return 0, false
}

// oneLine makes an error's text fit for one line of a terminal: white space
// becomes single spaces, other control characters go.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
