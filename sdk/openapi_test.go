package slicer_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// deviation is something in which the SDK or the fake differs from the OpenAPI
// document, which is older than the API, with the reason in slicer-api.md.
type deviation struct {
	reason   string
	findings []string
}

var deviations = []deviation{
	{"rows marked + are newer than the document: description, tags, commits and forks", []string{
		"GET /vm/{hostname}: no such operation",
		"GET /vm/{hostname}/tags: no such operation",
		"PATCH /vm/{hostname}/tags: no such operation",
		"POST /vm/{hostname}/commit: no such operation",
		"GET /vm/commits: no such operation",
		"POST /vm/commits/{commit_id}/fork: no such operation",
		"POST /vm/commits/nothing/fork: no such operation",
		"DELETE /vm/commits/{commit_id}: no such operation",
	}},
	{"GET /info also says platform and arch +", []string{
		"GET /info: answer 200 field /arch",
		"GET /info: answer 200 field /platform",
	}},
	{"a node's fields include persistent", []string{
		"GET /nodes: answer 200 field /*/persistent",
		"GET /hostgroup/{name}/nodes: answer 200 field /*/persistent",
		"GET /nodes/stats: answer 200 field /*/persistent",
		"GET /node/{hostname}/stats: answer 200 field /persistent",
	}},
	{"a health answer also has userdata_exit_code and ip +", []string{
		"GET /vm/{hostname}/health: answer 200 field /ip",
		"GET /vm/{hostname}/health: answer 200 field /userdata_exit_code",
	}},
	{"restore takes wait and timeout +", []string{
		"POST /vm/{hostname}/restore: query parameter wait",
		"POST /vm/{hostname}/restore: query parameter timeout",
	}},
	{"everything of an exec is in the query, env and stdio=base64 + as well", []string{
		"POST /vm/{hostname}/exec: query parameter env",
		"POST /vm/{hostname}/exec: query parameter stdio",
	}},
	{"with stdio=base64 a frame carries encoding", []string{
		"POST /vm/{hostname}/exec: answer 200: field /encoding",
		"GET /vm/{hostname}/exec/{exec_id}/logs: answer 200: field /encoding",
	}},
	{"newer agents' buffered answer also has encoding, pid, started_at and ended_at", []string{
		"POST /vm/{hostname}/exec: answer 200 field /encoding",
		"POST /vm/{hostname}/exec: answer 200 field /ended_at",
		"POST /vm/{hostname}/exec: answer 200 field /pid",
		"POST /vm/{hostname}/exec: answer 200 field /started_at",
	}},
	{"a folder's content travels as application/x-tar", []string{
		"POST /vm/{hostname}/cp: request body of type application/x-tar",
		"GET /vm/{hostname}/cp: answer 200 of type application/x-tar",
	}},
	{"mtime is sent as RFC 3339, as by the daemons that the Go client works with", []string{
		"GET /vm/{hostname}/fs/stat: answer 200: /mtime: value must be an integer",
		"GET /vm/{hostname}/fs/readdir: answer 200: /*/mtime: value must be an integer",
	}},
	{"forward is a WebSocket, whose handshake is answered with 101", []string{
		"GET /vm/{hostname}/forward: answer 101",
	}},
}

// offTheWire are the methods that by themselves send nothing.
var offTheWire = []string{"CloseIdleConnections"}

// TestOpenAPI calls every method of the client with a daemon behind it, once for
// each kind of guest, and holds each request and each answer against the OpenAPI
// document.
func TestOpenAPI(t *testing.T) {
	t.Run("scripted guests", func(t *testing.T) { holdAgainstOpenAPI(t, serveScripted(t)) })
	t.Run("sandboxes", func(t *testing.T) { holdAgainstOpenAPI(t, serveSandboxes(t)) })
}

func holdAgainstOpenAPI(t *testing.T, srv *apiServer) {
	document := newAPIDocument(t, sharedFile(t, "slicer-openapi.yaml"), apiToken)
	recorder := &wireRecorder{next: srv.transport}
	client := slicer.NewSlicerClient(srv.url, apiToken, "", &http.Client{Transport: recorder})
	calls := &apiCalls{t: t, srv: srv, client: client, local: t.TempDir()}

	expected := make(map[string]bool)
	for _, d := range deviations {
		for _, finding := range d.findings {
			expected[finding] = false
		}
	}
	called := make(map[string]bool)
	for _, call := range calls.all() {
		err := call.do(t.Context())
		switch {
		case call.status == 0 && err != nil:
			t.Errorf("%s = %v", call.method, err)
		case call.status != 0 && !slicer.IsAPIStatus(err, call.status):
			t.Errorf("%s = %v, want the status %d", call.method, err, call.status)
		}
		exchanges := recorder.take()
		called[call.method] = called[call.method] || len(exchanges) > 0
		for _, e := range exchanges {
			for _, finding := range document.findings(e) {
				finding = calls.generalize(finding)
				if _, ok := expected[finding]; !ok {
					t.Errorf("%s sent or got what isn't in the OpenAPI document:\n\t%s", call.method, finding)
					continue
				}
				expected[finding] = true
			}
		}
	}
	for method := range reflect.TypeFor[*slicer.SlicerClient]().Methods() {
		if !called[method.Name] && !slices.Contains(offTheWire, method.Name) {
			t.Errorf("no call of %s reached the daemon: add one to apiCalls", method.Name)
		}
	}
	for finding, met := range expected {
		if !met {
			t.Errorf("nothing deviates in %q any more: remove it from the deviations", finding)
		}
	}
}

// generalize puts names into the place of what differs from run to run.
func (c *apiCalls) generalize(finding string) string {
	for value, name := range map[string]string{c.vm: "{hostname}", c.kept: "{hostname}", c.forked: "{hostname}", c.exec: "{exec_id}", c.commit: "{commit_id}"} {
		if value != "" {
			finding = strings.ReplaceAll(finding, "/"+value, "/"+name)
		}
	}
	return finding
}
