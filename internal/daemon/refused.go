package daemon

import (
	"net/http"
	"time"
)

// hurry lets an answer go out while the client still sends, or waits before it
// does: net/http by itself first waits for a body's end. It is called before
// the answer is written, what it returns after; the connection is closed then.
func hurry(w http.ResponseWriter, r *http.Request) (after func()) {
	body, ok := r.Body.(*callBody)
	if !ok || body.ended.Load() {
		return func() {}
	}
	conn := http.NewResponseController(w)
	if conn.EnableFullDuplex() != nil {
		return func() {} // no connection, or one on which nothing waits
	}
	w.Header().Set("Connection", "close")
	return func() {
		if conn.Flush() != nil {
			return
		}
		// What is on its way is read off, as a connection that is closed over it
		// may lose the answer.
		chunk := make([]byte, 32<<10)
		for until := time.Now().Add(drainLimit); time.Now().Before(until); {
			if conn.SetReadDeadline(time.Now().Add(drainIdle)) != nil {
				return
			}
			if _, err := body.Read(chunk); err != nil {
				break
			}
		}
		// From here on nothing more is waited for. A connection without deadlines
		// ends with its client.
		_ = conn.SetReadDeadline(time.Now())
	}
}
