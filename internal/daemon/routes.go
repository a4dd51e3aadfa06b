package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"sync/atomic"
)

// handler serves one route. An error that it returns becomes the answer, or
// cuts the connection when the answer has begun.
type handler func(w http.ResponseWriter, r *http.Request, q query) error

// route is one line of the API: a pattern, the query parameters that it takes
// (a * after the name: it may be repeated) and what serves it.
type route struct {
	pattern string
	params  string
	serve   handler
}

func (d *Daemon) routes() []route {
	return []route{
		{"GET /healthz", "", d.healthz},
		{"GET /info", "", d.info},
		{"GET /hostgroup", "", d.listGroups},
		{"GET /hostgroup/{group}/nodes", "tag tag_prefix", d.listNodes},
		{"POST /hostgroup/{group}/nodes", "wait timeout", d.createNode},
		{"DELETE /hostgroup/{group}/nodes/{vm}", "", d.deleteNode},
		{"GET /nodes", "tag tag_prefix", d.listNodes},
		{"GET /nodes/stats", "", d.listStats},
		{"GET /node/{vm}/stats", "", d.nodeStats},
		{"GET /metrics", "", d.serveMetrics},
		{"GET /vm/{vm}", "", d.describe},
		{"GET /vm/{vm}/tags", "", d.getTags},
		{"PATCH /vm/{vm}/tags", "", d.patchTags},
		{"GET /vm/{vm}/logs", "lines", d.logs},
		{"GET /vm/{vm}/health", "", d.agent(d.health)},
		{"POST /vm/{vm}/pause", "", d.pause},
		{"POST /vm/{vm}/resume", "", d.resume},
		{"POST /vm/{vm}/suspend", "", d.suspend},
		{"POST /vm/{vm}/restore", "wait timeout", d.restore},
		{"POST /vm/{vm}/shutdown", "action", d.shutdown},
		{"POST /vm/{vm}/relaunch", "", d.relaunch},
		{"POST /vm/{vm}/commit", "", d.commitVM},
		{"GET /vm/commits", "tag cache_key source mode", d.listCommits},
		{"DELETE /vm/commits/{id}", "", d.deleteCommit},
		{"POST /vm/commits/{id}/fork", "wait timeout", d.forkCommit},
		{"POST /vm/{vm}/exec", execParams, d.agent(d.exec)},
		{"GET /vm/{vm}/exec", "", d.agent(d.listBackground)},
		{"GET /vm/{vm}/exec/{exec}", "", d.agent(d.backgroundInfo)},
		{"GET /vm/{vm}/exec/{exec}/logs", "follow from_id", d.agent(d.backgroundLogs)},
		{"POST /vm/{vm}/exec/{exec}/kill", "", d.agent(d.killBackground)},
		{"GET /vm/{vm}/exec/{exec}/wait-exit", "timeout", d.agent(d.waitBackground)},
		{"DELETE /vm/{vm}/exec/{exec}", "", d.agent(d.reapBackground)},
		{"GET /vm/{vm}/forward", "", d.socket(d.forward)},
		{"GET /vm/{vm}/shell", "shell uid gid cwd", d.socket(d.shell)},
		{"GET /vm/{vm}/cp", cpParams, d.agent(d.copyOut)},
		{"POST /vm/{vm}/cp", cpParams, d.agent(d.copyIn)},
		{"GET /vm/{vm}/fs/stat", "path", d.agent(d.fsStat)},
		{"GET /vm/{vm}/fs/readdir", "path", d.agent(d.fsReadDir)},
		{"POST /vm/{vm}/fs/mkdir", "", d.agent(d.fsMkdir)},
		{"DELETE /vm/{vm}/fs/remove", "path recursive", d.agent(d.fsRemove)},
		{"GET /vm/{vm}/fs/watch", watchParams, d.agent(d.watchFiles)},
		{"GET /secrets", "", d.listSecrets},
		{"POST /secrets", "", d.createSecret},
		{"PATCH /secrets/{name}", "", d.patchSecret},
		{"DELETE /secrets/{name}", "", d.deleteSecret},
		{"GET /proxy/v1/clients", "", d.listProxyClients},
		{"POST /proxy/v1/clients", "", d.createProxyClient},
		{"GET /proxy/v1/clients/{name}", "", d.listProxyRules},
		{"DELETE /proxy/v1/clients/{name}", "", d.deleteProxyClient},
		{"GET /proxy/v1/secrets", "", d.listProxySecrets},
		{"POST /proxy/v1/secrets", "", d.createProxySecret},
		{"DELETE /proxy/v1/secrets/{name}", "", d.deleteProxySecret},
		{"POST /proxy/v1/allows", "", d.addProxyRule},
		{"DELETE /proxy/v1/allows/{client}/{host}", "", d.deleteProxyRules},
	}
}

// Patterns are the routes that a Daemon serves, as patterns of http.ServeMux.
// Older agents lack some of them. It is there for tests, which ask whether each
// route has its own.
func Patterns() []string {
	var list []string
	for _, rt := range (*Daemon)(nil).routes() { // none is called
		list = append(list, rt.pattern)
	}
	return list
}

