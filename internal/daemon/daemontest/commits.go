package daemontest

import "strings"

var (
	commitFields = fields{
		"commit_id": "text", "hostname": "text", "hostgroup": "text", "status": "text", "mode": "text", "tags": "texts",
		"labels": "object", "cache_key": "text", "created_at": "time", "parent_commit_id": "text",
	}
	forkFields = createdFields.with(fields{
		"source_hostname": "text", "commit_id": "text", "status": "text", "mode": "text", "persistent": "bool",
	})
)

// testCommits tests commits of disks, and VMs that begin as one.
func testCommits(a *api) {
	source := a.createVM(`{"persistent":true,"cpus":1,"tags":["team=x","name=source"]}`)
	vm := "/vm/" + source
	a.ok(200, "POST", vm+"/cp?path=/home/ubuntu/f&mode=binary", "committed")
	a.run("only a stopped persistent VM is committed", func(a *api) {
		a.refused(409, "shut it down first", "POST", vm+"/commit", "{}")
		a.refused(409, "persistent", "POST", "/vm/"+a.createVM("{}")+"/commit", "{}")
		a.refused(404, `"sbox-999"`, "POST", "/vm/sbox-999/commit", "{}")
	})
	a.ok(200, "POST", vm+"/shutdown", "")
	commit := a.ok(200, "POST", vm+"/commit", `{"tags":["base","team=x"],"labels":{"k":"v"},"cache_key":"key"}`).object(commitFields)
	id := commit["commit_id"].(string)
	a.run("commit says what it was made of", func(a *api) {
		if id == "" || commit["hostname"] != source || commit["cache_key"] != "key" || commit["labels"].(map[string]any)["k"] != "v" || commit["parent_commit_id"] != "" {
			a.t.Errorf("commit = %v, want that of %s with its labels", commit, source)
		}
		if got := a.ok(200, "GET", vm, "").object(describe)["commit_id"]; got != id {
			a.t.Errorf("describe: commit_id = %v, want %s", got, id)
		}
	})
	for query, want := range map[string]int{
		"": 1, "?tag=base": 1, "?tag=bas": 0, "?cache_key=key": 1, "?cache_key=other": 0,
		"?source=" + source: 1, "?source=sbox-999": 0, "?mode=nothing": 0, "?tag=base&cache_key=other": 0,
	} {
		a.run("list"+query, func(a *api) {
			if got := a.ok(200, "GET", "/vm/commits"+query, "").list(commitFields); len(got) != want {
				a.t.Errorf("GET /vm/commits%s = %v, want %d", query, got, want)
			}
		})
	}
	a.run("a fork begins with the disk, and leaves it alone", func(a *api) { forks(a, source, id) })
	for _, tt := range []struct {
		name, query, body string
		status            int
		says              string
	}{
		{"another wait", "?wait=userdata", "{}", 400, "wait"},
		{"a time-out that is none", "?wait=agent&timeout=soon", "{}", 400, "timeout"},
		{"another tag mode", "", `{"tag_mode":"merge"}`, 400, "tag_mode"},
		{"a name that is taken", "", `{"tags":["name=source"]}`, 409, "taken"},
		{"more CPUs than the group has", "", `{"vcpu":3}`, 400, "vcpu"},
		{"more memory than the group has", "", `{"ram_bytes":1073741825}`, 400, "ram_bytes"},
		{"an unknown fixup", "", `{"fixups":["machine-magic"]}`, 501, "machine-magic"},
		{"an unknown secret", "", `{"secrets":["nothing"]}`, 400, `"nothing"`},
		{"an unknown field", "", `{"cpus":1}`, 400, `"cpus"`},
	} {
		a.run("a fork refuses "+tt.name, func(a *api) {
			before := len(a.ok(200, "GET", "/nodes", "").list(nodeFields))
			a.refused(tt.status, tt.says, "POST", "/vm/commits/"+id+"/fork"+tt.query, tt.body)
			if after := len(a.ok(200, "GET", "/nodes", "").list(nodeFields)); after != before {
				a.t.Errorf("%d VMs after a refused fork, want %d", after, before)
			}
		})
	}
	for name, body := range map[string]string{
		"two names": `{"tags":["name=a","name=b"]}`, "a label without a name": `{"labels":{"":"v"}}`,
		"a line break in a label": `{"labels":{"k":"a\nb"}}`, "a cache key beyond all bounds": `{"cache_key":"` + strings.Repeat("x", 10_000) + `"}`,
		"an unknown field": `{"colour":"red"}`,
	} {
		a.run("a commit refuses "+name, func(a *api) { a.refused(400, "", "POST", vm+"/commit", body) })
	}
	a.run("a deleted one is gone", func(a *api) {
		a.refused(404, `"x"`, "DELETE", "/vm/commits/x", "")
		a.refused(404, `"x"`, "POST", "/vm/commits/x/fork", "{}")
		a.ok(200, "DELETE", "/vm/commits/"+id, "").is(typeJSON)
		a.refused(404, id, "DELETE", "/vm/commits/"+id, "")
		a.refused(404, id, "POST", "/vm/commits/"+id+"/fork", "{}")
		if got := a.ok(200, "GET", "/vm/commits", "").list(commitFields); len(got) != 0 {
			a.t.Errorf("commits = %v, want none", got)
		}
	})
	a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+source, "")
}

