package daemon

import (
	"math"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"
)

const (
	maxWatchPaths    = 64
	maxWatchPatterns = 64
	maxWatchEvents   = math.MaxInt32
	maxWatchTime     = 24 * time.Hour
	maxDebounce      = time.Minute
	defaultDebounce  = 200 * time.Millisecond

	watchParams = "paths* patterns* events* recursive one_shot debounce timeout max_events uid"
)

// watchRequest is a checked watch call.
type watchRequest struct {
	spec      WatchSpec
	patterns  []string
	ops       []WatchOp // none is all
	debounce  time.Duration
	timeout   time.Duration // 0 is none
	maxEvents int           // 0 is no limit
}

// parseWatch reads a watch call.
func parseWatch(r *http.Request, q query) (*watchRequest, error) {
	paths, err := watchPaths(q)
	if err != nil {
		return nil, err
	}
	req := &watchRequest{spec: WatchSpec{Paths: paths}, patterns: q.list("patterns")}
	if req.spec.Recursive, err = q.flag("recursive", false); err != nil {
		return nil, err
	}
	if err := checkWatchPatterns(req.patterns); err != nil {
		return nil, err
	}
	if req.ops, err = watchOps(q.list("events")); err != nil {
		return nil, err
	}
	if req.debounce, err = q.duration("debounce", defaultDebounce, 0, maxDebounce); err != nil {
		return nil, err
	}
	if req.timeout, err = q.duration("timeout", 0, time.Millisecond, maxWatchTime); err != nil {
		return nil, err
	}
	if text := q.text("max_events"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxWatchEvents {
			return nil, refuse(http.StatusBadRequest, "max_events must be a number from 0, which is no limit, to %d, not %q", maxWatchEvents, text)
		}
		req.maxEvents = n
	}
	oneShot, err := q.flag("one_shot", false)
	if err != nil {
		return nil, err
	}
	if oneShot {
		req.maxEvents = 1
	}
	// Events aren't kept: a client that comes again begins anew.
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if _, err := strconv.ParseUint(id, 10, 64); err != nil {
			return nil, refuse(http.StatusBadRequest, "Last-Event-ID must be a number of 64 bits, not %q", id)
		}
	}
	return req, nil
}

func watchPaths(q query) ([]string, error) {
	uid, err := q.id("uid")
	if err != nil {
		return nil, err
	}
	names := q.list("paths")
	switch {
	case len(names) == 0:
		return nil, refuse(http.StatusBadRequest, "paths is required")
	case len(names) > maxWatchPaths:
		return nil, refuse(http.StatusBadRequest, "%d paths are more than the limit, which is %d", len(names), maxWatchPaths)
	}
	var paths []string
	for _, name := range names {
		p, err := guestPath(name, uid)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths, nil
}

func checkWatchPatterns(patterns []string) error {
	if len(patterns) > maxWatchPatterns {
		return refuse(http.StatusBadRequest, "%d patterns are more than the limit, which is %d", len(patterns), maxWatchPatterns)
	}
	for _, pattern := range patterns {
		if pattern == "" || len(pattern) > maxPath {
			return refuse(http.StatusBadRequest, "a pattern is empty or longer than %d bytes", maxPath)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return refuse(http.StatusBadRequest, "pattern %q is malformed", pattern)
		}
	}
	return nil
}

func watchOps(names []string) ([]WatchOp, error) {
	var (
		known = []WatchOp{WatchCreate, WatchWrite, WatchRemove, WatchRename, WatchChmod}
		ops   []WatchOp
		all   bool
	)
	for _, name := range names {
		switch {
		case name == "all":
			all = true
		case slices.Contains(known, WatchOp(name)):
			ops = append(ops, WatchOp(name))
		default:
			return nil, refuse(http.StatusBadRequest, "events must be create, write, remove, rename, chmod or all, not %q", name)
		}
	}
	if all {
		return nil, nil
	}
	return ops, nil
}

// wants reports whether a change is asked for. That changes were lost is told
// to everybody.
func (req *watchRequest) wants(c WatchChange) bool {
	if c.Op == WatchOverflow {
		return true
	}
	if len(req.ops) > 0 && !slices.Contains(req.ops, c.Op) {
		return false
	}
	base := path.Base(c.Path)
	return len(req.patterns) == 0 || slices.ContainsFunc(req.patterns, func(pattern string) bool {
		// The patterns have been checked, so that there is no error.
		whole, _ := path.Match(pattern, c.Path)
		last, _ := path.Match(pattern, base)
		return whole || last
	})
}

// duration is a time such as 200ms from low to high; byDefault when absent.
func (q query) duration(name string, byDefault, low, high time.Duration) (time.Duration, error) {
	text := q.text(name)
	if text == "" {
		return byDefault, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < low || d > high {
		return 0, refuse(http.StatusBadRequest, "%s must be a duration such as 200ms, from %s to %s, not %q", name, low, high, text)
	}
	return d, nil
}
