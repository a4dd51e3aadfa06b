package daemontest

import (
	"slices"
	"strings"
)

// testPersistent tests VMs whose disk stays when they stop.
func testPersistent(a *api) {
	a.run("a stopped one keeps what it is, and refuses its agent's calls", func(a *api) {
		vm := a.createVM(`{"persistent":true,"tags":["kept"],"userdata":"#!/bin/sh\necho only once"}`)
		if got := a.ok(200, "GET", "/vm/"+vm, "").object(describe); got["persistent"] != true || got["storage"] != "persistent" || got["commit_id"] != "" {
			a.t.Errorf("describe = %v, want a persistent VM without a commit", got)
		}
		a.ok(200, "POST", "/vm/"+vm+"/shutdown", "").is(typeText)
		stoppedVM(a, vm)
		a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").object(deletedFields)
		a.refused(404, vm, "GET", "/vm/"+vm, "")
		a.refused(404, vm, "POST", "/vm/"+vm+"/relaunch", "")
	})
	a.run("relaunch brings it back with its disk", relaunched)
	a.run("a reboot stops it too", func(a *api) {
		vm := a.createVM(`{"persistent":true}`)
		a.ok(200, "POST", "/vm/"+vm+"/shutdown?action=reboot", "")
		if got := a.status(vm); got != "Stopped" {
			a.t.Errorf("status after a reboot = %s, want Stopped", got)
		}
		a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
	})
	a.run("a running one can be deleted, and its disk goes", func(a *api) {
		vm := a.createVM(`{"persistent":true}`)
		got := a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").object(deletedFields)
		if got["disk_removed"] != "true" {
			a.t.Errorf("DELETE = %v, want the disk removed", got)
		}
	})
	a.run("comes back with the next daemon", afterRestart)
}

// stoppedVM looks at a stopped VM from every side.
func stoppedVM(a *api, vm string) {
	path := "/vm/" + vm
	for _, r := range routes() {
		if r.ofAgent() {
			a.refused(409, "stopped; relaunch it first", r.method, r.fill("vm", vm), "")
		}
	}
	for _, call := range []string{"pause", "resume", "suspend", "restore", "shutdown?action=reboot"} {
		a.refused(409, "stopped", "POST", path+"/"+call, "")
	}
	a.ok(200, "POST", path+"/shutdown", "")
	got := a.ok(200, "GET", path, "").object(describe)
	if got["status"] != "Stopped" || got["persistent"] != true {
		a.t.Errorf("describe = %v, want it Stopped", got)
	}
	a.ok(200, "GET", path+"/logs", "").object(logsFields)
	a.ok(200, "PATCH", path+"/tags", `{"add":["stopped"]}`).object(tagsFields)
	if list := a.ok(200, "GET", "/nodes?tag=stopped", "").list(nodeFields); len(list) != 1 || list[0]["status"] != "Stopped" {
		a.t.Errorf("nodes = %v, want the stopped one", list)
	}
	stats := a.ok(200, "GET", "/node/"+vm+"/stats", "").object(statsFields)
	if stats["snapshot"] != nil || stats["error"] == "" {
		a.t.Errorf("stats of a stopped VM = %v, want none and the reason", stats)
	}
}

