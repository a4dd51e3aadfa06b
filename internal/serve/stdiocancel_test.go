package serve_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func TestStdioCancelsARunningCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`))
		<-f.started
		c.send(cancelled("1"))
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		c.send(call("1", "echo", `{"text":"the id is free again"}`))
		if diff := cmp.Diff([]string{"1: the id is free again"}, c.rest()); diff != "" {
			t.Errorf("after the cancel came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioNeverStartsACancelledQueuedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		const running = 256
		for i := range running {
			c.send(call(fmt.Sprint(i+1), "wait", `{"label":"running"}`))
		}
		synctest.Wait() // they have all started
		c.send(call(`"queued"`, "wait", `{"label":"queued"}`))
		synctest.Wait()
		c.send(cancelled(`"queued"`))
		synctest.Wait()
		close(f.release)
		if got := len(c.rest()); got != running {
			t.Errorf("%d answers came, want %d", got, running)
		}
		close(f.started)
		for label := range f.started {
			if label == "queued" {
				t.Error("the cancelled call was started")
			}
		}
	})
}

func TestStdioTellsIDsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`), call(`"1"`, "wait", `{}`))
		<-f.started
		<-f.started
		c.send(cancelled(`"1"`))
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v, want %v", err, context.Canceled)
		}
		close(f.release)
		if diff := cmp.Diff([]string{"1: waited"}, c.rest()); diff != "" {
			t.Errorf("after the cancel of \"1\" came (-want +got):\n%s", diff)
		}
	})
}

func TestStdioRefusesAnIDInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(call("1", "wait", `{}`))
		<-f.started
		c.send(call("1", "echo", `{}`))
		if got, want := c.receive().String(), "1: error -32600"; got != want {
			t.Errorf("the second request was answered with %q, want %q", got, want)
		}
		close(f.release)
		if diff := cmp.Diff([]string{"1: waited"}, c.rest()); diff != "" {
			t.Errorf("then came (-want +got):\n%s", diff)
		}
	})
}
