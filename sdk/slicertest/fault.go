package slicertest

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Fault is what goes wrong with requests. Its parts take place in the order
// of the fields.
type Fault struct {
	// Delay is waited before anything else.
	Delay time.Duration

	// Stall, unless nil, holds the request until it is closed, the client
	// goes away or the server closes. With StallAfter it is not the request
	// that is held but the answer, after that many bytes of its body.
	Stall      <-chan struct{}
	StallAfter int64

	// Status, unless 0, is the answer's status, with Body as its text; the
	// daemon doesn't see the request.
	Status int
	Body   string

	// Frames is what goes wrong with the answer's frames.
	Frames FrameFault

	// Cut breaks the connection after CutAfter bytes of the answer, not
	// counting its header.
	Cut      bool
	CutAfter int64

	// Times is how many requests are hit; 0 is all of them.
	Times int
}

// Fault makes requests that fit pattern, which is one of http.ServeMux, go
// wrong from now on. Of several faults that fit, the first one with Times left
// hits.
func (s *Server) Fault(pattern string, f Fault) {
	mux := http.NewServeMux()
	mux.Handle(pattern, http.NotFoundHandler())
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &plannedFault{Fault: f, mux: mux})
}

type plannedFault struct {
	Fault
	mux  *http.ServeMux
	hits int
}

// faults are a server's faults. The zero value has none.
type faults struct {
	mu      sync.Mutex
	list    []*plannedFault
	cleared chan struct{}
}

// over is closed by clear.
func (fs *faults) over() chan struct{} {
	if fs.cleared == nil {
		fs.cleared = make(chan struct{})
	}
	return fs.cleared
}

// clear forgets all faults and lets what they hold go on.
func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = nil
	close(fs.over())
}

// next returns the fault that hits r, nil when there is none.
func (fs *faults) next(r *http.Request) (f *plannedFault, cleared <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if _, pattern := f.mux.Handler(r); pattern == "" || f.Times > 0 && f.hits >= f.Times {
			continue
		}
		f.hits++
		return f, fs.over()
	}
	return nil, nil
}

// inject lets faults hit requests on their way to next.
func (fs *faults) inject(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, cleared := fs.next(r)
		if f == nil {
			next.ServeHTTP(w, r)
			return
		}
		if f.Delay > 0 {
			delay := time.NewTimer(f.Delay)
			defer delay.Stop()
			select {
			case <-delay.C:
			case <-cleared:
			case <-r.Context().Done():
			}
		}
		if f.Stall != nil && f.StallAfter == 0 {
			select {
			case <-f.Stall:
			case <-cleared:
			case <-r.Context().Done():
			}
		}
		switch {
		case f.Status != 0:
			w.WriteHeader(f.Status)
			_, _ = io.WriteString(w, f.Body) // the client may be gone
		default:
			f.hit(w, r, next, cleared)
		}
	})
}

// hit lets next answer, and spoils the answer on its way.
func (f *plannedFault) hit(w http.ResponseWriter, r *http.Request, next http.Handler, cleared <-chan struct{}) {
	out := w
	if f.Cut {
		out = &cutWriter{ResponseWriter: out, left: f.CutAfter}
	}
	if f.Stall != nil && f.StallAfter > 0 {
		out = &stallWriter{ResponseWriter: out, left: f.StallAfter, released: f.Stall, cleared: cleared, gone: r.Context().Done()}
	}
	if f.Frames != (FrameFault{}) {
		m := &frameMangler{ResponseWriter: out, fault: f.Frames}
		next.ServeHTTP(m, r)
		m.finish()
	} else {
		next.ServeHTTP(out, r)
	}
	if f.Cut {
		panic(http.ErrAbortHandler)
	}
}

var errCut = errors.New("the answer was cut by a fault")

// cutWriter lets the first bytes of an answer through.
type cutWriter struct {
	http.ResponseWriter
	mu   sync.Mutex
	left int64
}

// Write implements http.ResponseWriter.
func (c *cutWriter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == nil && n < len(p) {
		_ = http.NewResponseController(c.ResponseWriter).Flush() // the connection breaks anyway
		err = errCut
	}
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *cutWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// stallWriter stops after the first bytes of an answer, until it is released.
type stallWriter struct {
	http.ResponseWriter
	released, cleared, gone <-chan struct{}

	mu   sync.Mutex
	left int64 // bytes until the stall
}

// Write implements http.ResponseWriter.
func (s *stallWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(int64(len(p)), s.left)
	s.left -= n
	if n == int64(len(p)) {
		return s.ResponseWriter.Write(p)
	}
	if _, err := s.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	// What was written so far must have arrived; a broken connection is told
	// by the next write.
	_ = http.NewResponseController(s.ResponseWriter).Flush()
	select {
	case <-s.released:
	case <-s.cleared:
	case <-s.gone:
	}
	rest, err := s.ResponseWriter.Write(p[n:])
	return int(n) + rest, err
}

// Unwrap lets http.ResponseController reach the connection.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
