package daemon_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// names lists the given field of a list's entries.
func (a *api) names(path, field string) []string {
	a.t.Helper()
	var list []map[string]any
	decode(a.t, a.want(200, "GET", path, "").body, &list)
	names := []string{}
	for _, entry := range list {
		names = append(names, fmt.Sprint(entry[field]))
	}
	return names
}

func TestProxyClients(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	if got := a.want(200, "GET", "/proxy/v1/clients", "").body; got != "[]\n" {
		t.Errorf("no clients = %q, want []", got)
	}
	var made struct {
		Name, Token string
		CreatedAt   time.Time `json:"created_at"`
	}
	decode(t, a.want(201, "POST", "/proxy/v1/clients", `{"name":"zoe","token":"s3cret"}`).body, &made)
	if made.Name != "zoe" || made.Token != "s3cret" || made.CreatedAt.IsZero() {
		t.Errorf("create = %+v, want the client with its token", made)
	}
	tokens := map[string]bool{}
	for _, name := range []string{"amy", "bob"} {
		decode(t, a.want(201, "POST", "/proxy/v1/clients", `{"name":"`+name+`"}`).body, &made)
		if !regexp.MustCompile(`^spt_[A-Za-z0-9_-]{43}$`).MatchString(made.Token) || tokens[made.Token] {
			t.Errorf("token = %q, want a new one of 32 random bytes", made.Token)
		}
		tokens[made.Token] = true
	}
	list := a.want(200, "GET", "/proxy/v1/clients", "").body
	if strings.Contains(list, "spt_") || strings.Contains(list, "s3cret") {
		t.Errorf("list = %s, which has a token", list)
	}
	if got := a.names("/proxy/v1/clients", "name"); !cmp.Equal(got, []string{"amy", "bob", "zoe"}) {
		t.Errorf("clients = %v, want them by name", got)
	}
	a.want(201, "POST", "/proxy/v1/allows", `{"client":"zoe","host":"a.example"}`)
	if got := a.want(204, "DELETE", "/proxy/v1/clients/zoe", "").body; got != "" {
		t.Errorf("delete = %q, want no body", got)
	}
	a.want(201, "POST", "/proxy/v1/clients", `{"name":"zoe","token":"s3cret"}`) // name and token are free
	if got := a.names("/proxy/v1/clients/zoe", "host"); len(got) != 0 {
		t.Errorf("rules of the new client = %v, want none", got)
	}
}

func TestProxySecrets(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	got := a.want(201, "POST", "/proxy/v1/secrets", `{"name":"gh","host":"API.github.com","value":"tok"}`)
	var made map[string]any
	decode(t, got.body, &made)
	if made["host"] != "api.github.com" || made["type"] != "bearer" || strings.Contains(got.body, "tok") {
		t.Errorf("create = %s, want the host in lower case, a bearer, no value", got.body)
	}
	a.want(201, "POST", "/proxy/v1/secrets", `{"name":"ci","host":"*","type":"basic","value":"user:p:w"}`)
	if got := a.names("/proxy/v1/secrets", "name"); !cmp.Equal(got, []string{"ci", "gh"}) {
		t.Errorf("secrets = %v, want them by name", got)
	}
	a.want(201, "POST", "/proxy/v1/clients", `{"name":"c"}`)
	a.want(201, "POST", "/proxy/v1/allows", `{"client":"c","host":"api.github.com","secret":"gh"}`)
	a.want(204, "DELETE", "/proxy/v1/secrets/gh", "")
	if got := a.names("/proxy/v1/clients/c", "secret"); !cmp.Equal(got, []string{"gh"}) {
		t.Errorf("rules after their secret's end = %v, want them to stay", got)
	}
}

