package tools

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	// progressApart is the least time between two progress notifications, and
	// progressSilence after what time one is sent without news.
	progressApart   = 200 * time.Millisecond
	progressSilence = time.Second
)

// progressKey is the context key of a call's progress token.
type progressKey struct{}

// withProgress remembers the token that a client sent with a call, if any.
func withProgress(ctx context.Context, req mcp.CallToolRequest) context.Context {
	if req.Params.Meta == nil || req.Params.Meta.ProgressToken == nil {
		return ctx
	}
	return context.WithValue(ctx, progressKey{}, req.Params.Meta.ProgressToken)
}

// progress tells the client of a call how it goes on while it waits: the
// seconds since began, and the last line of what saw is told. saw is nil when
// the client didn't ask. stop ends it; nothing is sent after it has returned.
func (t *Toolset) progress(ctx context.Context, began time.Time) (saw func(line string), stop func()) {
	token := ctx.Value(progressKey{})
	srv := server.ServerFromContext(ctx)
	if token == nil || srv == nil {
		return nil, func() {}
	}
	p := &progress{began: began, over: make(chan struct{}), send: func(elapsed time.Duration, line string) {
		// A client that can't be told any more is seen elsewhere.
		_ = srv.SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
			"progressToken": token,
			"progress":      float64(elapsed.Round(time.Millisecond).Milliseconds()) / 1000,
			"message":       fmt.Sprintf("%.0f s: %s", elapsed.Seconds(), oneLine(t.redactor.text(line), 200)),
		})
	}}
	p.ticks.Go(p.tick)
	return p.saw, func() {
		close(p.over)
		p.ticks.Wait()
	}
}

type progress struct {
	began time.Time
	send  func(elapsed time.Duration, line string)
	over  chan struct{}
	ticks sync.WaitGroup

	mu   sync.Mutex
	last time.Time
	line string
}

// saw notes a line, and sends it unless one was sent a moment ago.
func (p *progress) saw(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line
	p.sendAfter(progressApart)
}

// sendAfter sends the last line if nothing was sent for so long. It is called
// under the lock.
func (p *progress) sendAfter(quiet time.Duration) {
	now := time.Now()
	if now.Sub(p.last) < quiet {
		return
	}
	p.last = now
	p.send(now.Sub(p.began), p.line)
}

// tick sends what wasn't sent at once, and a sign of life.
func (p *progress) tick() {
	ticker := time.NewTicker(progressSilence)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			p.sendAfter(progressSilence - progressApart/2)
			p.mu.Unlock()
		case <-p.over:
			return
		}
	}
}
