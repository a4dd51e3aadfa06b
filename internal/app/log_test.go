package app_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
)

// stars is a log in which secrets are stars.
type stars struct{ slog.Handler }

func (s stars) Handle(ctx context.Context, rec slog.Record) error {
	rec.Message = strings.ReplaceAll(rec.Message, "secret", "***")
	return s.Handler.Handle(ctx, rec)
}

func (s stars) WithAttrs(attrs []slog.Attr) slog.Handler { return stars{s.Handler.WithAttrs(attrs)} }
func (s stars) WithGroup(name string) slog.Handler       { return stars{s.Handler.WithGroup(name)} }

func TestRedactionBeginsForLoggersThatAreThereAlready(t *testing.T) {
	var buf bytes.Buffer
	text := slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	log, redact := app.NewRedactable(text)
	early := log.With("a", 1).WithGroup("g").With("b", 2)
	early.Info("no redaction yet")
	redact(func(h slog.Handler) slog.Handler { return stars{h} })
	early.Info("a secret", "c", 3)
	log.Info("another secret")
	log.Debug("a secret that isn't asked for")
	const want = `level=INFO msg="no redaction yet" a=1 g.b=2
level=INFO msg="a ***" a=1 g.b=2 g.c=3
level=INFO msg="another ***"
`
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
