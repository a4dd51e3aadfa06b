package daemontest

import (
	"slices"
	"strings"
	"time"
)

var (
	tagsFields = fields{"hostname": "text", "tags": "texts"}
	describe   = nodeFields.with(fields{
		"storage": "text", "image": "text", "commit_id": "text", "parent_commit_id": "text",
		"network": "object", "suspend": "text", "unenforced": "texts",
	})
)

// status is how a VM's description says that it stands.
func (a *api) status(vm string) string {
	a.t.Helper()
	return a.ok(200, "GET", "/vm/"+vm, "").object(describe)["status"].(string)
}

// testTags tests the tags of VMs, and the name among them.
func testTags(a *api) {
	vm := a.createVM(`{"tags":["one","name=first"]}`)
	path := "/vm/" + vm + "/tags"
	other := "/vm/" + a.createVM("{}") + "/tags"
	for _, tt := range []struct {
		name, body string
		want       string
	}{
		{"adding", `{"add":["two","one"]}`, "one name=first two"},
		{"removing", `{"remove":["one","none"]}`, "name=first two"},
		{"both at once", `{"add":["three"],"remove":["two"]}`, "name=first three"},
		{"replacing", `{"replace":["x","name=first","y"]}`, "x name=first y"},
	} {
		a.run(tt.name, func(a *api) {
			got := a.ok(200, "PATCH", path, tt.body).object(tagsFields)
			shown := a.ok(200, "GET", path, "").object(tagsFields)
			for _, answer := range []map[string]any{got, shown} {
				var tags []string
				for _, tag := range answer["tags"].([]any) {
					tags = append(tags, tag.(string))
				}
				if strings.Join(tags, " ") != tt.want || answer["hostname"] != vm {
					a.t.Errorf("tags after %s = %v, want %s of %s", tt.body, answer, tt.want, vm)
				}
			}
		})
	}
	a.run("the name finds the VM", func(a *api) {
		list := a.ok(200, "GET", "/nodes?tag=name%3Dfirst", "").list(nodeFields)
		if len(list) != 1 || list[0]["hostname"] != vm {
			a.t.Errorf("nodes with the name = %v, want %s", list, vm)
		}
	})
	for _, tt := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"a name that another has", other, `{"add":["name=first"]}`, 409, "taken"},
		{"a second name", path, `{"add":["name=second"]}`, 400, "name"},
		{"another name", path, `{"replace":["name=second"]}`, 400, "can't be changed"},
		{"no name any more", path, `{"replace":[]}`, 400, "can't be changed"},
		{"the name removed", path, `{"remove":["name=first"]}`, 400, "can't be changed"},
		{"replace and add", path, `{"replace":[],"add":["a"]}`, 400, "together"},
		{"the same tag added and removed", path, `{"add":["a"],"remove":["a"]}`, 400, "both"},
		{"nothing", path, `{}`, 400, "required"},
		{"a tag with a line break", path, `{"add":["a\nb"]}`, 400, "characters"},
		{"a tag too long", path, `{"add":["` + strings.Repeat("x", 300) + `"]}`, 400, "longer"},
	} {
		a.run("refuses "+tt.name, func(a *api) {
			before := a.ok(200, "GET", tt.path, "").body
			a.refused(tt.status, tt.says, "PATCH", tt.path, tt.body)
			if after := a.ok(200, "GET", tt.path, "").body; string(after) != string(before) {
				a.t.Errorf("tags after a refusal = %s, want %s", after, before)
			}
		})
	}
}

