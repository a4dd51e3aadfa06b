package daemontest

import (
	"encoding/base64"
	"strings"
)

var secretFields = fields{"name": "text", "size": "number", "permissions": "text", "uid": "number", "gid": "number", "mod_time": "time"}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// testSecrets tests secrets, and in which guests they are.
func testSecrets(a *api) {
	const value = "the value of a secret"
	a.run("create, list, patch and delete", func(a *api) {
		made := a.ok(201, "POST", "/secrets", `{"name":"key","data":"`+base64Of(value)+`","permissions":"0440","uid":1000,"gid":1000}`)
		got := made.object(secretFields)
		if got["name"] != "key" || got["size"] != float64(len(value)) || got["permissions"] != "0440" || got["uid"] != 1000.0 {
			a.t.Errorf("create = %v, want it as it was asked for", got)
		}
		list := a.ok(200, "GET", "/secrets", "")
		if all := list.list(secretFields); len(all) != 1 || all[0]["name"] != "key" {
			a.t.Errorf("list = %v, want the one", all)
		}
		for _, text := range []string{string(made.body), string(list.body)} {
			if strings.Contains(text, value) || strings.Contains(text, base64Of(value)) {
				a.t.Errorf("%s has the value", text)
			}
		}
		a.refused(409, "exists", "POST", "/secrets", `{"name":"key","data":""}`)
		got = a.ok(200, "PATCH", "/secrets/key", `{"permissions":"0400"}`).object(secretFields)
		if got["permissions"] != "0400" || got["size"] != float64(len(value)) {
			a.t.Errorf("patch = %v, want new permissions and the old value", got)
		}
		a.ok(200, "DELETE", "/secrets/key", "").object(fields{"message": "text"})
		a.refused(404, `"key"`, "DELETE", "/secrets/key", "")
		a.refused(404, `"key"`, "PATCH", "/secrets/key", "{}")
	})
	for _, tt := range []struct {
		name, body string
		says       string
	}{
		{"no name", `{"data":""}`, "name is required"},
		{"no data", `{"name":"x"}`, "data is required"},
		{"data that is no base64", `{"name":"x","data":"not base64!"}`, "base64"},
		{"data of another base64", `{"name":"x","data":"_-_-"}`, "base64"},
		{"data without its end", `{"name":"x","data":"YQ"}`, "base64"},
		{"a path", `{"name":"../x","data":""}`, "name must be"},
		{"dots", `{"name":"..","data":""}`, "name must be"},
		{"permissions that are none", `{"name":"x","data":"","permissions":"8"}`, "permissions"},
		{"an owner that is none", `{"name":"x","data":"","uid":-1}`, "uid"},
		{"an owner beyond a guest's users", `{"name":"x","data":"","gid":70000}`, "gid"},
		{"too much", `{"name":"x","data":"` + base64Of(strings.Repeat("x", 1<<20+1)) + `"}`, "larger"},
	} {
		a.run("refuses "+tt.name, func(a *api) { a.refused(400, tt.says, "POST", "/secrets", tt.body) })
	}
	a.run("are in the guests that were granted them", func(a *api) { grantedSecrets(a) })
}

func grantedSecrets(a *api) {
	a.ok(201, "POST", "/secrets", `{"name":"one","data":"`+base64Of("first")+`"}`)
	a.ok(201, "POST", "/secrets", `{"name":"two","data":"`+base64Of("second")+`","permissions":"0440","uid":1000,"gid":1000}`)
	all := "/vm/" + a.createVM("{}")
	some := a.furnishedVMWith(`{"secrets":["two"]}`)
	names := func(vm string) string {
		var list []string
		for _, f := range a.ok(200, "GET", vm+"/fs/readdir?path=/run/slicer/secrets", "").list(fileFields) {
			list = append(list, f["name"].(string))
		}
		return strings.Join(list, " ")
	}
	if got := names(all); got != "one two" {
		a.t.Errorf("secrets of a VM that named none = %q, want all", got)
	}
	if got := names(some); got != "two" {
		a.t.Errorf("secrets of a VM that named two = %q, want that one", got)
	}
	if got := a.read(all, "/run/slicer/secrets/one"); got != "first" {
		a.t.Errorf("the secret = %q, want its decoded value", got)
	}
	if got := a.output(some, "owner", "/run/slicer/secrets/two"); got != "1000 1000 440\n" {
		a.t.Errorf("owner and mode of the secret = %q, want 1000 1000 440", got)
	}
	if got := a.output(some, "cat", "/run/slicer/secrets/two"); got != "second" {
		a.t.Errorf("cat of the secret as ubuntu = %q, want its value", got)
	}
	a.run("a secret of root's is not ubuntu's to read", func(a *api) {
		a.needs(Owns)
		if got := a.buffered(all, []string{"cat", "/run/slicer/secrets/one"}); got["exit_code"] == 0.0 {
			a.t.Errorf("cat of root's secret as ubuntu = %v, want that it is refused", got)
		}
	})
	a.ok(200, "PATCH", "/secrets/two", `{"data":"`+base64Of("changed")+`"}`)
	a.ok(201, "POST", "/secrets", `{"name":"later","data":""}`)
	if got := a.read(some, "/run/slicer/secrets/two"); got != "changed" {
		a.t.Errorf("the changed secret = %q in a running VM", got)
	}
	if got := names(all) + ", " + names(some); got != "later one two, two" {
		a.t.Errorf("secrets after a new one = %q, want it in the VM that gets all", got)
	}
	a.ok(200, "DELETE", "/secrets/two", "")
	if got := names(all) + "," + names(some); got != "later one," {
		a.t.Errorf("secrets after a delete = %q, want it gone from both", got)
	}
	a.ok(200, "POST", all+"/pause", "")
	a.ok(200, "DELETE", "/secrets/one", "")
	a.ok(200, "POST", all+"/resume", "")
	if got := names(all); got != "later" {
		a.t.Errorf("secrets after a delete while paused = %q, want it gone", got)
	}
}
