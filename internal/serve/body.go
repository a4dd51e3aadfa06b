package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// bodyTime is how long a client may take to send a request's body.
	bodyTime = 30 * time.Second

	// maxSkipped is how much of a body is read that nobody wants, in bytes.
	maxSkipped = 64 << 10
)

// heldBody is a request's body, read and counted.
type heldBody struct {
	*bytes.Reader
	budget *budget
	data   []byte
	held   int // bytes of the budget
}

// Close does nothing: release ends what is held.
func (*heldBody) Close() error { return nil }

var errBusy = errors.New("too much is held")

// takeBody reads the body of a POST, or answers why it is not taken and
// reports false. What hasn't arrived when closing is done is not waited for.
// The caller releases the body.
func takeBody(closing context.Context, b *budget, w http.ResponseWriter, r *http.Request) (*heldBody, bool) {
	types := r.Header.Values("Content-Type")
	media, _, err := mime.ParseMediaType(strings.Join(types, ","))
	if err != nil || media != typeJSON || len(types) != 1 {
		refuse(w, http.StatusUnsupportedMediaType, "the content type must be application/json")
		return nil, false
	}
	if r.ContentLength > maxLine {
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusRequestEntityTooLarge, "a message may have 8 MiB at most")
		return nil, false
	}
	if !b.take(0) {
		busy(w, "the server is busy: send this request again when others have been answered")
		return nil, false
	}
	body := &heldBody{budget: b}
	unlimit := limitBody(closing, w)
	err = body.read(w, r)
	unlimit()
	if err == nil {
		body.Reader = bytes.NewReader(body.data)
		return body, true
	}
	body.release()
	w.Header().Set("Connection", "close") // the rest of the body is not read
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "a message may have 8 MiB at most")
	case errors.Is(err, errBusy):
		busy(w, "the server is busy: send this request again when others have been answered")
	case closing.Err() != nil:
		busy(w, errClosing.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, "the message took too long to arrive")
	default:
		refuse(w, http.StatusBadRequest, "the message did not arrive whole")
	}
	return nil, false
}

// read reads what arrives in time, and counts it as it arrives: a length that
// is only announced takes nothing.
func (b *heldBody) read(w http.ResponseWriter, r *http.Request) error {
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
	if !b.budget.grow(n) {
		return false
	}
	b.held += n
	return true
}

// release gives back what the request took, once.
func (b *heldBody) release() {
	if b.budget != nil {
		b.budget.give(b.held)
		b.budget = nil
		b.Reader, b.data = new(bytes.Reader), nil
	}
}

// skipBody reads the body of a request whose method has no use for one, or
// answers why it doesn't and reports false. net/http would wait for it, without
// an end, before it answers.
func skipBody(closing context.Context, w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength == 0 {
		return true
	}
	defer limitBody(closing, w)()
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxSkipped)); err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is not read
		refuse(w, http.StatusBadRequest, "this method takes no body")
		return false
	}
	return true
}

// limitBody bounds the reading of a request's body: it ends after bodyTime, and
// when closing is done. The caller calls unlimit when it has read.
func limitBody(closing context.Context, w http.ResponseWriter) (unlimit func()) {
	rc := http.NewResponseController(w)
	// A writer without deadlines is a test's.
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
	ended := make(chan struct{})
	unbind := context.AfterFunc(closing, func() {
		defer close(ended)
		_ = rc.SetReadDeadline(time.Now())
	})
	return func() {
		if !unbind() {
			<-ended
		}
		_ = rc.SetReadDeadline(time.Time{})
	}
}

// limitRest bounds what is left of an exchange when its handler has returned:
// net/http reads what is still to come of the body, also of a request that was
// refused, and sends what is still to go of the response. The
// connection's next request begins without these deadlines.
func limitRest(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	// A writer without deadlines is a test's.
	now := time.Now()
	_ = rc.SetReadDeadline(now.Add(bodyTime))
	_ = rc.SetWriteDeadline(now.Add(bodyTime + wireTime)) // it is sent when the body has been read
}

// bodyOf is the body that takeBody has read.
func bodyOf(r *http.Request) ([]byte, error) {
	if b, ok := r.Body.(*heldBody); ok {
		return b.data, nil
	}
	return io.ReadAll(r.Body)
}