// testStates tests pausing, suspending and shutting down.
func testStates(a *api) {
	a.run("description", func(a *api) {
		vm := a.createVM(`{"tags":["a"]}`)
		got := a.ok(200, "GET", "/vm/"+vm, "").object(describe)
		if got["storage"] != "ephemeral" || got["status"] != "Running" || got["hostname"] != vm {
			a.t.Errorf("describe = %v, want a running ephemeral VM", got)
		}
		network := got["network"].(map[string]any)
		for _, name := range []string{"mode", "policy_source", "host_group", "override", "effective"} {
			if _, ok := network[name]; !ok {
				a.t.Errorf("describe: network = %v has no %s", network, name)
			}
		}
	})
	a.run("changes of state", changesOfState)
	a.run("a paused VM stands still, and goes on when resumed", func(a *api) { standsStill(a, "pause", "resume") })
	a.run("a suspended VM stands still, and goes on when restored", func(a *api) { standsStill(a, "suspend", "restore") })
	a.run("a command that runs while its VM is paused goes on with it", func(a *api) {
		vm := a.furnishedVM()
		s := a.stream(vm, []string{"cat"}, "stdin", "true")
		defer s.close()
		s.write("before\n")
		s.want("before\n")
		a.ok(200, "POST", vm+"/pause", "")
		s.write("meanwhile\n")
		a.ok(200, "POST", vm+"/resume", "")
		s.want("meanwhile\n")
	})
	for _, action := range []string{"", "?action=shutdown", "?action=reboot"} {
		a.run("shutdown"+action+" ends an ephemeral VM", func(a *api) {
			vm := a.createVM("{}")
			a.ok(200, "POST", "/vm/"+vm+"/shutdown"+action, "").is(typeText)
			a.refused(404, vm, "GET", "/vm/"+vm, "")
			list := a.ok(200, "GET", "/nodes", "").list(nodeFields)
			if slices.ContainsFunc(list, func(n map[string]any) bool { return n["hostname"] == vm }) {
				a.t.Errorf("%s is still listed after its shutdown", vm)
			}
		})
	}
	a.run("shutdown takes the action in its body", func(a *api) {
		a.ok(200, "POST", "/vm/"+a.createVM("{}")+"/shutdown", `{"action":"reboot"}`)
	})
	a.run("refused shutdowns", func(a *api) {
		vm := "/vm/" + a.createVM("{}")
		a.refused(400, "action", "POST", vm+"/shutdown?action=explode", "")
		a.refused(400, "action", "POST", vm+"/shutdown?action=reboot", `{"action":"shutdown"}`)
		a.ok(200, "POST", vm+"/pause", "")
		a.refused(409, "paused", "POST", vm+"/shutdown", "")
	})
	a.run("an ephemeral VM that runs is not relaunched", func(a *api) {
		a.refused(409, "Running", "POST", "/vm/"+a.createVM("{}")+"/relaunch", "")
	})
	a.run("a paused VM can be deleted", func(a *api) {
		vm := a.createVM("{}")
		a.ok(200, "POST", "/vm/"+vm+"/pause", "")
		a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").object(deletedFields)
	})
}

// changesOfState goes through the calls that change a VM's state, allowed or
// not, from each state.
func changesOfState(a *api) {
	vm := a.createVM("{}")
	for _, tt := range []struct {
		call   string
		status int
		then   string
	}{
		{"resume", 200, "Running"},
		{"restore", 200, "Running"},
		{"pause", 200, "Paused"},
		{"pause", 200, "Paused"},
		{"restore", 409, "Paused"},
		{"resume", 200, "Running"},
		{"suspend", 200, "Suspended"},
		{"suspend", 200, "Suspended"},
		{"pause", 409, "Suspended"},
		{"resume", 409, "Suspended"},
		{"restore?wait=userdata", 400, "Suspended"},
		{"restore?timeout=3s", 400, "Suspended"},
		{"restore?wait=agent&timeout=soon", 400, "Suspended"},
		{"restore?wait=agent&timeout=10s", 200, "Running"},
		{"pause", 200, "Paused"},
		{"suspend", 200, "Suspended"},
		{"restore", 200, "Running"},
	} {
		got := a.call("POST", "/vm/"+vm+"/"+tt.call, "")
		if tt.status == 200 {
			got.is(typeText)
		} else {
			got.refused(tt.status, "")
		}
		if now := a.status(vm); got.status != tt.status || now != tt.then {
			a.t.Fatalf("%s = %d %s and the VM is %s, want %d and %s", tt.call, got.status, got.body, now, tt.status, tt.then)
		}
	}
}

// standsStill has a VM count, and looks at the count of a frozen VM through
// the only thing that can see it: what the count was when it goes on again.
func standsStill(a *api, freeze, thaw string) {
	a.needs(Freezes)
	vm := a.furnishedVM()
	// The counter prints the time between two of its steps when that is long.
	s := a.stream(vm, []string{"sh", "-c", `
last=$(date +%s%N); echo counting
while :; do
	sleep 0.02; now=$(date +%s%N)
	if [ $((now - last)) -gt 700000000 ]; then echo stood still; exit 0; fi
	last=$now
done`})
	defer s.close()
	s.want("counting\n")
	a.ok(200, "POST", vm+"/"+freeze, "")
	// The guest has no way to tell that time passes, nor has anybody to wait
	// for: the time itself is what is tested.
	time.Sleep(1500 * time.Millisecond)
	a.ok(200, "POST", vm+"/"+thaw, "")
	s.want("stood still\n")
}
