package tools

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"

	"github.com/mark3labs/mcp-go/mcp"
)

// answer takes the known values out of all that an answer says. A picture whose
// file shows one is left out.
func (r *redactor) answer(res *mcp.CallToolResult) {
	for i, content := range res.Content {
		switch c := content.(type) {
		case mcp.TextContent:
			c.Text = r.text(c.Text)
			res.Content[i] = c
		case mcp.ImageContent:
			if r.inBase64(c.Data) {
				res.Content[i] = mcp.NewTextContent("The picture is not shown: its file holds the value of a secret.")
			}
		}
	}
	if res.StructuredContent != nil {
		res.StructuredContent = r.record(res.StructuredContent)
	}
}

// inBase64 says whether the bytes of which data is the base64 show a known value.
// They can't be shown without it.
func (r *redactor) inBase64(data string) bool {
	raw, err := base64.StdEncoding.DecodeString(data)
	return err != nil || r.text(string(raw)) != string(raw)
}

// record is rec as it is if it holds no known value, else the same JSON without
// them.
func (r *redactor) record(rec any) any {
	raw, err := marshalJSON(rec)
	if err != nil {
		return nil // it could not be sent either
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil
	}
	clean, changed := r.value(value)
	if !changed {
		return rec
	}
	return clean
}

// value is a decoded JSON value without the known values, and whether that is
// another.
func (r *redactor) value(v any) (clean any, changed bool) {
	switch v := v.(type) {
	case string:
		text := r.text(v)
		return text, text != v
	case json.Number:
		text := r.text(v.String())
		if text != v.String() {
			return text, true
		}
	case []any:
		for i := range v {
			item, other := r.value(v[i])
			v[i], changed = item, changed || other
		}
	case map[string]any:
		for key, item := range v {
			item, other := r.value(item)
			name := r.text(key)
			if name != key {
				delete(v, key)
				other = true
			}
			v[name], changed = item, changed || other
		}
	}
	return v, changed
}

// RedactLog returns a handler that gives h its records without the values that
// these tools know: those that they have set as secrets, and those that Config
// names.
func (t *Toolset) RedactLog(h slog.Handler) slog.Handler {
	return redactedLog{redactor: t.redactor, to: h}
}

// redactedLog is a log without known values. It holds back attributes and groups
// until there is a record, since they may hold what becomes known later.
type redactedLog struct {
	redactor *redactor
	to       slog.Handler
	with     []logContext
}

// logContext is a group that was begun, or attributes.
type logContext struct {
	group string
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (l redactedLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.to.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (l redactedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.with = append(l.with[:len(l.with):len(l.with)], logContext{attrs: attrs})
	return l
}

// WithGroup implements slog.Handler.
func (l redactedLog) WithGroup(name string) slog.Handler {
	l.with = append(l.with[:len(l.with):len(l.with)], logContext{group: name})
	return l
}

// Handle implements slog.Handler.
func (l redactedLog) Handle(ctx context.Context, rec slog.Record) error {
	to := l.to
	for _, w := range l.with {
		if w.attrs == nil {
			to = to.WithGroup(l.redactor.text(w.group))
			continue
		}
		to = to.WithAttrs(l.redactor.attrs(w.attrs))
	}
	out := slog.NewRecord(rec.Time, rec.Level, l.redactor.text(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(l.redactor.attrs([]slog.Attr{a})...)
		return true
	})
	return to.Handle(ctx, out)
}

// attrs are attributes without known values. One whose value isn't text is
// written out if it shows a value.
func (r *redactor) attrs(list []slog.Attr) []slog.Attr {
	out := make([]slog.Attr, len(list))
	for i, a := range list {
		a.Key = r.text(a.Key)
		a.Value = a.Value.Resolve()
		switch a.Value.Kind() {
		case slog.KindGroup:
			a.Value = slog.GroupValue(r.attrs(a.Value.Group())...)
		default:
			shown := a.Value.String()
			if data, ok := a.Value.Any().([]byte); ok {
				shown = string(data)
			}
			if text := r.text(shown); text != shown {
				a.Value = slog.StringValue(text)
			}
		}
		out[i] = a
	}
	return out
}
