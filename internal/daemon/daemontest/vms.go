package daemontest

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
)

var (
	nodeFields = fields{
		"hostname": "text", "hostgroup": "text", "ip": "text", "ram_bytes": "number", "cpus": "number",
		"created_at": "time", "arch": "text", "tags": "texts", "status": "text", "persistent": "bool",
	}
	createdFields = fields{"hostname": "text", "hostgroup": "text", "ip": "text", "created_at": "time", "arch": "text"}
	deletedFields = fields{"message": "text", "disk_removed": "text", "error": "text"}
	healthFields  = fields{
		"hostname": "text", "agent_uptime": "number", "agent_version": "text", "system_uptime": "number",
		"userdata_ran": "bool", "userdata_exit_code?": "number", "ip": "text",
	}
	logsFields  = fields{"hostname": "text", "lines": "number", "content": "text"}
	statsFields = nodeFields.with(fields{"snapshot": "object|null", "error": "text"})
)

// testDaemon tests what tells of the daemon itself.
func testDaemon(a *api) {
	a.run("healthz says OK in plain text", func(a *api) {
		if got := a.ok(200, "GET", "/healthz", "").is(typeText); string(got.body) != "OK" {
			a.t.Errorf("GET /healthz = %q, want OK", got.body)
		}
	})
	a.run("HEAD is answered without a body", func(a *api) {
		for _, path := range []string{"/healthz", "/info", "/nodes"} {
			if got := a.ok(200, "HEAD", path, ""); len(got.body) != 0 {
				a.t.Errorf("HEAD %s has a body of %d bytes", path, len(got.body))
			}
		}
	})
	a.run("info", func(a *api) {
		got := a.ok(200, "GET", "/info", "").object(fields{"version": "text", "git_commit": "text", "platform": "text", "arch": "text"})
		if got["platform"] != runtime.GOOS || got["arch"] != runtime.GOARCH || got["version"] == "" {
			a.t.Errorf("GET /info = %v, want this platform and a version", got)
		}
	})
	a.run("host groups", func(a *api) {
		got := a.ok(200, "GET", "/hostgroup", "").list(fields{
			"name": "text", "count": "number", "ram_bytes": "number", "cpus": "number", "gpu_count": "number", "arch": "text",
		})
		arch := runtime.GOARCH
		if arch == "amd64" {
			arch = "x86_64"
		}
		if len(got) != 1 || got[0]["name"] != Group || got[0]["cpus"] != float64(GroupCPUs) || got[0]["ram_bytes"] != float64(GroupRAMBytes) || got[0]["arch"] != arch {
			a.t.Errorf("GET /hostgroup = %v, want %s with %d CPUs and %d bytes", got, Group, GroupCPUs, GroupRAMBytes)
		}
	})
	a.run("lists without VMs are empty arrays", func(a *api) {
		for _, path := range []string{"/nodes", "/hostgroup/sbox/nodes", "/nodes/stats", "/secrets", "/proxy/v1/clients", "/proxy/v1/secrets"} {
			if got := strings.TrimSpace(string(a.ok(200, "GET", path, "").body)); got != "[]" {
				a.t.Errorf("GET %s = %s, want []", path, got)
			}
		}
	})
	a.run("paths that aren't clean lead nowhere", func(a *api) {
		for _, path := range []string{"/", "/nope", "//nodes", "/./nodes", "/vm/../secrets", "/vm/x/../../secrets", "/nodes//stats"} {
			a.refused(404, "no such path", "GET", path, "")
		}
	})
	a.run("a query that can't be read", func(a *api) {
		a.refused(400, "query", "GET", "/nodes?tag=%zz", "")
		a.refused(400, `"tag" is there 2 times`, "GET", "/nodes?tag=a&tag=b", "")
	})
	a.run("metrics are Prometheus text", func(a *api) {
		a.createVM("{}")
		got := a.ok(200, "GET", "/metrics", "").is(typeText)
		values := parseMetrics(a, string(got.body))
		for name, want := range map[string]string{
			`slicer_vms{hostgroup="sbox",status="Running"}`: "1",
			`slicer_vms{hostgroup="sbox",status="Paused"}`:  "0",
			`slicer_vms_booted_total{hostgroup="sbox"}`:     "1",
		} {
			if values[name] != want {
				a.t.Errorf("metric %s = %q, want %s", name, values[name], want)
			}
		}
	})
}

