package daemon_test

import (
	"io"
	"strings"
)

// feed is a request body that is written bit by bit.
type feed struct {
	parts chan string
	rest  io.Reader
}

func newFeed() *feed { return &feed{parts: make(chan string), rest: strings.NewReader("")} }

// send hands over a part; it returns when the part is being sent.
func (f *feed) send(part string) { f.parts <- part }

func (f *feed) end() { close(f.parts) }

func (f *feed) Read(p []byte) (int, error) {
	for {
		if n, _ := f.rest.Read(p); n > 0 { // a strings.Reader has no other error than its end
			return n, nil
		}
		part, ok := <-f.parts
		if !ok {
			return 0, io.EOF
		}
		f.rest = strings.NewReader(part)
	}
}
