package slicer_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// wireExchange is one request and its answer, as they were on the wire.
type wireExchange struct {
	request     *http.Request // without its body
	requestBody []byte
	status      int
	header      http.Header
	body        *recordedBody
}

// wireRecorder is a transport that keeps what goes through it.
type wireRecorder struct {
	next http.RoundTripper

	mu        sync.Mutex
	exchanges []*wireExchange
}

// RoundTrip implements http.RoundTripper. It reads a request's body to its end
// before it sends any of it.
func (r *wireRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := req.Clone(req.Context())
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		sent.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := r.next.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	e := &wireExchange{request: req, requestBody: body, status: resp.StatusCode, header: resp.Header, body: &recordedBody{}}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		e.body.ReadCloser = resp.Body
		resp.Body = e.body
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, e)
	return resp, nil
}

// take returns the exchanges since the last call.
func (r *wireRecorder) take() []*wireExchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.exchanges
	r.exchanges = nil
	return list
}

// recordedBody is an answer's body that keeps what is read of it.
type recordedBody struct {
	io.ReadCloser
	mu   sync.Mutex
	read bytes.Buffer
}

// Read implements io.Reader.
func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read.Write(p[:n])
	return n, err
}

func (b *recordedBody) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.read.Bytes())
}

// apiDocument is the OpenAPI document and what it says of requests and answers.
type apiDocument struct {
	router  routers.Router
	options *openapi3filter.Options
}

// newAPIDocument reads the document. token is what its bearer auth must be.
func newAPIDocument(t *testing.T, data []byte, token string) *apiDocument {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatalf("load the OpenAPI document: %v", err)
	}
	doc.Servers = nil // paths are the daemon's, wherever it is
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatalf("route the OpenAPI document: %v", err)
	}
	return &apiDocument{router: router, options: &openapi3filter.Options{
		MultiError: true, IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true,
		AuthenticationFunc: func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
			if got := in.RequestValidationInput.Request.Header.Get("Authorization"); got != "Bearer "+token {
				return errors.New("no bearer token")
			}
			return nil
		},
	}}
}

// findings lists in what e differs from the document, each as
// "METHOD /path: what".
func (d *apiDocument) findings(e *wireExchange) []string {
	request := e.request.Clone(context.Background())
	request.Body = io.NopCloser(bytes.NewReader(e.requestBody))
	if len(e.requestBody) == 0 {
		request.Body = http.NoBody
	}
	request.GetBody = nil
	route, params, err := d.router.FindRoute(request)
	if err != nil {
		return []string{request.Method + " " + request.URL.Path + ": no such operation"}
	}
	in := &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route, Options: d.options}
	found := make(map[string]bool)
	note := func(format string, args ...any) {
		found[route.Method+" "+route.Path+": "+fmt.Sprintf(format, args...)] = true
	}

	known := route.Operation.Parameters
	for name := range request.URL.Query() {
		if known.GetByInAndName("query", name) == nil {
			note("query parameter %s", name)
		}
	}
	// The validator takes undeclared and empty bodies and undeclared types
	// more lightly than this test does.
	contentType, _, _ := strings.Cut(request.Header.Get("Content-Type"), ";")
	switch body := route.Operation.RequestBody; {
	case len(e.requestBody) == 0:
	case body == nil || body.Value == nil:
		note("request has a body")
	case body.Value.Content[contentType] == nil:
		note("request body of type %s", contentType)
		in.Options = withoutBodies(d.options)
	default:
		d.findUnknown(body.Value.Content[contentType], e.requestBody, func(at string) { note("request field %s", at) })
	}
	for _, text := range complaints(openapi3filter.ValidateRequest(context.Background(), in)) {
		note("request: %s", text)
	}

	in.Options = d.options
	d.findInAnswer(e, route, in, note)
	return slices.Sorted(maps.Keys(found))
}

func withoutBodies(o *openapi3filter.Options) *openapi3filter.Options {
	without := *o
	without.ExcludeRequestBody, without.ExcludeResponseBody = true, true
	return &without
}