// testVMs tests the making, listing and deleting of VMs.
func testVMs(a *api) {
	const nodes = "/hostgroup/" + Group + "/nodes"
	a.run("create answers 201 with the VM, which is then listed", func(a *api) {
		made := a.ok(201, "POST", nodes, `{"cpus":1,"ram_bytes":536870912,"tags":["b","a"]}`).object(createdFields)
		for _, path := range []string{"/nodes", nodes, "/nodes?tag=a", "/nodes?tag_prefix=b", nodes + "?tag=b"} {
			list := a.ok(200, "GET", path, "").list(nodeFields)
			if len(list) != 1 {
				a.t.Fatalf("GET %s = %v, want the one VM", path, list)
			}
			got := list[0]
			for _, field := range []string{"hostname", "hostgroup", "ip", "created_at", "arch"} {
				if got[field] != made[field] {
					a.t.Errorf("GET %s: %s = %v, want %v as create said", path, field, got[field], made[field])
				}
			}
			if got["cpus"] != 1.0 || got["ram_bytes"] != 536870912.0 || got["status"] != "Running" || got["persistent"] != false {
				a.t.Errorf("GET %s = %v, want the asked size, Running and ephemeral", path, got)
			}
		}
		for _, path := range []string{"/nodes?tag=c", "/nodes?tag_prefix=ab"} {
			if list := a.ok(200, "GET", path, "").list(nodeFields); len(list) != 0 {
				a.t.Errorf("GET %s = %v, want none", path, list)
			}
		}
	})
	a.run("an empty body is a VM of the group's size", func(a *api) {
		made := a.ok(201, "POST", nodes, "").object(createdFields)
		list := a.ok(200, "GET", "/nodes", "").list(nodeFields)
		got := list[len(list)-1]
		if got["hostname"] != made["hostname"] || got["cpus"] != float64(GroupCPUs) || got["ram_bytes"] != float64(GroupRAMBytes) {
			a.t.Errorf("newest VM = %v, want %v with the group's size", got, made["hostname"])
		}
	})
	a.run("delete answers with the disk, and the VM is gone", func(a *api) {
		vm := a.createVM("{}")
		got := a.ok(200, "DELETE", nodes+"/"+vm, "").object(deletedFields)
		if got["disk_removed"] != "true" || got["error"] != "" {
			a.t.Errorf("DELETE = %v, want the disk removed and no error", got)
		}
		a.refused(404, vm, "DELETE", nodes+"/"+vm, "")
		a.refused(404, vm, "GET", "/vm/"+vm, "")
		if next := a.createVM("{}"); next == vm {
			a.t.Errorf("the name %s was given twice", vm)
		}
	})
	a.run("refused creates", func(a *api) { refusedCreates(a, nodes) })
	a.run("tag filters that are refused", func(a *api) {
		for _, path := range []string{"/nodes", nodes} {
			a.refused(400, "together", "GET", path+"?tag=a&tag_prefix=b", "")
			a.refused(400, "empty", "GET", path+"?tag=", "")
			a.refused(400, "empty", "GET", path+"?tag_prefix=", "")
		}
	})
	a.run("userdata runs once as root, before wait=userdata answers", func(a *api) {
		made := a.ok(201, "POST", nodes+"?wait=userdata&timeout=30s", `{"userdata":"#!/bin/sh\necho printed by userdata\ncat /run/slicer/secrets/none"}`).object(createdFields)
		vm := "/vm/" + made["hostname"].(string)
		health := a.ok(200, "GET", vm+"/health", "").object(healthFields)
		if health["userdata_ran"] != true || health["userdata_exit_code"] != 1.0 || health["ip"] != made["ip"] || health["hostname"] != made["hostname"] {
			a.t.Errorf("health = %v, want userdata that ran and ended with 1", health)
		}
		logs := a.ok(200, "GET", vm+"/logs?lines=0", "").object(logsFields)
		content := logs["content"].(string)
		if !strings.Contains(content, "printed by userdata\n") || !strings.Contains(content, "cat: ") {
			a.t.Errorf("logs = %q, want both streams of the userdata", content)
		}
		if logs["lines"] != float64(strings.Count(content, "\n")) {
			a.t.Errorf("logs say %v lines of %q", logs["lines"], content)
		}
	})
	a.run("health without userdata has no exit code", func(a *api) {
		vm := "/vm/" + a.createVM("{}")
		health := a.ok(200, "GET", vm+"/health", "").object(healthFields)
		if _, ok := health["userdata_exit_code"]; ok || health["userdata_ran"] != true {
			a.t.Errorf("health = %v, want nothing left to run and no exit code", health)
		}
		if got := a.ok(200, "HEAD", vm+"/health", ""); len(got.body) != 0 {
			a.t.Errorf("HEAD health has a body: %q", got.body)
		}
	})
	a.run("logs are the last 20 lines unless asked", func(a *api) { logLines(a, nodes) })
	a.run("a VM that isn't ready in time is removed", func(a *api) {
		before := len(a.ok(200, "GET", "/nodes", "").list(nodeFields))
		a.refused(408, "not ready within 300ms and has been removed", "POST", nodes+"?wait=userdata&timeout=300ms",
			`{"tags":["name=late"],"userdata":"#!/bin/sh\nsleep 1000"}`)
		if after := a.ok(200, "GET", "/nodes", "").list(nodeFields); len(after) != before {
			a.t.Errorf("%d VMs after the time-out, want %d", len(after), before)
		}
		a.createVM(`{"tags":["name=late"]}`) // the name is free again
	})
	a.run("stats", testStats)
}

