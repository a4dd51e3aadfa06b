package daemontest

import "strings"

// testProxy tests the administration of the egress proxy.
func testProxy(a *api) {
	const base = "/proxy/v1"
	clientFields := fields{"name": "text", "created_at": "time"}
	secretFields := fields{"name": "text", "host": "text", "type": "text", "created_at": "time"}
	ruleFields := fields{
		"host": "text", "secret?": "text", "methods?": "texts", "paths?": "texts", "passthrough?": "bool", "expires?": "time",
	}
	a.run("clients", func(a *api) {
		made := a.ok(201, "POST", base+"/clients", `{"name":"agent"}`).object(clientFields.with(fields{"token": "text"}))
		if len(made["token"].(string)) < 32 {
			a.t.Errorf("the minted token %q is short", made["token"])
		}
		own := a.ok(201, "POST", base+"/clients", `{"name":"other","token":"own-token"}`).object(clientFields.with(fields{"token": "text"}))
		if own["token"] != "own-token" {
			a.t.Errorf("create with a token = %v, want that token", own)
		}
		list := a.ok(200, "GET", base+"/clients", "")
		if all := list.list(clientFields); len(all) != 2 || strings.Contains(string(list.body), "own-token") {
			a.t.Errorf("clients = %s, want both without their tokens", list.body)
		}
		a.refused(409, "exists", "POST", base+"/clients", `{"name":"agent"}`)
		a.refused(409, "token", "POST", base+"/clients", `{"name":"third","token":"own-token"}`)
	})
	a.run("secrets", func(a *api) {
		made := a.ok(201, "POST", base+"/secrets", `{"name":"gh","host":"API.github.com","value":"v4lue"}`)
		if got := made.object(secretFields); got["type"] != "bearer" || got["host"] != "api.github.com" || strings.Contains(string(made.body), "v4lue") {
			a.t.Errorf("create = %s, want a bearer secret without its value", made.body)
		}
		if list := a.ok(200, "GET", base+"/secrets", ""); len(list.list(secretFields)) != 1 || strings.Contains(string(list.body), "v4lue") {
			a.t.Errorf("secrets = %s, want the one without its value", list.body)
		}
		a.refused(409, "exists", "POST", base+"/secrets", `{"name":"gh","host":"x","value":"v"}`)
	})
	a.run("rules", func(a *api) {
		const rule = `{"client":"agent","host":"api.github.com","secret":"gh","methods":["get"],"paths":["/repos/*"],"ttl_seconds":3600}`
		made := a.ok(201, "POST", base+"/allows", rule).object(ruleFields)
		if made["expires"] == nil || made["methods"].([]any)[0] != "GET" {
			a.t.Errorf("rule = %v, want GET and an expiry", made)
		}
		a.refused(409, "rule", "POST", base+"/allows", rule)
		if list := a.ok(200, "GET", base+"/clients/agent", "").list(ruleFields); len(list) != 1 {
			a.t.Errorf("rules = %v, want the one", list)
		}
		a.gone("/allows/agent/api.github.com")
		a.refused(404, "no rule", "DELETE", base+"/allows/agent/api.github.com", "")
	})
	for _, tt := range []struct{ name, path, body, says string }{
		{"a client without a name", "/clients", `{}`, "name"},
		{"a client with a path for a name", "/clients", `{"name":"../x"}`, "name"},
		{"a token with a space", "/clients", `{"name":"x","token":"a b"}`, "token"},
		{"a secret without a host", "/secrets", `{"name":"x","value":"v"}`, "host"},
		{"a secret for a host with a port", "/secrets", `{"name":"x","value":"v","host":"a:80"}`, "host"},
		{"a secret without a value", "/secrets", `{"name":"x","host":"a"}`, "value"},
		{"a secret of another type", "/secrets", `{"name":"x","host":"a","value":"v","type":"oauth"}`, "type"},
		{"a basic secret without a user", "/secrets", `{"name":"x","host":"a","value":"v","type":"basic"}`, "user:pass"},
		{"a rule without a client", "/allows", `{"host":"a"}`, "client"},
		{"a rule of an unknown client", "/allows", `{"client":"nobody","host":"a"}`, `"nobody"`},
		{"a rule with an unknown secret", "/allows", `{"client":"agent","host":"a","secret":"none"}`, `"none"`},
		{"a rule that passes through and filters", "/allows", `{"client":"agent","host":"a","passthrough":true,"paths":["*"]}`, "passthrough"},
		{"a rule with a method that is none", "/allows", `{"client":"agent","host":"a","methods":["G T"]}`, "method"},
		{"a rule with a path that is none", "/allows", `{"client":"agent","host":"a","paths":["x"]}`, "path"},
		{"a rule that has ended", "/allows", `{"client":"agent","host":"a","ttl_seconds":-1}`, "ttl_seconds"},
	} {
		a.run("refuses "+tt.name, func(a *api) { a.refused(400, tt.says, "POST", base+tt.path, tt.body) })
	}
	a.run("deletes", func(a *api) {
		a.gone("/secrets/gh")
		a.gone("/clients/agent")
		for _, path := range []string{"/secrets/gh", "/clients/agent", "/allows/agent/x"} {
			a.refused(404, "no ", "DELETE", base+path, "")
		}
		a.refused(404, `"agent"`, "GET", base+"/clients/agent", "")
	})
}

// gone deletes something of the proxy's, which is answered without a body.
func (a *api) gone(path string) {
	a.t.Helper()
	got := a.ok(204, "DELETE", "/proxy/v1"+path, "")
	if len(got.body) != 0 || got.header.Get("Content-Type") != "" {
		a.t.Errorf("%s has a body: %q of type %q", got.call, got.body, got.header.Get("Content-Type"))
	}
}
