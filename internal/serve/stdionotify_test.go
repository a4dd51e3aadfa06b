package serve_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func TestStdioProgressPrecedesItsResult(t *testing.T) {
	const want = "notifications/progress 0,notifications/progress 1,notifications/progress 2,1: done"
	for range 200 {
		got := pipe(t, newFixture(), initialize+"\n"+
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}`)
		if got := strings.Join(got[1:], ","); got != want {
			t.Fatalf("the call was answered with %q, want %q", got, want)
		}
	}
}

func TestStdioDropsProgressOfAFinishedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		c := dial(t.Context(), t, f, serve.StdioOptions{})
		c.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"late_progress","_meta":{"progressToken":1}}}`)
		if got, want := c.receive().String(), "1: done"; got != want {
			t.Errorf("the call was answered with %q, want %q", got, want)
		}
		close(f.release)
		if err := <-f.ended; err != nil {
			t.Errorf("the late notification was not taken: %v", err)
		}
		if got := c.rest(); got != nil {
			t.Errorf("after the result came %q, want nothing", got)
		}
	})
}

func TestStdioServersDoNotShareNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newFixture(), newFixture()
		ca := dial(t.Context(), t, a, serve.StdioOptions{})
		cb := dial(t.Context(), t, b, serve.StdioOptions{})
		for range 10 { // more than luck would bring to the right client
			a.SendNotificationToAllClients("notifications/message", nil)
			if got, want := ca.receive().Method, "notifications/message"; got != want {
				t.Errorf("the server's client received %q, want %q", got, want)
			}
		}
		if got := append(ca.rest(), cb.rest()...); got != nil {
			t.Errorf("then the clients received %q, want nothing", got)
		}
	})
}
