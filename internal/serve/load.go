package serve

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"
)

// bodyTime is how long a client may take to send a request's body.
const bodyTime = 30 * time.Second

// load bounds what the requests of all clients take.
type load struct {
	running chan struct{} // holds an element for every tool call that runs

	mu       sync.Mutex
	requests int
	held     int // bytes of their bodies
}

func newLoad() *load { return &load{running: make(chan struct{}, maxRunning)} }

// heldBody is a request's body, read and counted.
type heldBody struct {
	*bytes.Reader
	load *load
	data []byte
	held int
}

// Close does nothing: release ends what is held.
func (*heldBody) Close() error { return nil }

var errBusy = errors.New("too much is held")

// take reads the body of a POST, or answers why it is not taken and reports
// false. The caller releases it.
func (l *load) take(w http.ResponseWriter, r *http.Request) (*heldBody, bool) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "the content type must be application/json")
		return nil, false
	}
	if r.ContentLength > maxLine {
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusRequestEntityTooLarge, "a message may have 8 MiB at most")
		return nil, false
	}
	if !l.enter() {
		busy(w, "the server is busy: send this request again when others have been answered")
		return nil, false
	}
	b := &heldBody{load: l}
	err = b.read(w, r)
	if err == nil {
		b.Reader = bytes.NewReader(b.data)
		return b, true
	}
	b.release()
	w.Header().Set("Connection", "close") // the rest of the body is not read
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "a message may have 8 MiB at most")
	case errors.Is(err, errBusy):
		busy(w, "the server is busy: send this request again when others have been answered")
	case errors.Is(err, os.ErrDeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, "the message took too long to arrive")
	default:
		refuse(w, http.StatusBadRequest, "the message did not arrive whole")
	}
	return nil, false
}

func (l *load) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests >= maxInFlight {
		return false
	}
	l.requests++
	return true
}

// read reads what arrives in time, and counts it as it arrives: a length that
// is only announced takes nothing.
func (b *heldBody) read(w http.ResponseWriter, r *http.Request) error {
	rc := http.NewResponseController(w)
	// A writer without deadlines is a test's.
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	body := http.MaxBytesReader(w, r.Body, maxLine)
	buf := make([]byte, 0, 512)
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 && !b.hold(n) {
			return errBusy
		}
		if errors.Is(err, io.EOF) {
			b.data = buf
			return nil
		}
		if err != nil {
			return err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

func (b *heldBody) hold(n int) bool {
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	if b.load.held+n > maxHeld {
		return false
	}
	b.load.held += n
	b.held += n
	return true
}

// release gives back what the request took.
func (b *heldBody) release() {
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	b.load.requests--
	b.load.held -= b.held
}