func (d *Daemon) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range d.served() {
		params := strings.Fields(rt.params)
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			q, err := parseQuery(r.URL.RawQuery, params)
			if err == nil {
				err = rt.serve(w, r, q)
			}
			if err != nil {
				d.fail(w, r, err)
			}
		})
	}
	return mux
}

// ServeHTTP answers one call of the API.
func (d *Daemon) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &answer{ResponseWriter: rw}
	r = r.WithContext(r.Context()) // the server's own keeps its body
	r.Body = newCallBody(r)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !d.enter() {
		d.fail(w, r, errClosed)
		return
	}
	defer d.calls.Done()
	defer d.recoverCall(w, r)

	if err := d.admit(r); err != nil {
		d.fail(w, r, err)
		return
	}
	if r.URL.EscapedPath() != path.Clean(r.URL.EscapedPath()) {
		d.fail(w, r, refuse(http.StatusNotFound, "no such path: it ends with a slash or has empty, . or .. parts"))
		return
	}
	h, pattern := d.mux.Handler(r)
	if pattern == "" {
		d.fail(w, r, unrouted(h, w.Header(), r))
		return
	}
	d.mux.ServeHTTP(w, r)
}

// admit refuses callers without the token, and web pages of other sites.
func (d *Daemon) admit(r *http.Request) error {
	if err := d.crossSite.Check(r); err != nil {
		return refuse(http.StatusForbidden, "a web page of another site may not call this API")
	}
	if d.open || r.URL.Path == "/healthz" {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(token))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], d.token[:]) != 1 {
		return refuse(http.StatusUnauthorized, "missing or wrong bearer token")
	}
	return nil
}

// unrouted says why the mux has no route for r: no such path, or another
// method. It puts the methods that there are into header.
func unrouted(h http.Handler, header http.Header, r *http.Request) error {
	var verdict refusalRecorder
	h.ServeHTTP(&verdict, r)
	if verdict.status != http.StatusMethodNotAllowed {
		return refuse(http.StatusNotFound, "no such path")
	}
	allow := verdict.Header().Get("Allow")
	header.Set("Allow", allow)
	return refuse(http.StatusMethodNotAllowed, "%s is not allowed here; use %s", r.Method, allow)
}

// refusalRecorder takes the mux's own answer to a request without a route.
type refusalRecorder struct {
	header http.Header
	status int
}

func (rec *refusalRecorder) Header() http.Header {
	if rec.header == nil {
		rec.header = make(http.Header)
	}
	return rec.header
}
func (rec *refusalRecorder) WriteHeader(status int)      { rec.status = status }
func (rec *refusalRecorder) Write(p []byte) (int, error) { return len(p), nil }

// recoverCall turns a panic into a 500, or into a cut connection when the
// answer has begun.
func (d *Daemon) recoverCall(w *answer, r *http.Request) {
	what := recover()
	if what == nil {
		return
	}
	if err, ok := what.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	d.log.Error("call panicked", "method", r.Method, "path", r.URL.Path,
		"panic", fmt.Sprint(what), "stack", string(debug.Stack()))
	d.fail(w, r, refuse(http.StatusInternalServerError, "internal error"))
}

// fail answers with err. It cuts the connection when the answer has begun, so
// that nobody takes the part for the whole.
func (d *Daemon) fail(w http.ResponseWriter, r *http.Request, err error) {
	if a, ok := w.(*answer); ok && a.begun.Load() {
		d.log.Debug("answer cut short", "method", r.Method, "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	refused, known := refusalOf(err)
	if !known {
		level := slog.LevelError
		if r.Context().Err() != nil {
			level = slog.LevelDebug // the client went away
		}
		d.log.Log(r.Context(), level, "call failed", "method", r.Method, "path", r.URL.Path, "err", err)
		refused = &apiError{http.StatusInternalServerError, withoutPaths(err)}
	}
	if refused.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	defer hurry(w, r)()
	var invalid *invalidMode
	// A client that isn't there any more can't be told.
	if errors.As(err, &invalid) {
		_ = writeText(w, refused.status, refused.message)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/proxy/") {
		_ = writeText(w, refused.status, refused.message+"\n")
		return
	}
	_ = writeJSON(w, refused.status, struct {
		Error string `json:"error"`
	}{refused.message})
}

// apiError is a refusal: a status and the text of its answer.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

func refuse(status int, format string, args ...any) error {
	return &apiError{status, fmt.Sprintf(format, args...)}
}

// refusalOf is err as an answer, if it is one.
func refusalOf(err error) (*apiError, bool) {
	var invalid *invalidMode
	if errors.As(err, &invalid) {
		return &apiError{http.StatusBadRequest, invalid.Error()}, true
	}
	var noID *IDError
	if errors.As(err, &noID) {
		return &apiError{http.StatusBadRequest, noID.Error()}, true
	}
	var refused *apiError
	return refused, errors.As(err, &refused)
}

var errClosed = refuse(http.StatusServiceUnavailable, "the daemon is shutting down")

// answer is a ResponseWriter that knows whether the answer has begun.
type answer struct {
	http.ResponseWriter
	begun atomic.Bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.begun.Store(true)
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.begun.Store(true)
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(text, '\n'))
	return err
}

func writeText(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, err := w.Write([]byte(text))
	return err
}