func logLines(a *api, nodes string) {
	script := "#!/bin/sh\n" + strings.Repeat("echo a line\n", 50)
	made := a.ok(201, "POST", nodes+"?wait=userdata", `{"userdata":`+quote(script)+`}`).object(createdFields)
	vm := "/vm/" + made["hostname"].(string)
	for query, want := range map[string]float64{"": 20, "?lines=3": 3} {
		got := a.ok(200, "GET", vm+"/logs"+query, "").object(logsFields)
		if got["lines"] != want || float64(strings.Count(got["content"].(string), "\n")) != want {
			a.t.Errorf("GET logs%s = %v lines, want %v", query, got["lines"], want)
		}
	}
	if got := a.ok(200, "GET", vm+"/logs?lines=0", "").object(logsFields); strings.Count(got["content"].(string), "a line\n") != 50 {
		a.t.Errorf("GET logs?lines=0 = %v, want all 50 lines", got)
	}
	for _, lines := range []string{"-1", "all", "1.5"} {
		a.refused(400, "lines", "GET", vm+"/logs?lines="+lines, "")
	}
}

func refusedCreates(a *api, nodes string) {
	a.createVM(`{"tags":["name=taken"]}`)
	before := len(a.ok(200, "GET", "/nodes", "").list(nodeFields))
	for _, tt := range []struct {
		name, query, body string
		status            int
		says              string
	}{
		{"more CPUs than the group has", "", `{"cpus":3}`, 400, "cpus"},
		{"more memory than the group has", "", `{"ram_bytes":1073741825}`, 400, "ram_bytes"},
		{"more GPUs than the group has", "", `{"gpu_count":1}`, 400, "gpu_count"},
		{"a negative size", "", `{"cpus":-1}`, 400, "negative"},
		{"a size that is no number", "", `{"ram_bytes":"1GiB"}`, 400, "ram_bytes"},
		{"an unknown secret", "", `{"secrets":["nothing"]}`, 400, `"nothing"`},
		{"an empty tag", "", `{"tags":[""]}`, 400, "tag"},
		{"a tag twice", "", `{"tags":["a","a"]}`, 400, "twice"},
		{"two names", "", `{"tags":["name=a","name=b"]}`, 400, "name"},
		{"a name that is taken", "", `{"tags":["name=taken"]}`, 409, "taken"},
		{"a hostname of one's own", "", `{"hostname":"mine"}`, 501, "hostname"},
		{"PCI devices", "", `{"pci_devices":["0000:01:00.0"]}`, 501, "pci_devices"},
		{"another image", "", `{"disk_image":"nobody/has-this:image"}`, 501, "disk_image"},
		{"a wait for something else", "?wait=boot", "{}", 400, "wait"},
		{"a time-out without a wait", "?timeout=3s", "{}", 400, "wait"},
		{"a time-out without a unit", "?wait=agent&timeout=3", "{}", 400, "timeout"},
		{"a time-out that is over", "?wait=agent&timeout=-1s", "{}", 400, "timeout"},
		{"a time-out without an end", "?wait=agent&timeout=1000h", "{}", 400, "timeout"},
	} {
		a.run(tt.name, func(a *api) { a.refused(tt.status, tt.says, "POST", nodes+tt.query, tt.body) })
	}
	if after := a.ok(200, "GET", "/nodes", "").list(nodeFields); len(after) != before {
		a.t.Errorf("%d VMs after refused creates, want %d", len(after), before)
	}
}

