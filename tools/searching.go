package tools

import (
	"context"
	"errors"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// searchers is how many files are read at once, and searchAhead how many
	// results may wait for those before them.
	searchers   = 8
	searchAhead = 64

	// largestSearched is the largest file that is searched, in bytes,
	// mostSearched the most bytes of one search, and mostSearchedFiles the most
	// files.
	largestSearched   = 256 << 20
	mostSearched      = 2 << 30
	mostSearchedFiles = 200_000

	// searchFileTime is how long one file may take.
	searchFileTime = 15 * time.Second
)

// searching is a search below a folder on its way. Files are read side by side,
// and their results taken in the order of the walk.
type searching struct {
	client *slicer.SlicerClient
	vm     string // hostname
	walk   *walk
	only   glob
	match  *matcher

	files  int64 // that were searched
	bytes  int64
	binary int64
	cut    int64 // files with a line that was matched in part
	large  someNames
	closed someNames // files that couldn't be read
	over   string    // why the search ended early, as a clause; "" for its end
	last   string    // the last file that was searched
}

// job is one file of a search.
type job struct {
	path string
	size int64
	done chan struct{} // closed when the rest is there
	res  searched
	err  error
}

// run searches, and hands each file with a match to take, which reports whether
// it wants more. An error is one that ends the search for good; the end of ctx's
// time is none.
func (s *searching) run(ctx context.Context, take func(p string, res searched) bool) error {
	inner, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()

	jobs, order := make(chan *job), make(chan *job, searchAhead)
	var walkErr error
	tasks.Go(func() {
		defer close(order)
		defer close(jobs)
		walkErr = s.produce(inner, jobs, order)
	})
	for range searchers {
		tasks.Go(func() {
			for j := range jobs {
				s.work(inner, j)
			}
		})
	}
	for j := range order {
		<-j.done
		more, err := s.took(ctx, j, take)
		if err != nil || !more {
			return err
		}
	}
	if errors.Is(walkErr, context.DeadlineExceeded) {
		s.over = "the time was up"
		return nil
	}
	return walkErr
}

// produce walks and makes a job of each file that is to be searched.
func (s *searching) produce(ctx context.Context, jobs, order chan<- *job) error {
	for f, err := range s.walk.folders(ctx) {
		if err != nil {
			return err
		}
		for _, e := range f.entries {
			if e.Type != "file" || !s.only.matches(f.from(e.Name)) {
				continue
			}
			j := &job{path: f.below(e.Name), size: e.Size, done: make(chan struct{})}
			if e.Size > largestSearched {
				close(j.done)
			}
			select {
			case order <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
			if e.Size > largestSearched {
				continue
			}
			select {
			case jobs <- j:
			case <-ctx.Done():
				j.err = ctx.Err()
				close(j.done)
				return ctx.Err()
			}
		}
	}
	return nil
}

func (s *searching) work(ctx context.Context, j *job) {
	defer close(j.done)
	limited, cancel := context.WithTimeout(ctx, searchFileTime)
	defer cancel()
	j.res, j.err = s.match.file(limited, s.client, s.vm, j.path)
	if j.err != nil && limited.Err() != nil && ctx.Err() == nil {
		j.err = errSlowFile
	}
}

// errSlowFile is a file that takes longer than one may.
var errSlowFile = errors.New("the file takes too long")

// took adds a file's result and reports whether the search goes on.
func (s *searching) took(ctx context.Context, j *job, take func(p string, res searched) bool) (bool, error) {
	switch {
	case j.size > largestSearched:
		s.large.add(j.path)
		return true, nil
	case errors.Is(j.err, errSlowFile), j.err != nil && (aboutOnePath(j.err) || (brokenOff(j.err) || isFault(j.err)) && ctx.Err() == nil && s.readable(ctx)):
		s.closed.add(j.path)
		return true, nil
	case errors.Is(j.err, context.DeadlineExceeded):
		s.over = "the time was up"
		return false, nil
	case j.err != nil:
		return false, j.err
	}
	s.last = j.path
	s.bytes += j.res.bytes
	if j.res.binary {
		s.binary++
		return true, nil
	}
	s.files++
	if j.res.cut {
		s.cut++
	}
	if j.res.matches > 0 && !take(j.path, j.res) {
		return false, nil
	}
	switch {
	case s.files >= mostSearchedFiles:
		s.over = "it had searched " + count(s.files, "file") + ", the most of one call"
		return false, nil
	case s.bytes >= mostSearched:
		s.over = "it had read " + size(s.bytes) + ", the most of one call"
		return false, nil
	}
	return true, nil
}

// readable says whether the VM still answers: then a file that broke off, or that
// the daemon couldn't open, is at fault itself, as some in /proc are.
func (s *searching) readable(ctx context.Context) bool {
	_, err := s.client.Stat(ctx, s.vm, s.walk.root)
	return err == nil
}
