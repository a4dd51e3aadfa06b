package slicer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	promptTimeout       = time.Minute // for a whole call that the daemon answers from memory

	maxAnswer       = 32 << 20 // bytes of a JSON answer
	maxErrorBody    = 64 << 10 // bytes read of a refusal
	maxErrorMessage = 1 << 10  // bytes kept of its message
)

// errNoAnswer is why a prompt call was given up.
var errNoAnswer = fmt.Errorf("the daemon did not answer within %s", promptTimeout)

// errHTML is why an answer isn't taken: it is some other server's.
var errHTML = errors.New("an HTML page, not the Slicer API's answer")

// apiRequest is one call of the API.
type apiRequest struct {
	method string
	path   []string // unescaped segments
	query  url.Values

	// The body is json, marshalled, or else what body yields: length bytes
	// of type contentType, or as many as come if length is -1.
	json        any
	body        io.Reader
	length      int64
	contentType string

	header     http.Header // beside those that every request has
	hidden     []string    // values that a refusal's text must not repeat
	accept     string      // "" is application/json
	upgrade    bool        // ask for a change of protocol, and take nothing else
	prompt     bool        // give up after promptTimeout
	begins     bool        // give up when the answer hasn't begun after promptTimeout; it may last
	mayBeEmpty bool        // an answer without a body is none, not a malformed one
}

// escapePath joins segments to a path and its escaped form. A segment that
// would vanish or climb in a path is refused.
func escapePath(segments []string) (plain, escaped string, err error) {
	var p, e strings.Builder
	for _, segment := range segments {
		if segment == "" || segment == "." || segment == ".." {
			return "", "", fmt.Errorf("%q is not a name", segment)
		}
		p.WriteString("/" + segment)
		e.WriteString("/" + url.PathEscape(segment))
	}
	return p.String(), e.String(), nil
}

// send makes a call and returns its answer, whose body is the caller's to
// close. A status outside 2xx is an error.
func (c *SlicerClient) send(ctx context.Context, r apiRequest) (*http.Response, error) {
	if c.baseErr != nil {
		return nil, c.baseErr
	}
	plain, escaped, err := escapePath(r.path)
	if err != nil {
		return nil, err
	}
	target := *c.base
	target.Path += plain
	target.RawPath += escaped
	target.RawQuery = r.query.Encode()
	if got := target.EscapedPath(); got != target.RawPath {
		// net/url would send another path than the one meant.
		return nil, fmt.Errorf("%q can't be sent as a path", escaped)
	}

	body, length, contentType := r.body, r.length, r.contentType
	if r.json != nil {
		data, err := json.Marshal(r.json)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body, length, contentType = bytes.NewReader(data), int64(len(data)), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, "", body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.URL, req.Host = &target, target.Host
	if body != nil {
		req.ContentLength = length
		if length == 0 {
			req.Body = http.NoBody
		}
	}
	for key, values := range r.header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}

	var begun *beginning
	if r.begins {
		begun = awaitBeginning(ctx)
		req = req.WithContext(begun.ctx)
	}
	client := c.http
	if r.upgrade && client.Timeout > 0 {
		// The timeout is for the handshake alone: what comes after it lasts.
		lasting := *client
		lasting.Timeout = 0
		bounded, cancel := context.WithTimeout(ctx, client.Timeout)
		defer cancel()
		client, req = &lasting, req.WithContext(bounded)
	}
	resp, err := client.Do(req)
	if err == nil && begun != nil {
		err = begun.at(resp)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", r.method, escaped, transportError(req.Context(), err))
		if begun != nil {
			begun.giveUp()
		}
		return nil, err
	}
	if r.upgrade && resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, c.refusal(r, escaped, resp)
	}
	if r.upgrade {
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: answered %d, not with a change of protocol", r.method, escaped, resp.StatusCode)
	}
	return resp, nil
}

// beginning bounds the time until an answer begins, and nothing after it.
type beginning struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func awaitBeginning(ctx context.Context) *beginning {
	b := &beginning{}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.timer = time.AfterFunc(promptTimeout, func() { b.cancel(errNoAnswer) })
	return b
}

// at is called with the answer, whose body then ends the request.
func (b *beginning) at(resp *http.Response) error {
	if !b.timer.Stop() {
		resp.Body.Close()
		return errNoAnswer
	}
	resp.Body = &endingBody{ReadCloser: resp.Body, end: func() { b.cancel(nil) }}
	return nil
}

// giveUp ends the request.
func (b *beginning) giveUp() {
	b.timer.Stop()
	b.cancel(nil)
}

// endingBody is a body whose Close also ends its request's context.
type endingBody struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// call makes a call and decodes its answer, which must be one JSON value, into
// out. With a nil out the answer's body is dropped.
func (c *SlicerClient) call(ctx context.Context, r apiRequest, out any) error {
	if r.prompt {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, promptTimeout, errNoAnswer)
		defer cancel()
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := decodeAnswer(resp, out, r.mayBeEmpty); err != nil {
		return fmt.Errorf("read answer: %w", transportError(ctx, err))
	}
	return nil
}

func decodeAnswer(resp *http.Response, out any, mayBeEmpty bool) error {
	if out == nil {
		// Read to the end, as a daemon that fails after its header cuts the
		// body, and so that the connection can be used again.
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		if err == nil && isHTML(resp.Header.Get("Content-Type"), data) {
			err = errHTML
		}
		return err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("longer than %d MiB", maxAnswer>>20)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 && mayBeEmpty {
		return nil
	}
	if isHTML(resp.Header.Get("Content-Type"), data) {
		return errHTML
	}
	return json.Unmarshal(data, out)
}

// transportError takes from an error of net/http the URL that it repeats, whose
// query may hold environment values, and tells a context that ended from what
// broke because of it.
func transportError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errNoAnswer) {
		return errNoAnswer
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// refusal turns an answer with another status than 2xx into an error.
func (c *SlicerClient) refusal(r apiRequest, path string, resp *http.Response) *APIError {
	refusal := &APIError{Method: r.method, Path: path, StatusCode: resp.StatusCode}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		refusal.Message = "redirects are not followed; is this the daemon's URL?"
		return refusal
	}
	// A body that breaks off still says something.
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var said struct {
		Error string `json:"error"`
		Code  string `json:"code"`
	}
	text := string(data)
	if json.Unmarshal(data, &said) == nil && said.Error != "" {
		text = said.Error
	} else if isHTML(resp.Header.Get("Content-Type"), data) {
		text = "the answer is an HTML page, not the Slicer API's"
	}
	refusal.Code = c.clean(said.Code, r.hidden...)
	refusal.Message = c.clean(text, r.hidden...)
	return refusal
}

func isHTML(contentType string, data []byte) bool {
	if strings.HasPrefix(strings.ToLower(contentType), "text/html") {
		return true
	}
	start := strings.ToLower(string(bytes.TrimSpace(data[:min(len(data), 64)])))
	return strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html")
}

// clean makes text from the daemon fit for an error: one bounded line without
// control characters, without the token and without hidden values.
func (c *SlicerClient) clean(text string, hidden ...string) string {
	for _, value := range hidden {
		if value != "" {
			text = strings.ReplaceAll(text, value, "[hidden]")
		}
	}
	if c.token != "" {
		text = strings.ReplaceAll(text, c.token, "[token]")
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if len(text) <= maxErrorMessage {
		return text
	}
	cut := maxErrorMessage
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