var snapshotFields = fields{
	"hostname": "text", "arch": "text", "timestamp": "time", "uptime": "text", "totalCpus": "number",
	"totalMemory": "number", "memoryUsed": "number", "memoryAvailable": "number", "memoryUsedPercent": "number",
	"loadAvg1": "number", "loadAvg5": "number", "loadAvg15": "number", "diskReadTotal": "number",
	"diskWriteTotal": "number", "networkReadTotal": "number", "networkWriteTotal": "number",
	"diskIOInflight": "number", "openConnections": "number", "openFiles": "number", "entropy": "number",
	"diskSpaceTotal": "number", "diskSpaceUsed": "number", "diskSpaceFree": "number", "diskSpaceUsedPercent": "number",
}

func testStats(a *api) {
	vm := a.createVM(`{"cpus":1,"ram_bytes":268435456}`)
	snapshot := func(stats map[string]any) map[string]any {
		got, ok := stats["snapshot"].(map[string]any)
		if !ok || stats["error"] != "" {
			a.t.Fatalf("stats = %v, want a snapshot and no error", stats)
		}
		for name := range snapshotFields {
			if _, ok := got[name]; !ok {
				a.t.Errorf("the snapshot has no %s", name)
			}
		}
		if got["totalCpus"] != 1.0 || got["totalMemory"] != 268435456.0 || got["hostname"] != vm {
			a.t.Errorf("snapshot = %v, want that of %s and its size", got, vm)
		}
		return got
	}
	one := a.ok(200, "GET", "/node/"+vm+"/stats", "").object(statsFields)
	snapshot(one)
	all := a.ok(200, "GET", "/nodes/stats", "").list(statsFields)
	at := slices.IndexFunc(all, func(s map[string]any) bool { return s["hostname"] == vm })
	if at < 0 {
		a.t.Fatalf("GET /nodes/stats = %v, want %s in it", all, vm)
	}
	snapshot(all[at])

	a.ok(http.StatusOK, "POST", "/vm/"+vm+"/pause", "")
	paused := a.ok(200, "GET", "/node/"+vm+"/stats", "").object(statsFields)
	if paused["snapshot"] != nil || !strings.Contains(paused["error"].(string), "paused") {
		a.t.Errorf("stats of a paused VM = %v, want no snapshot and the reason", paused)
	}
	a.ok(200, "POST", "/vm/"+vm+"/resume", "")
	a.run("are of the VM's processes", func(a *api) {
		a.needs(Measures)
		got := snapshot(a.ok(200, "GET", "/node/"+vm+"/stats", "").object(statsFields))
		for _, name := range []string{"memoryUsed", "diskSpaceTotal", "openFiles"} {
			if got[name].(float64) <= 0 {
				a.t.Errorf("snapshot: %s = %v, want more than 0", name, got[name])
			}
		}
	})
}

// parseMetrics reads Prometheus text: the values by name and labels.
func parseMetrics(a *api, text string) map[string]string {
	a.t.Helper()
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if help := strings.HasPrefix(line, "# HELP ") || strings.HasPrefix(line, "# TYPE "); help || line == "" {
			continue
		}
		at := strings.LastIndex(line, " ")
		if at < 0 || strings.HasPrefix(line, "#") {
			a.t.Errorf("metrics line %q has no value", line)
			continue
		}
		values[line[:at]] = line[at+1:]
	}
	return values
}
