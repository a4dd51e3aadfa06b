package daemontest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const token = "t0ken of the tests"

// route is one of the daemon's patterns.
type route struct {
	method, path string
}

func routes() []route {
	var list []route
	for _, pattern := range daemon.Patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		list = append(list, route{method, path})
	}
	return list
}

func (r route) String() string { return r.method + " " + r.path }

// has reports whether the path has a part with that name.
func (r route) has(part string) bool { return strings.Contains(r.path, "{"+part+"}") }

// fill puts values into the path: name, value, name, value, …. Parts without
// one become x.
func (r route) fill(pairs ...string) string {
	parts := strings.Split(r.path, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, "{") {
			continue
		}
		parts[i] = "x"
		if at := slices.Index(pairs, strings.Trim(part, "{}")); at >= 0 {
			parts[i] = pairs[at+1]
		}
	}
	return strings.Join(parts, "/")
}

// ofAgent reports whether the route is one of a VM's agent, which doesn't answer
// while the VM is paused. It has the routes that are not, so that a new one must
// refuse or be named here.
func (r route) ofAgent() bool {
	if !r.has("vm") || !strings.HasPrefix(r.path, "/vm/") {
		return false
	}
	switch r.path {
	case "/vm/{vm}", "/vm/{vm}/tags", "/vm/{vm}/logs", "/vm/{vm}/pause", "/vm/{vm}/resume",
		"/vm/{vm}/suspend", "/vm/{vm}/restore", "/vm/{vm}/shutdown", "/vm/{vm}/relaunch", "/vm/{vm}/commit":
		return false
	}
	return true
}

// testEveryRoute tests the refusals that all routes share.
func testEveryRoute(a *api) {
	vm := a.createVM("{}")
	filled := func(r route) string { return r.fill("vm", vm, "group", Group) }
	for _, r := range routes() {
		a.run(r.String(), func(a *api) {
			a.run("names an unknown query parameter", func(a *api) {
				a.refused(400, `"colour"`, r.method, filled(r)+"?colour=red", "")
			})
			a.run("refuses a slash at the end", func(a *api) {
				a.refused(404, "slash", r.method, filled(r)+"/", "")
			})
			a.run("refuses a web page of another site that changes something", func(a *api) {
				if r.method == http.MethodGet {
					a.call(r.method, "/healthz", "", "Sec-Fetch-Site", "cross-site").is(typeText)
					return
				}
				a.refused(403, "web page", r.method, filled(r), "", "Sec-Fetch-Site", "cross-site", "Origin", "https://elsewhere.example")
			})
			a.run("refuses another method and says which it takes", func(a *api) {
				got := a.call(http.MethodPut, filled(r), "")
				got.refused(405, "PUT is not allowed")
				if allow := got.header.Get("Allow"); allow != a.allowed(filled(r)) {
					a.t.Errorf("PUT %s: Allow = %q, want %q", filled(r), allow, a.allowed(filled(r)))
				}
			})
			if r.has("vm") {
				a.run("refuses an unknown VM", func(a *api) {
					a.refused(404, `"sbox-999"`, r.method, r.fill("vm", "sbox-999", "group", Group), "")
				})
				a.run("takes no path for a VM", func(a *api) {
					a.refused(404, `"../secrets"`, r.method, r.fill("vm", "..%2Fsecrets", "group", Group), "")
				})
			}
			if r.has("group") {
				a.run("refuses an unknown host group", func(a *api) {
					a.refused(404, `"nowhere"`, r.method, r.fill("vm", vm, "group", "nowhere"), "{}")
				})
			}
			if r.has("exec") {
				a.run("refuses an unknown exec", func(a *api) {
					a.refused(404, `"ex_1"`, r.method, r.fill("vm", vm, "exec", "ex_1"), "")
				})
			}
		})
	}
	for _, state := range []struct{ enter, leave, says string }{
		{"pause", "resume", "resume it first"},
		{"suspend", "restore", "restore it first"},
	} {
		a.ok(200, "POST", "/vm/"+vm+"/"+state.enter, "")
		for _, r := range routes() {
			if r.ofAgent() {
				a.run(r.String()+" is a conflict after "+state.enter, func(a *api) {
					a.refused(409, state.says, r.method, filled(r), "")
				})
			}
		}
		a.ok(200, "POST", "/vm/"+vm+"/"+state.leave, "")
	}
}

