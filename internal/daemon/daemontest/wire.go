package daemontest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// callLimit bounds every call of the tests, so that none can hang.
const callLimit = 60 * time.Second

const (
	typeJSON   = "application/json"
	typeText   = "text/plain"
	typeNDJSON = "application/x-ndjson"
	typeBinary = "application/octet-stream"
	typeTar    = "application/x-tar"
)

// api makes the calls of one test.
type api struct {
	t     *testing.T
	suite *suite
	srv   Server
	token string
}

// run runs a named case of a.
func (a *api) run(name string, test func(a *api)) {
	a.t.Helper()
	a.t.Run(name, func(t *testing.T) {
		inner := *a
		inner.t = t
		test(&inner)
	})
}

// needs skips a test that the guests can't do.
func (a *api) needs(what Ability) {
	a.t.Helper()
	if reason, lacks := a.srv.Lacks[what]; lacks {
		a.t.Skipf("needs that a guest %s: %s", what, reason)
	}
}

// request makes a request; header is name, value, name, value, ….
func (a *api) request(ctx context.Context, method, path string, body io.Reader, header ...string) *http.Request {
	a.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, a.srv.URL+path, body)
	if err != nil {
		a.t.Fatalf("NewRequest(%s %s) = %v", method, path, err)
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// open sends req and returns the answer with its body still to be read; it is
// closed with the test.
func (a *api) open(req *http.Request) *http.Response {
	a.t.Helper()
	resp, err := a.srv.Client.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	a.t.Cleanup(func() { resp.Body.Close() })
	a.suite.note(req, resp.StatusCode)
	return resp
}

// call makes a call and reads the answer to its end.
func (a *api) call(method, path, body string, header ...string) *reply {
	a.t.Helper()
	return a.send(method, path, strings.NewReader(body), header...)
}

func (a *api) send(method, path string, body io.Reader, header ...string) *reply {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	defer cancel()
	resp := a.open(a.request(ctx, method, path, body, header...))
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Errorf("%s %s: read the answer: %v", method, path, err)
	}
	return &reply{t: a.t, call: method + " " + path, status: resp.StatusCode, header: resp.Header, body: text}
}

// ok makes a call that must succeed with the given status.
func (a *api) ok(status int, method, path, body string, header ...string) *reply {
	a.t.Helper()
	r := a.call(method, path, body, header...)
	if r.status != status {
		a.t.Fatalf("%s = %d %s, want %d", r.call, r.status, r.body, status)
	}
	return r
}

// refused makes a call that must be refused, in a way that fits its path.
func (a *api) refused(status int, says, method, path, body string, header ...string) {
	a.t.Helper()
	a.call(method, path, body, header...).refused(status, says)
}

// reply is an answer, read to its end.
type reply struct {
	t      *testing.T
	call   string
	status int
	header http.Header
	body   []byte
}

// is checks the answer's media type.
func (r *reply) is(media string) *reply {
	r.t.Helper()
	got, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil || got != media {
		r.t.Errorf("%s is of type %q, want %s", r.call, r.header.Get("Content-Type"), media)
	}
	if got := r.header.Get("X-Content-Type-Options"); got != "nosniff" {
		r.t.Errorf("%s: X-Content-Type-Options = %q, want nosniff", r.call, got)
	}
	return r
}

// refused checks that the answer is a refusal that says what is wrong: JSON,
// or plain text from the proxy's routes.
func (r *reply) refused(status int, says string) {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("%s = %d %s, want %d", r.call, r.status, r.body, status)
		return
	}
	_, path, _ := strings.Cut(r.call, " ")
	message := strings.TrimSuffix(string(r.body), "\n")
	if strings.HasPrefix(path, "/proxy/") {
		r.is(typeText)
	} else {
		message, _ = r.is(typeJSON).object(fields{"error": "text"})["error"].(string)
	}
	if message == "" || !strings.Contains(message, says) {
		r.t.Errorf("%s = %d, and says %q, want %q", r.call, r.status, message, says)
	}
}

// object is the answer, a JSON object with exactly these fields.
func (r *reply) object(want fields) map[string]any {
	r.t.Helper()
	r.is(typeJSON)
	return object(r.t, r.call, r.body, want)
}

// list is the answer, a JSON array of objects with exactly these fields.
func (r *reply) list(want fields) []map[string]any {
	r.t.Helper()
	r.is(typeJSON)
	var raw []json.RawMessage
	if err := json.Unmarshal(r.body, &raw); err != nil || raw == nil {
		r.t.Fatalf("%s = %s, want a JSON array", r.call, r.body)
	}
	list := make([]map[string]any, 0, len(raw))
	for _, item := range raw {
		list = append(list, object(r.t, r.call, item, want))
	}
	return list
}

// fields are the keys of a JSON object and their types: text, number, bool,
// time (RFC 3339), texts (an array of strings), list, object or null. A key
// that ends with ? may be missing; | separates types that may be.
type fields map[string]string

// with is f and the fields of more.
func (f fields) with(more fields) fields {
	all := make(fields, len(f)+len(more))
	for _, set := range []fields{f, more} {
		for name, kind := range set {
			all[name] = kind
		}
	}
	return all
}

// object decodes text, which must be a JSON object with exactly these fields.
func object(t testing.TB, call string, text []byte, want fields) map[string]any {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil || got == nil {
		t.Fatalf("%s: %s is no JSON object: %v", call, text, err)
	}
	for name := range want {
		key, optional := strings.CutSuffix(name, "?")
		if _, ok := got[key]; !ok && !optional {
			t.Errorf("%s: %s has no field %q", call, bytes.TrimSpace(text), key)
		}
	}
	for key, value := range got {
		kinds, ok := want[key]
		if !ok {
			kinds, ok = want[key+"?"]
		}
		if !ok {
			t.Errorf("%s: %s has a field %q that no client knows", call, bytes.TrimSpace(text), key)
			continue
		}
		fits := false
		for kind := range strings.SplitSeq(kinds, "|") {
			fits = fits || isKind(value, kind)
		}
		if !fits {
			t.Errorf("%s: %s: %q is %v, want %s", call, bytes.TrimSpace(text), key, value, kinds)
		}
	}
	return got
}

// isKind reports whether a decoded JSON value is of a kind that fields name.
func isKind(value any, kind string) bool {
	switch value := value.(type) {
	case string:
		if kind == "time" {
			at, err := time.Parse(time.RFC3339Nano, value)
			return err == nil && !at.IsZero()
		}
		return kind == "text"
	case float64:
		return kind == "number"
	case bool:
		return kind == "bool"
	case nil:
		return kind == "null"
	case map[string]any:
		return kind == "object"
	case []any:
		for _, item := range value {
			if _, ok := item.(string); kind == "texts" && !ok {
				return false
			}
		}
		return kind == "list" || kind == "texts"
	}
	return false
}

// params is a query; pairs are name, value, name, value, ….
func params(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return "?" + q.Encode()
}

// quote makes a JSON string of s.
func quote(s string) string {
	text, _ := json.Marshal(s) // a string always can be
	return string(text)
}

// eventually waits until check says yes. It is for what the daemon can't be
// asked to wait for.
func (a *api) eventually(what string, check func() bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), callLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.t.Fatalf("%s: not within %s", what, callLimit)
		}
	}
}