func TestProxyRules(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/proxy/v1/clients", `{"name":"c"}`)
	a.want(201, "POST", "/proxy/v1/clients", `{"name":"other"}`)
	a.want(201, "POST", "/proxy/v1/secrets", `{"name":"admin","host":"api.x","value":"v"}`)
	for _, rule := range []string{
		`"host":"api.x","secret":"admin","paths":["/system/*"],"methods":["get","POST"]`,
		`"host":"api.x"`,
		`"host":"*.X","passthrough":true`,
		`"host":"*","paths":["/a","*"]`,
		`"host":"::1"`,
	} {
		a.want(201, "POST", "/proxy/v1/allows", `{"client":"c",`+rule+`}`)
	}
	var got []map[string]any
	decode(t, a.want(200, "GET", "/proxy/v1/clients/c", "").body, &got)
	want := []map[string]any{
		{"host": "api.x", "secret": "admin", "paths": []any{"/system/*"}, "methods": []any{"GET", "POST"}},
		{"host": "api.x"},
		{"host": "*.x", "passthrough": true},
		{"host": "*", "paths": []any{"/a", "*"}},
		{"host": "::1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if got := a.want(200, "GET", "/proxy/v1/clients/other", "").body; got != "[]\n" {
		t.Errorf("rules of the other client = %q, want none", got)
	}
	a.want(204, "DELETE", "/proxy/v1/allows/c/api.x", "")
	a.want(204, "DELETE", "/proxy/v1/allows/c/%2A.x", "")
	if got := a.names("/proxy/v1/clients/c", "host"); !cmp.Equal(got, []string{"*", "::1"}) {
		t.Errorf("rules left = %v, want two", got)
	}
}

func TestProxyRuleExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		a.want(201, "POST", "/proxy/v1/clients", `{"name":"c"}`)
		var made struct{ Expires *time.Time }
		decode(t, a.want(201, "POST", "/proxy/v1/allows", `{"client":"c","host":"a","ttl_seconds":60}`).body, &made)
		if want := time.Now().Add(time.Minute); made.Expires == nil || !made.Expires.Equal(want) {
			t.Errorf("expires = %v, want %s", made.Expires, want)
		}
		a.want(201, "POST", "/proxy/v1/allows", `{"client":"c","host":"b","ttl_seconds":0}`)
		time.Sleep(time.Minute - time.Nanosecond)
		a.want(409, "POST", "/proxy/v1/allows", `{"client":"c","host":"a"}`)
		time.Sleep(time.Nanosecond)
		if got := a.names("/proxy/v1/clients/c", "host"); !cmp.Equal(got, []string{"b"}) {
			t.Errorf("rules after a minute = %v, want the one without an end", got)
		}
		a.want(404, "DELETE", "/proxy/v1/allows/c/a", "")
		a.want(201, "POST", "/proxy/v1/allows", `{"client":"c","host":"a"}`) // an expired rule is no duplicate
	})
}

