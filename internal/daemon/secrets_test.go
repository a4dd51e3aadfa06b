package daemon_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func secretBody(name, value, rest string) string {
	return fmt.Sprintf(`{"name":%q,"data":%q%s}`, name, base64.StdEncoding.EncodeToString([]byte(value)), rest)
}

// listed returns the secrets as name, size, permissions and ids.
func (a *api) listed() []string {
	a.t.Helper()
	var list []struct {
		Name, Permissions string
		Size              int
		UID, GID          int
		ModTime           time.Time `json:"mod_time"`
	}
	text := a.want(200, "GET", "/secrets", "").body
	decode(a.t, text, &list)
	got := []string{}
	for _, s := range list {
		got = append(got, fmt.Sprintf("%s %d %s %d:%d", s.Name, s.Size, s.Permissions, s.UID, s.GID))
		if s.ModTime.IsZero() {
			a.t.Errorf("secret %s has no mod_time", s.Name)
		}
	}
	return got
}

func TestSecretsAreListedWithoutTheirValues(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/secrets", secretBody("key", "hunter2", `,"permissions":"0440","uid":1000,"gid":7`))
	made := a.want(201, "POST", "/secrets", secretBody("a.b-C_1", "", ""))
	if diff := cmp.Diff([]string{"a.b-C_1 0 0600 0:0", "key 7 0440 1000:7"}, a.listed()); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	for _, text := range []string{made.body, a.want(200, "GET", "/secrets", "").body} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg") {
			t.Errorf("answer %s has the value", text)
		}
	}
}

func TestPatchChangesOnlyWhatIsGiven(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/secrets", secretBody("key", "one", `,"permissions":"0440","uid":1,"gid":2`))
	vm := a.create(`{}`)
	for _, tt := range []struct{ body, want string }{
		{`{}`, `"one" 440 1:2`},
		{`{"data":"dHdv"}`, `"two" 440 1:2`},
		{`{"data":"","permissions":"0400"}`, `"two" 400 1:2`},
		{`{"uid":0}`, `"two" 400 0:2`},
		{`{"gid":9,"name":"key"}`, `"two" 400 0:9`},
	} {
		a.want(200, "PATCH", "/secrets/key", tt.body)
		if got := a.file(vm, "/run/slicer/secrets/key"); got != tt.want {
			t.Errorf("secret in the VM after PATCH %s = %s, want %s", tt.body, got, tt.want)
		}
	}
}