func forks(a *api, source, id string) {
	fork := func(query, body string) map[string]any {
		got := a.ok(201, "POST", "/vm/commits/"+id+"/fork"+query, body).object(forkFields)
		if got["source_hostname"] != source || got["commit_id"] != id || got["hostname"] == source {
			a.t.Errorf("fork = %v, want a new VM of %s", got, source)
		}
		return got
	}
	tags := func(vm map[string]any) string {
		var list []string
		for _, tag := range a.ok(200, "GET", "/vm/"+vm["hostname"].(string)+"/tags", "").object(tagsFields)["tags"].([]any) {
			list = append(list, tag.(string))
		}
		return strings.Join(list, " ")
	}
	first := fork("?wait=agent&timeout=30s", `{"tags":["mine","name=first"],"vcpu":2}`)
	vm := "/vm/" + first["hostname"].(string)
	if got := a.read(vm, "/home/ubuntu/f"); got != "committed" {
		a.t.Errorf("the fork's file = %q, want the committed one", got)
	}
	if got := tags(first); got != "base team=x mine name=first" || first["persistent"] != false {
		a.t.Errorf("fork = %v with the tags %q, want an ephemeral VM with the commit's tags and its own", first, got)
	}
	if got := a.ok(200, "GET", vm, "").object(describe); got["parent_commit_id"] != id || got["cpus"] != 2.0 {
		a.t.Errorf("describe of the fork = %v, want its commit and 2 CPUs", got)
	}
	a.ok(200, "POST", vm+"/cp?path=/home/ubuntu/f&mode=binary", "changed")

	second := fork("?wait=none", `{"tag_mode":"replace","tags":["only"],"persistent":true}`)
	vm2 := "/vm/" + second["hostname"].(string)
	if got := a.read(vm2, "/home/ubuntu/f"); got != "committed" {
		a.t.Errorf("another fork's file = %q, want the committed one", got)
	}
	if got := tags(second); got != "only" || second["persistent"] != true {
		a.t.Errorf("fork = %v with the tags %q, want a persistent VM with its own tags", second, got)
	}
	a.ok(200, "POST", vm2+"/shutdown", "")
	of := a.ok(200, "POST", vm2+"/commit", "{}").object(commitFields)
	if of["parent_commit_id"] != id {
		a.t.Errorf("commit of a fork = %v, want the parent %s", of, id)
	}
	a.ok(200, "DELETE", "/vm/commits/"+of["commit_id"].(string), "")
	for _, vm := range []map[string]any{first, second} {
		a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm["hostname"].(string), "")
	}
}