// allowed are the methods that some route has at path.
func (a *api) allowed(path string) string {
	var list []string
	for _, method := range []string{"DELETE", "GET", "HEAD", "PATCH", "POST"} {
		_, pattern := a.suite.routes.Handler(a.request(a.t.Context(), method, path, http.NoBody))
		if pattern != "" {
			list = append(list, method)
		}
	}
	return strings.Join(list, ", ")
}

// testToken tests a daemon that asks for a token, and has a VM of its own.
func testToken(a *api) {
	bare := *a
	bare.token = ""
	for _, r := range routes() {
		if r.path == "/healthz" {
			continue
		}
		for name, header := range map[string][]string{
			"without":        nil,
			"with a wrong":   {"Authorization", "Bearer " + token + "x"},
			"with a part of": {"Authorization", "Bearer " + token[:len(token)-1]},
			"with an empty":  {"Authorization", "Bearer "},
			"with a naked":   {"Authorization", token},
			"as basic auth":  {"Authorization", "Basic " + token},
			"in another's":   {"X-Authorization", "Bearer " + token},
		} {
			bare.run(r.String()+" "+name+" token", func(a *api) {
				got := a.call(r.method, r.fill("vm", "sbox-1", "group", Group), "", header...)
				got.refused(401, "bearer token")
				if got.header.Get("Www-Authenticate") != "Bearer" {
					a.t.Errorf("%s: WWW-Authenticate = %q, want Bearer", got.call, got.header.Get("Www-Authenticate"))
				}
				if strings.Contains(string(got.body), token[:4]) {
					a.t.Errorf("%s = %s, which has the token", got.call, got.body)
				}
			})
		}
	}
	bare.run("an unknown path is no way to ask without a token", func(a *api) {
		a.refused(401, "bearer token", "GET", "/nope", "")
	})
	bare.run("healthz needs none", func(a *api) { a.ok(200, "GET", "/healthz", "").is(typeText) })
	bare.run("the scheme's case is free", func(a *api) { a.ok(200, "GET", "/info", "", "Authorization", "bEARER "+token) })
	a.run("with the token", func(a *api) { a.ok(200, "GET", "/info", "") })

	a.run("a VM of the group's count is protected", func(a *api) {
		nodes := a.ok(200, "GET", "/nodes", "").list(nodeFields)
		if len(nodes) != 1 || nodes[0]["hostname"] != "sbox-1" {
			a.t.Fatalf("nodes at the start = %v, want the one of the group's count", nodes)
		}
		a.refused(403, "protected", "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
		a.refused(403, "protected", "POST", "/vm/sbox-1/shutdown", "")
		a.refused(403, "protected", "POST", "/vm/sbox-1/shutdown?action=reboot", "")
		a.ok(200, "GET", "/vm/sbox-1/health", "")
	})
}

// testBodies tests that bodies are as strict as queries.
func testBodies(a *api) {
	vm := "/vm/" + a.createVM("{}")
	started := a.ok(201, "POST", vm+"/exec"+execQuery([]string{"sleep", "1000"}, "background", "true"), "").object(startedFields)
	a.ok(201, "POST", "/secrets", `{"name":"there","data":""}`)
	for _, path := range []string{
		"POST /hostgroup/sbox/nodes", "PATCH " + vm + "/tags", "POST " + vm + "/shutdown",
		"POST " + vm + "/exec/" + started["exec_id"].(string) + "/kill", "POST " + vm + "/fs/mkdir",
		"POST /secrets", "PATCH /secrets/there",
		"POST /proxy/v1/clients", "POST /proxy/v1/secrets", "POST /proxy/v1/allows",
	} {
		method, path, _ := strings.Cut(path, " ")
		for _, tt := range []struct {
			name, body string
			status     int
			says       string
		}{
			{"an unknown field", `{"colour":"red"}`, 400, `"colour"`},
			{"what is no JSON", `colour=red`, 400, "body"},
			{"an array", `[]`, 400, "body"},
			{"a second value", `{} {}`, 400, "more"},
			{"half a value", `{"a":`, 400, "body"},
			{"more than fits", `{"x` + strings.Repeat("x", 3<<20) + `":1}`, 413, "larger"},
		} {
			a.run(method+" "+path+" refuses "+tt.name, func(a *api) {
				a.refused(tt.status, tt.says, method, path, tt.body)
			})
		}
	}
	a.run("nothing was made of refused bodies", func(a *api) {
		if nodes := a.ok(200, "GET", "/nodes", "").list(nodeFields); len(nodes) != 1 {
			a.t.Errorf("%d VMs after refused creates, want 1", len(nodes))
		}
	})
}