func relaunched(a *api) {
	a.ok(201, "POST", "/secrets", `{"name":"before","data":"`+base64Of("1")+`"}`)
	const body = `{"persistent":true,"cpus":1,"tags":["a","name=again"],"userdata":"#!/bin/sh\necho only once"}`
	made := a.ok(201, "POST", "/hostgroup/sbox/nodes?wait=userdata", body).object(createdFields)
	vm := "/vm/" + made["hostname"].(string)
	a.ok(200, "POST", vm+"/cp"+params("path", "/home/ubuntu/kept", "mode", "binary", "uid", "0", "gid", "1000", "permissions", "0640"), "what was written")
	a.ok(200, "DELETE", vm+"/fs/remove?path=/etc/hostname", "")
	a.refused(409, "Running", "POST", vm+"/relaunch", "")
	a.ok(200, "POST", vm+"/pause", "")
	a.refused(409, "Paused", "POST", vm+"/relaunch", "")
	a.ok(200, "POST", vm+"/resume", "")

	a.ok(200, "POST", vm+"/shutdown", "")
	a.ok(200, "DELETE", "/secrets/before", "")
	a.ok(201, "POST", "/secrets", `{"name":"after","data":"`+base64Of("2")+`"}`)
	back := a.ok(200, "POST", vm+"/relaunch", "").object(createdFields)
	for name, want := range made {
		if back[name] != want {
			a.t.Errorf("relaunch: %s = %v, want %v as at first", name, back[name], want)
		}
	}
	if got := a.read(vm, "/home/ubuntu/kept"); got != "what was written" {
		a.t.Errorf("the file = %q after the relaunch", got)
	}
	info := a.ok(200, "GET", vm+"/fs/stat?path=/home/ubuntu/kept", "").object(fileFields)
	if info["mode"] != "0640" {
		a.t.Errorf("the file's mode = %v after the relaunch, want 0640", info["mode"])
	}
	list := a.ok(200, "GET", "/nodes?tag=name%3Dagain", "").list(nodeFields)
	if len(list) != 1 || list[0]["status"] != "Running" || list[0]["cpus"] != 1.0 {
		a.t.Errorf("nodes = %v, want the relaunched one with its name and size", list)
	}
	logs := a.ok(200, "GET", vm+"/logs?lines=0", "").object(logsFields)["content"].(string)
	if strings.Count(logs, "only once\n") != 1 {
		a.t.Errorf("logs = %q, want one run of the userdata", logs)
	}
	health := a.ok(200, "GET", vm+"/health", "").object(healthFields)
	if health["userdata_ran"] != true || health["userdata_exit_code"] != 0.0 {
		a.t.Errorf("health = %v, want the userdata's end as it was", health)
	}
	names := make([]string, 0, 1)
	for _, f := range a.ok(200, "GET", vm+"/fs/readdir?path=/run/slicer/secrets", "").list(fileFields) {
		names = append(names, f["name"].(string))
	}
	if !slices.Equal(names, []string{"after"}) {
		a.t.Errorf("secrets after the relaunch = %q, want those that there are now", names)
	}
	a.refused(409, "Running", "POST", vm+"/relaunch", "")
	a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+made["hostname"].(string), "")
}

// afterRestart tests what the next daemon has of this one.
func afterRestart(a *api) {
	if a.srv.Restart == nil {
		a.t.Fatal("the server has no Restart")
	}
	running := a.createVM(`{"persistent":true,"tags":["name=ran"]}`)
	stopped := a.createVM(`{"persistent":true,"tags":["name=stood"]}`)
	paused := a.createVM(`{"persistent":true}`)
	ephemeral := a.createVM("{}")
	for _, vm := range []string{running, stopped, ephemeral} {
		a.ok(200, "POST", "/vm/"+vm+"/cp?path=/home/ubuntu/kept&mode=binary", "of "+vm)
	}
	a.ok(200, "POST", "/vm/"+stopped+"/shutdown", "")
	commit := a.ok(200, "POST", "/vm/"+stopped+"/commit", `{"cache_key":"kept"}`).object(commitFields)
	a.ok(200, "POST", "/vm/"+paused+"/pause", "")
	before := a.ok(200, "GET", "/vm/"+running, "").object(describe)

	a.srv.Restart()
	if got := a.status(stopped); got != "Stopped" {
		a.t.Errorf("the VM that was stopped is %s, want Stopped", got)
	}
	for _, vm := range []string{running, paused} {
		a.eventually(vm+" to run again", func() bool { return a.status(vm) == "Running" })
	}
	a.refused(404, ephemeral, "GET", "/vm/"+ephemeral, "")
	after := a.ok(200, "GET", "/vm/"+running, "").object(describe)
	for _, name := range []string{"hostname", "hostgroup", "ip", "created_at", "cpus", "ram_bytes"} {
		if after[name] != before[name] {
			a.t.Errorf("%s = %v after the restart, want %v", name, after[name], before[name])
		}
	}
	if list := a.ok(200, "GET", "/nodes?tag=name%3Dran", "").list(nodeFields); len(list) != 1 || list[0]["hostname"] != running {
		a.t.Errorf("nodes with the name = %v, want %s", list, running)
	}
	if got := a.read("/vm/"+running, "/home/ubuntu/kept"); got != "of "+running {
		a.t.Errorf("the file after the restart = %q", got)
	}
	a.ok(200, "POST", "/vm/"+stopped+"/relaunch", "")
	if got := a.read("/vm/"+stopped, "/home/ubuntu/kept"); got != "of "+stopped {
		a.t.Errorf("the file of the stopped VM after the restart = %q", got)
	}
	if next := a.createVM("{}"); next == running || next == stopped || next == paused {
		a.t.Errorf("a new VM got the kept name %s", next)
	}
	list := a.ok(200, "GET", "/vm/commits?cache_key=kept", "").list(commitFields)
	if len(list) != 1 || list[0]["commit_id"] != commit["commit_id"] || list[0]["hostname"] != stopped {
		a.t.Errorf("commits after the restart = %v, want %v", list, commit)
	}
	for _, vm := range []string{running, stopped, paused} {
		a.ok(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
	}
	a.ok(200, "DELETE", "/vm/commits/"+commit["commit_id"].(string), "")
}
