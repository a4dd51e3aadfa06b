package serve_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func TestStdioCallsDoNotStarveEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		for i := range 64 {
			c.send(call(fmt.Sprint(i+1), "wait", `{}`))
		}
		for range 64 {
			<-f.started
		}
		c.send(call(`"quick"`, "echo", `{"text":"hi"}`))
		if got, want := c.receive().String(), `"quick": hi`; got != want {
			t.Errorf("beside 64 blocked calls came %q, want %q", got, want)
		}
		close(f.release)
		if got := len(c.rest()); got != 64 {
			t.Errorf("%d answers came, want 64", got)
		}
	})
}

func TestStdioRefusesAndCancelsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		const most = 4096
		for i := range most {
			c.send(call(fmt.Sprint(i+1), "wait", `{}`))
		}
		c.send(call(`"one too many"`, "echo", `{}`))
		if got, want := c.receive().String(), `"one too many": error -32000`; got != want {
			t.Errorf("the request over the limit was answered with %q, want %q", got, want)
		}
		for i := range most {
			c.send(cancelled(fmt.Sprint(i + 1)))
		}
		c.send(call(`"after"`, "echo", `{"text":"hi"}`))
		if diff := cmp.Diff([]string{`"after": hi`}, c.rest()); diff != "" {
			t.Errorf("after the cancels came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioBoundsTheBytesItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		for i := range 256 { // as many as run at once: what follows waits
			c.send(call(fmt.Sprint(i), "wait", `{}`))
		}
		synctest.Wait()
		pad := `{"pad":"` + strings.Repeat("x", 7<<20) + `"}`
		for i := range 4 {
			c.send(call(fmt.Sprintf(`"pad %d"`, i+1), "wait", pad))
		}
		c.send(call(`"pad 5"`, "wait", pad))
		if got, want := c.receive().String(), `"pad 5": error -32000`; got != want {
			t.Errorf("the fifth 7 MiB were answered with %q, want %q", got, want)
		}
		for i := range 4 {
			c.send(cancelled(fmt.Sprintf(`"pad %d"`, i+1)))
		}
		close(f.release)
		if got := len(c.rest()); got != 256 {
			t.Errorf("%d answers came, want 256", got)
		}
	})
}

func TestStdioLosesNoAnswerOfParallelCalls(t *testing.T) {
	const n = 1000
	f := newFixture()
	c := dial(t.Context(), t, f, serve.StdioOptions{})
	go func() {
		for i := range n {
			if _, err := io.WriteString(c.in, call(fmt.Sprint(i+1), "echo", fmt.Sprintf(`{"text":"text %d"}`, i+1))+"\n"); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	got := map[string]bool{}
	for range n {
		got[c.receive().String()] = true
	}
	for i := range n {
		if want := fmt.Sprintf("%d: text %d", i+1, i+1); !got[want] {
			t.Errorf("%q did not come", want)
		}
	}
	if got := c.rest(); got != nil {
		t.Errorf("then came %q, want nothing", got)
	}
}
