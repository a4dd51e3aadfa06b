package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// watchEvent is the data of a watch's event.
type watchEvent struct {
	ID        uint64
	Type      string
	Path      string
	Timestamp time.Time
	Size      int64
	IsDir     bool
	Message   string
}

func (e watchEvent) String() string {
	return fmt.Sprintf("%d %s %s %d %t", e.ID, e.Type, e.Path, e.Size, e.IsDir)
}

// watchReader reads a watch's answer.
type watchReader struct {
	a    *api
	resp *http.Response
	body *bufio.Reader
}

// watchPath is the path of a watch call; params is name, value, name, value, ….
func watchPath(vm string, params ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return "/vm/" + vm + "/fs/watch?" + q.Encode()
}

// watch begins to watch.
func (a *api) watch(ctx context.Context, vm string, params ...string) *watchReader {
	a.t.Helper()
	resp, err := a.srv.HTTPClient().Do(a.request(ctx, "GET", watchPath(vm, params...), nil))
	if err != nil {
		a.t.Fatalf("watch: %v", err)
	}
	a.t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		a.t.Fatalf("watch = %d %s, want 200 text/event-stream", resp.StatusCode, kind)
	}
	return &watchReader{a, resp, bufio.NewReader(resp.Body)}
}

// next reads up to an empty line: an event, or a comment, which has no type.
func (r *watchReader) next() (watchEvent, error) {
	r.a.t.Helper()
	var (
		e    watchEvent
		kind string
		id   uint64
	)
	for {
		line, err := r.body.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			if id, err = strconv.ParseUint(value, 10, 64); err != nil {
				r.a.t.Errorf("id %q is no number", value)
			}
		case "event":
			kind = value
		case "data":
			decode(r.a.t, value, &e)
		case ":":
		case "":
			if e.Type != "" && (kind != "watch" || id != e.ID) {
				r.a.t.Errorf("event %s has event: %q, id: %d", e, kind, id)
			}
			return e, nil
		default:
			r.a.t.Errorf("unexpected line %q", line)
		}
	}
}

// take reads n events.
func (r *watchReader) take(n int) []string {
	r.a.t.Helper()
	got := []string{}
	for len(got) < n {
		e, err := r.next()
		if err != nil {
			r.a.t.Fatalf("watch ended after %q: %v", got, err)
		}
		if e.Type != "" {
			got = append(got, e.String())
		}
	}
	return got
}

// rest reads to the end.
func (r *watchReader) rest() ([]string, error) {
	r.a.t.Helper()
	got := []string{}
	for {
		e, err := r.next()
		if err != nil {
			return got, err
		}
		if e.Type != "" {
			got = append(got, e.String())
		}
	}
}