// findInAnswer notes in what e's answer differs.
func (d *apiDocument) findInAnswer(e *wireExchange, route *routers.Route, in *openapi3filter.RequestValidationInput, note func(string, ...any)) {
	documented := route.Operation.Responses.Status(e.status)
	if documented == nil {
		note("answer %d", e.status)
		return
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: e.status, Header: e.header, Options: d.options,
	}
	data := e.body.bytes()
	contentType, _, _ := strings.Cut(e.header.Get("Content-Type"), ";")
	media := documented.Value.Content[contentType]
	switch {
	case len(documented.Value.Content) > 0 && media == nil:
		note("answer %d of type %s", e.status, contentType)
		return
	case contentType == "application/x-ndjson":
		d.findInStream(bytes.Lines(data), media, func(text string) { note("answer %d: %s", e.status, text) })
		answer.Options = withoutBodies(d.options)
	case contentType == "text/event-stream":
		d.findInStream(eventData(data), media, func(text string) { note("answer %d: %s", e.status, text) })
		answer.Options = withoutBodies(d.options)
	case contentType == "application/octet-stream":
		answer.Options = withoutBodies(d.options)
	case media != nil:
		d.findUnknown(media, data, func(at string) { note("answer %d field %s", e.status, at) })
	}
	answer.SetBodyBytes(data)
	for _, text := range complaints(openapi3filter.ValidateResponse(context.Background(), answer)) {
		note("answer %d: %s", e.status, text)
	}
}

// findInStream checks each complete line of a stream of JSON values.
func (d *apiDocument) findInStream(lines func(func([]byte) bool), media *openapi3.MediaType, note func(string)) {
	for line := range lines {
		if !bytes.HasSuffix(line, []byte("\n")) {
			return // the test read no further
		}
		var value any
		if err := json.Unmarshal(line, &value); err != nil {
			note("a line that isn't JSON")
			continue
		}
		for _, text := range complaints(media.Schema.Value.VisitJSON(value, openapi3.MultiErrors())) {
			note(text)
		}
		unknownFields(media.Schema, value, "", func(at string) { note("field " + at) })
	}
}

// eventData yields the data lines of server-sent events.
func eventData(data []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(data) {
			if payload, ok := bytes.CutPrefix(line, []byte("data:")); ok && !yield(bytes.TrimLeft(payload, " ")) {
				return
			}
		}
	}
}

// findUnknown notes the fields of a JSON body that the document doesn't have.
func (d *apiDocument) findUnknown(media *openapi3.MediaType, data []byte, note func(at string)) {
	var value any
	if media.Schema == nil || json.Unmarshal(data, &value) != nil {
		return // the validator tells of what isn't JSON
	}
	unknownFields(media.Schema, value, "", note)
}

// unknownFields notes the fields of value that schema doesn't have.
func unknownFields(schema *openapi3.SchemaRef, value any, at string, note func(at string)) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			if schema.Value.Items != nil {
				unknownFields(schema.Value.Items, item, at+"/*", note)
			}
		}
	case map[string]any:
		known := make(openapi3.Schemas)
		properties(schema, known)
		for name, field := range value {
			if known[name] == nil {
				note(at + "/" + name)
				continue
			}
			unknownFields(known[name], field, at+"/"+name, note)
		}
	}
}

// properties collects the properties of schema and of those that it is made of.
func properties(schema *openapi3.SchemaRef, into openapi3.Schemas) {
	maps.Copy(into, schema.Value.Properties)
	for _, part := range schema.Value.AllOf {
		properties(part, into)
	}
}

// complaints takes a validator's error apart: "where: why", without the values.
func complaints(err error) []string {
	if err == nil {
		return nil
	}
	var several openapi3.MultiError
	if errors.As(err, &several) {
		if prefixed := new(openapi3filter.RequestError); errors.As(err, &prefixed) && prefixed.Parameter != nil {
			return []string{"parameter " + prefixed.Parameter.Name}
		}
		var all []string
		for _, one := range several {
			all = append(all, complaints(one)...)
		}
		return all
	}
	var schema *openapi3.SchemaError
	if errors.As(err, &schema) {
		var at strings.Builder
		for _, step := range schema.JSONPointer() {
			if strings.Trim(step, "0123456789") == "" {
				step = "*"
			}
			at.WriteString("/" + step)
		}
		return []string{at.String() + ": " + schema.Reason}
	}
	line, _, _ := bufio.ScanLines([]byte(err.Error()), true)
	return []string{err.Error()[:min(max(line, 1), len(err.Error()))]}
}