func TestRefusedSecrets(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/secrets", secretBody("key", "one", ""))
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"taken", "POST", "/secrets", secretBody("key", "two", ""), 409, `"key"`},
		{"no name", "POST", "/secrets", `{"data":"eA=="}`, 400, "name is required"},
		{"no data", "POST", "/secrets", `{"name":"x"}`, 400, "data is required"},
		{"bad base64", "POST", "/secrets", `{"name":"x","data":"hunter2!"}`, 400, "base64"},
		{"base64 with a line break", "POST", "/secrets", `{"name":"x","data":"eHh4\neHh4"}`, 400, "base64"},
		{"base64 without padding", "POST", "/secrets", `{"name":"x","data":"eA"}`, 400, "base64"},
		{"base64 with loose bits", "POST", "/secrets", `{"name":"x","data":"eB=="}`, 400, "base64"},
		{"slash in the name", "POST", "/secrets", secretBody("a/b", "", ""), 400, "name must"},
		{"dots", "POST", "/secrets", secretBody("..", "", ""), 400, "name must"},
		{"empty name", "POST", "/secrets", secretBody("", "", ""), 400, "name must"},
		{"long name", "POST", "/secrets", secretBody(strings.Repeat("x", 254), "", ""), 400, "name must"},
		{"newline at the end of the name", "POST", "/secrets", secretBody("x\n", "", ""), 400, "name must"},
		{"large value", "POST", "/secrets", secretBody("x", strings.Repeat("x", 1<<20+1), ""), 400, "1048576"},
		{"bad permissions", "POST", "/secrets", secretBody("x", "", `,"permissions":"rw"`), 400, "permissions"},
		{"bad uid", "POST", "/secrets", secretBody("x", "", `,"uid":-1`), 400, "uid"},
		{"uid that no guest need have", "POST", "/secrets", secretBody("x", "", `,"uid":65536`), 400, "uid must be a number from 0 to 65535, not 65536"},
		{"gid that no guest need have", "POST", "/secrets", secretBody("x", "", `,"gid":70000`), 400, "gid must be a number from 0 to 65535, not 70000"},
		{"patch with a uid that no guest need have", "PATCH", "/secrets/key", `{"uid":4294967295}`, 400, "uid must be"},
		{"unknown field", "POST", "/secrets", secretBody("x", "", `,"value":"y"`), 400, "value"},
		{"patch of nothing", "PATCH", "/secrets/nope", `{}`, 404, `"nope"`},
		{"patch of the name", "PATCH", "/secrets/key", `{"name":"other"}`, 400, "name"},
		{"patch with bad base64", "PATCH", "/secrets/key", `{"data":"!"}`, 400, "base64"},
		{"delete of nothing", "DELETE", "/secrets/nope", "", 404, `"nope"`},
		{"delete of a path", "DELETE", "/secrets/..%2Fhostgroup", "", 404, `"../hostgroup"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call(tt.method, tt.path, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("%s %s = %d %s, want %d and %q", tt.method, tt.path, got.status, got.body, tt.status, tt.says)
			}
			if strings.Contains(got.body, "hunter2") {
				t.Errorf("answer %s has the value", got.body)
			}
		})
	}
	if diff := cmp.Diff([]string{"key 3 0600 0:0"}, a.listed()); diff != "" {
		t.Errorf("secrets after refusals (-want +got):\n%s", diff)
	}
}

func TestSecretsReachTheVMsThatWereGrantedThem(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.want(201, "POST", "/secrets", secretBody("one", "1", ""))
	a.want(201, "POST", "/secrets", secretBody("two", "2", `,"permissions":"0400","uid":1000,"gid":1000`))
	all := a.create(`{}`)
	narrow := a.create(`{"secrets":["two"]}`)
	paused := a.create(`{"secrets":[]}`)
	a.want(200, "POST", "/vm/"+paused+"/pause", "")
	want := func(vm, name, want string) {
		t.Helper()
		if got := a.file(vm, "/run/slicer/secrets/"+name); got != want {
			t.Errorf("%s in %s = %s, want %s", name, vm, got, want)
		}
	}
	want(all, "one", `"1" 600 0:0`)
	want(all, "two", `"2" 400 1000:1000`)
	want(narrow, "one", "absent")
	want(narrow, "two", `"2" 400 1000:1000`)

	a.want(201, "POST", "/secrets", secretBody("three", "3", ""))
	a.want(200, "PATCH", "/secrets/two", `{"data":"TU8="}`)
	a.want(200, "DELETE", "/secrets/one", "")
	want(all, "three", `"3" 600 0:0`)
	want(all, "two", `"MO" 400 1000:1000`)
	want(all, "one", "absent")
	want(narrow, "three", "absent")
	want(narrow, "two", `"MO" 400 1000:1000`)
	want(paused, "one", `"1" 600 0:0`) // nothing reaches a paused VM …
	want(paused, "three", "absent")
	a.want(200, "POST", "/vm/"+paused+"/resume", "")
	want(paused, "one", "absent") // … until it is resumed
	want(paused, "two", `"MO" 400 1000:1000`)
	want(paused, "three", `"3" 600 0:0`)
}

func TestSecretsTogetherAreBounded(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	value := strings.Repeat("x", 1<<20)
	for n := range 16 {
		a.want(201, "POST", "/secrets", secretBody(fmt.Sprintf("s%d", n), value, ""))
	}
	a.want(507, "POST", "/secrets", secretBody("more", "x", ""))
	a.want(200, "DELETE", "/secrets/s0", "")
	a.want(201, "POST", "/secrets", secretBody("more", "x", ""))
}