func TestRefusedProxyCalls(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/proxy/v1/clients", `{"name":"c","token":"tok"}`)
	a.want(201, "POST", "/proxy/v1/secrets", `{"name":"s","host":"h","value":"v"}`)
	a.want(201, "POST", "/proxy/v1/allows", `{"client":"c","host":"h","methods":["GET","POST"],"paths":["/a"]}`)
	long := strings.Repeat("x", 70_000)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"client without a name", "POST", "clients", `{}`, 400, "name"},
		{"client called ..", "POST", "clients", `{"name":".."}`, 400, "name"},
		{"client with a slash", "POST", "clients", `{"name":"a/b"}`, 400, "name"},
		{"client that is there", "POST", "clients", `{"name":"c"}`, 409, `"c"`},
		{"token that is there", "POST", "clients", `{"name":"d","token":"tok"}`, 409, "token"},
		{"token with a space", "POST", "clients", `{"name":"d","token":"a b"}`, 400, "token"},
		{"token with a line break", "POST", "clients", `{"name":"d","token":"a\nb"}`, 400, "token"},
		{"long token", "POST", "clients", `{"name":"d","token":"` + long + `"}`, 400, "token"},
		{"unknown field", "POST", "clients", `{"name":"d","role":"x"}`, 400, "role"},
		{"unknown client", "GET", "clients/x", "", 404, `"x"`},
		{"delete an unknown client", "DELETE", "clients/x", "", 404, `"x"`},
		{"secret without a name", "POST", "secrets", `{"host":"h","value":"v"}`, 400, "name"},
		{"secret without a host", "POST", "secrets", `{"name":"t","value":"v"}`, 400, "host"},
		{"secret without a value", "POST", "secrets", `{"name":"t","host":"h"}`, 400, "value"},
		{"secret of another type", "POST", "secrets", `{"name":"t","host":"h","value":"v","type":"digest"}`, 400, `"digest"`},
		{"basic without a password", "POST", "secrets", `{"name":"t","host":"h","value":"v","type":"basic"}`, 400, "user:pass"},
		{"basic without a user", "POST", "secrets", `{"name":"t","host":"h","value":":v","type":"basic"}`, 400, "user:pass"},
		{"value with a line break", "POST", "secrets", `{"name":"t","host":"h","value":"a\r\nb"}`, 400, "value"},
		{"long value", "POST", "secrets", `{"name":"t","host":"h","value":"` + long + `"}`, 400, "value"},
		{"secret that is there", "POST", "secrets", `{"name":"s","host":"h","value":"v"}`, 409, `"s"`},
		{"delete an unknown secret", "DELETE", "secrets/x", "", 404, `"x"`},
		{"rule without a client", "POST", "allows", `{"host":"h"}`, 400, "client"},
		{"rule without a host", "POST", "allows", `{"client":"c"}`, 400, "host"},
		{"rule of an unknown client", "POST", "allows", `{"client":"x","host":"h"}`, 400, `"x"`},
		{"rule with an unknown secret", "POST", "allows", `{"client":"c","host":"h","secret":"x"}`, 400, `"x"`},
		{"host with a port", "POST", "allows", `{"client":"c","host":"h:443"}`, 400, "host"},
		{"host with a scheme", "POST", "allows", `{"client":"c","host":"https://h"}`, 400, "host"},
		{"star within a host", "POST", "allows", `{"client":"c","host":"a.*.b"}`, 400, "host"},
		{"long host", "POST", "allows", `{"client":"c","host":"` + long[:254] + `"}`, 400, "host"},
		{"method with a space", "POST", "allows", `{"client":"c","host":"h","methods":["GET /"]}`, 400, "method"},
		{"path without a slash", "POST", "allows", `{"client":"c","host":"h","paths":["a"]}`, 400, "path"},
		{"star within a path", "POST", "allows", `{"client":"c","host":"h","paths":["/a*"]}`, 400, "path"},
		{"too many paths", "POST", "allows", `{"client":"c","host":"h","paths":["/"` + strings.Repeat(`,"/"`, 256) + `]}`, 400, "256"},
		{"passthrough with a secret", "POST", "allows", `{"client":"c","host":"h","passthrough":true,"secret":"s"}`, 400, "passthrough"},
		{"passthrough with methods", "POST", "allows", `{"client":"c","host":"h","passthrough":true,"methods":["GET"]}`, 400, "passthrough"},
		{"passthrough with paths", "POST", "allows", `{"client":"c","host":"h","passthrough":true,"paths":["/"]}`, 400, "passthrough"},
		{"negative ttl", "POST", "allows", `{"client":"c","host":"h","ttl_seconds":-1}`, 400, "ttl_seconds"},
		{"endless ttl", "POST", "allows", `{"client":"c","host":"h","ttl_seconds":9223372036854775807}`, 400, "ttl_seconds"},
		{"the same rule", "POST", "allows", `{"client":"c","host":"H","methods":["post","get"],"paths":["/a"],"secret":"s"}`, 409, "same"},
		{"delete a rule of an unknown client", "DELETE", "allows/x/h", "", 404, `"x"`},
		{"delete an unknown rule", "DELETE", "allows/c/other", "", 404, `"other"`},
		{"delete a rule of no host", "DELETE", "allows/c/h%3A443", "", 400, "host"},
		{"unknown parameter", "GET", "clients?x=1", "", 400, `"x"`},
		{"unknown path", "GET", "rules", "", 404, "no such path"},
		{"wrong method", "PUT", "clients", "", 405, "GET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, "/proxy/v1/"+tt.path, tt.body)
			if got.status != tt.status || !strings.Contains(got.body, tt.says) || len(got.body) > 1000 {
				t.Errorf("%s %s = %d %s, want %d and %q", tt.method, tt.path, got.status, got.body, tt.status, tt.says)
			}
			if kind := got.header.Get("Content-Type"); kind != "text/plain; charset=utf-8" || strings.HasPrefix(got.body, "{") {
				t.Errorf("%s %s answers %s %s, want plain text", tt.method, tt.path, kind, got.body)
			}
		})
	}
}
