package slicertest

import (
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// maxJournal is how many requests a journal keeps.
const maxJournal = 10_000

// Request is one request that a Server received.
type Request struct {
	Method string
	Path   string // unescaped
	Query  url.Values
	Header http.Header // without Authorization
}

// Requests returns the requests that the server has received, oldest first,
// the last 10,000 at most. A request is there as soon as its header is read.
func (s *Server) Requests() []Request {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return slices.Clone(s.journal.requests)
}

type journal struct {
	mu       sync.Mutex
	requests []Request
}

// record notes each request and hands it on.
func (j *journal) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Clone()
		header.Del("Authorization")
		j.mu.Lock()
		if len(j.requests) == maxJournal {
			j.requests = slices.Delete(j.requests, 0, 1)
		}
		j.requests = append(j.requests, Request{
			Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: header,
		})
		j.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}
