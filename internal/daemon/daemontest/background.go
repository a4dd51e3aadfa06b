package daemontest

import (
	"fmt"
	"strings"
)

var (
	startedFields = fields{"exec_id": "text", "pid": "number", "started_at": "time", "ring_bytes": "number"}
	infoFields    = fields{
		"exec_id": "text", "pid": "number", "command": "text", "args": "texts", "cwd": "text", "uid": "number",
		"started_at": "time", "running": "bool", "exit_code": "number|null", "signal?": "text", "ended_at": "time|null",
		"bytes_written": "number", "bytes_dropped": "number", "next_id": "number", "ring_bytes": "number",
	}
	waitFields = fields{
		"exec_id": "text", "running": "bool", "exit_code": "number|null", "signal?": "text", "ended_at": "time|null", "timed_out": "bool",
	}
	killFields   = fields{"exec_id": "text", "pid": "number", "running": "bool", "signal_sent": "text"}
	reapedFields = fields{"exec_id": "text", "reaped": "bool"}
)

const ringBudget = 256 << 20

// background starts a command in the background and returns the path of its
// routes.
func (a *api) background(vm string, argv []string, query ...string) string {
	a.t.Helper()
	got := a.ok(201, "POST", vm+"/exec"+execQuery(argv, append(query, "background", "true")...), "").object(startedFields)
	id := got["exec_id"].(string)
	if !strings.HasPrefix(id, "ex_") {
		a.t.Errorf("exec_id = %q, want one that begins ex_", id)
	}
	return vm + "/exec/" + id
}

// waitExit waits until a background exec has ended.
func (a *api) waitExit(exec string) map[string]any {
	a.t.Helper()
	return a.ok(200, "GET", exec+"/wait-exit?timeout=50", "").object(waitFields)
}

// touch makes an empty file in a VM.
func (a *api) touch(vm, name string) {
	a.t.Helper()
	a.ok(200, "POST", vm+"/cp"+params("path", name, "mode", "binary"), "")
}

// testBackground tests background execs.
func testBackground(a *api) {
	vm := a.furnishedVM()
	a.run("goes on without its client, and is told of", func(a *api) { backgroundStory(a, vm) })
	a.run("logs", func(a *api) { backgroundLogs(a, vm) })
	a.run("output over the ring is a gap", func(a *api) { ringGap(a, vm) })
	a.run("kill", func(a *api) { backgroundKill(a, vm) })
	a.run("is gone once it was deleted", func(a *api) {
		exec := a.background(vm, []string{"true"})
		a.waitExit(exec)
		if got := a.ok(200, "DELETE", exec, "").object(reapedFields); got["reaped"] != true {
			a.t.Errorf("DELETE = %v, want reaped", got)
		}
		for _, r := range routes() {
			if r.has("exec") {
				id := exec[strings.LastIndex(exec, "/")+1:]
				a.run(r.String(), func(a *api) {
					a.refused(410, "deleted", r.method, r.fill("vm", strings.TrimPrefix(vm, "/vm/"), "exec", id), "")
				})
			}
		}
		for _, info := range a.ok(200, "GET", vm+"/exec", "").list(infoFields) {
			if strings.HasSuffix(exec, info["exec_id"].(string)) {
				a.t.Errorf("the deleted exec is still listed: %v", info)
			}
		}
	})
	a.run("a running one isn't deleted", func(a *api) {
		exec := a.background(vm, []string{"sleep", "1000"})
		a.refused(409, "kill it first", "DELETE", exec, "")
		a.ok(200, "POST", exec+"/kill", `{"signal":"KILL"}`)
		a.waitExit(exec)
		a.ok(200, "DELETE", exec, "")
	})
	a.run("the rings of a VM share a budget", func(a *api) {
		vm := a.furnishedVM()
		a.refused(503, "ring", "POST", vm+"/exec"+params("cmd", "true", "background", "true", "ring_bytes", fmt.Sprint(ringBudget+1)), "")
		exec := a.background(vm, []string{"true"}, "ring_bytes", fmt.Sprint(ringBudget))
		a.refused(503, "ring", "POST", vm+"/exec"+params("cmd", "true", "background", "true", "ring_bytes", "1"), "")
		a.waitExit(exec)
		a.ok(200, "DELETE", exec, "")
		a.background(vm, []string{"true"})
	})
	a.run("what can't start is refused", func(a *api) {
		a.refused(400, "could not be started", "POST", vm+"/exec"+params("cmd", "/no/such/program", "background", "true"), "")
	})
	a.run("is a session of its own", func(a *api) {
		a.needs(Signals)
		// The fields of stat are: pid, name, state, parent, group, session.
		exec := a.background(vm, []string{"cut", "-d", " ", "-f", "1,5,6", "/proc/self/stat"})
		a.waitExit(exec)
		pid := fmt.Sprint(a.ok(200, "GET", exec, "").object(infoFields)["pid"])
		stdout, _, _ := a.frames("GET", exec+"/logs", logFields).all()
		if want := pid + " " + pid + " " + pid + "\n"; stdout != want {
			a.t.Errorf("pid, group and session = %q, want %q", stdout, want)
		}
	})
	a.run("a refused wait or log", func(a *api) {
		exec := a.background(vm, []string{"true"})
		a.waitExit(exec)
		a.refused(400, "timeout", "GET", exec+"/wait-exit?timeout=1s", "")
		a.refused(400, "timeout", "GET", exec+"/wait-exit?timeout=-1", "")
		a.refused(400, "from_id", "GET", exec+"/logs?from_id=x", "")
		a.refused(400, "from_id", "GET", exec+"/logs?from_id=1000", "")
		a.refused(400, "follow", "GET", exec+"/logs?follow=maybe", "")
	})
}

func backgroundStory(a *api, vm string) {
	exec := a.background(vm, []string{"until", "/tmp/story", "done", "4"}, "cwd", "/tmp", "uid", "0")
	id := exec[strings.LastIndex(exec, "/")+1:]
	info := a.ok(200, "GET", exec, "").object(infoFields)
	if info["running"] != true || info["exit_code"] != nil || info["ended_at"] != nil || info["command"] != "until" ||
		info["cwd"] != "/tmp" || info["uid"] != 0.0 || info["ring_bytes"] != float64(1<<20) || info["exec_id"] != id {
		a.t.Errorf("info = %v, want the running command as it was asked for", info)
	}
	if wait := a.ok(200, "GET", exec+"/wait-exit?timeout=0", "").object(waitFields); wait["timed_out"] != true || wait["running"] != true || wait["exit_code"] != nil {
		a.t.Errorf("wait-exit of a running one = %v, want that it timed out", wait)
	}
	a.touch(vm, "/tmp/story")
	if wait := a.waitExit(exec); wait["timed_out"] != false || wait["running"] != false || wait["exit_code"] != 4.0 || wait["ended_at"] == nil {
		a.t.Errorf("wait-exit = %v, want the code 4", wait)
	}
	list := a.ok(200, "GET", vm+"/exec", "").list(infoFields)
	if len(list) != 1 || list[0]["exec_id"] != id || list[0]["running"] != false || list[0]["exit_code"] != 4.0 ||
		list[0]["bytes_written"] != float64(len("started\ndone\n")) || list[0]["bytes_dropped"] != 0.0 {
		a.t.Errorf("list = %v, want the one that has ended", list)
	}
}

func backgroundLogs(a *api, vm string) {
	exec := a.background(vm, []string{"until", "/tmp/logs", "done", "0"})
	follow := a.frames("GET", exec+"/logs?follow=true", logFields)
	first := follow.next()
	if first["type"] != "started" || first["id"] != 1.0 {
		a.t.Errorf("first frame = %v, want started with the id 1", first)
	}
	follow.want("started\n")
	// Without follow the logs end with what there is.
	s := a.frames("GET", exec+"/logs", logFields)
	s.want("started\n")
	if f := s.next(); f != nil {
		a.t.Errorf("logs without follow go on with %v", f)
	}
	a.touch(vm, "/tmp/logs")
	stdout, _, exit := follow.all()
	if stdout != "done\n" || exit["exit_code"] != 0.0 {
		a.t.Errorf("the rest of the followed logs = %q, %v, want done and 0", stdout, exit)
	}
	var ids []float64
	s = a.frames("GET", exec+"/logs", logFields)
	for f := s.next(); f != nil; f = s.next() {
		ids = append(ids, f["id"].(float64))
	}
	for i, id := range ids {
		if id != float64(i+1) {
			a.t.Fatalf("ids = %v, want 1, 2, 3, …", ids)
		}
	}
	last := len(ids)
	s = a.frames("GET", exec+fmt.Sprintf("/logs?follow=true&from_id=%d", last), logFields)
	if f := s.next(); f == nil || f["id"] != float64(last) || f["type"] != "exit" || s.next() != nil {
		a.t.Errorf("logs from the last id = %v, want the exit frame alone", f)
	}
	info := a.ok(200, "GET", exec, "").object(infoFields)
	if info["next_id"] != float64(last+1) {
		a.t.Errorf("next_id = %v, want %d", info["next_id"], last+1)
	}
	a.run("in base64", func(a *api) {
		exec := a.background(vm, []string{"echo", "hello"}, "stdio", "base64")
		a.waitExit(exec)
		s := a.frames("GET", exec+"/logs", logFields)
		s.next()
		if f := s.next(); f == nil || f["encoding"] != "base64" || f["stdout"] != "aGVsbG8K" {
			a.t.Errorf("frame = %v, want hello in base64", f)
		}
	})
}

func ringGap(a *api, vm string) {
	const size, ring = 100_000, 8192
	a.ok(200, "POST", vm+"/cp?path=/tmp/big&mode=binary", strings.Repeat("0123456789\n", size/11+1)[:size])
	exec := a.background(vm, []string{"cat", "/tmp/big"}, "ring_bytes", fmt.Sprint(ring))
	a.waitExit(exec)
	s := a.frames("GET", exec+"/logs?from_id=1", logFields)
	gap := s.next()
	if gap["type"] != "gap" {
		a.t.Fatalf("first frame = %v, want a gap", gap)
	}
	next := s.next()
	if next == nil || next["id"] != gap["id"].(float64)+1 {
		a.t.Errorf("frame after the gap %v = %v, want the next id", gap, next)
	}
	_, kept := payload(a.t, next)
	rest, _, _ := s.all()
	kept += rest
	if got := gap["dropped_bytes"].(float64) + float64(len(kept)); got != size || len(kept) > ring || kept == "" {
		a.t.Errorf("%v bytes dropped and %d kept, want %d together and at most %d kept", gap["dropped_bytes"], len(kept), size, ring)
	}
	if gap["dropped_frames"].(float64) < 1 || gap["message"] == "" {
		a.t.Errorf("gap = %v, want a count of frames and a message", gap)
	}
	info := a.ok(200, "GET", exec, "").object(infoFields)
	if info["bytes_written"] != float64(size) || info["bytes_dropped"] != gap["dropped_bytes"] || info["ring_bytes"] != float64(ring) {
		a.t.Errorf("info = %v, want %d written and %v dropped", info, size, gap["dropped_bytes"])
	}
}

func backgroundKill(a *api, vm string) {
	for body, want := range map[string]struct {
		signal string
		code   float64
	}{
		``:                                {"TERM", 143},
		`{}`:                              {"TERM", 143},
		`{"signal":"KILL"}`:               {"KILL", 137},
		`{"signal":"INT","grace_ms":100}`: {"INT", 130},
		`{"signal":"HUP"}`:                {"HUP", 129},
		`{"signal":"USR2"}`:               {"USR2", 140},
	} {
		a.run("with "+body, func(a *api) {
			exec := a.background(vm, []string{"sleep", "1000"})
			got := a.ok(200, "POST", exec+"/kill", body).object(killFields)
			if got["signal_sent"] != want.signal {
				a.t.Errorf("kill %s = %v, want that %s was sent", body, got, want.signal)
			}
			ended := a.waitExit(exec)
			if ended["signal"] != want.signal || ended["exit_code"] != want.code {
				a.t.Errorf("wait-exit = %v, want %s and %v", ended, want.signal, want.code)
			}
			again := a.ok(200, "POST", exec+"/kill", body).object(killFields)
			if again["running"] != false || again["signal_sent"] != "" {
				a.t.Errorf("kill of an ended one = %v, want that nothing was sent", again)
			}
		})
	}
	a.run("reaches the descendants", func(a *api) {
		exec := a.background(vm, []string{"family"})
		s := a.frames("GET", exec+"/logs?follow=true", logFields)
		s.want("born\n")
		a.ok(200, "POST", exec+"/kill", "")
		a.waitExit(exec)
		a.eventually("the end of the family", func() bool { return a.output(vm, "running") == "0\n" })
	})
	a.run("TERM turns into KILL after the grace", func(a *api) {
		a.needs(Signals)
		exec := a.background(vm, []string{"sh", "-c", `trap "echo no" TERM; echo deaf; while :; do sleep 0.05; done`})
		s := a.frames("GET", exec+"/logs?follow=true", logFields)
		s.want("deaf\n")
		a.ok(200, "POST", exec+"/kill", `{"signal":"TERM","grace_ms":300}`)
		if _, _, exit := s.all(); exit["signal"] != "KILL" || exit["exit_code"] != 137.0 {
			a.t.Errorf("exit = %v, want KILL after the grace", exit)
		}
	})
	a.run("refused kills", func(a *api) {
		exec := a.background(vm, []string{"sleep", "1000"})
		for body, says := range map[string]string{
			`{"signal":"STOP"}`: "signal", `{"signal":"SIGTERM"}`: "signal", `{"signal":9}`: "signal",
			`{"grace_ms":-1}`: "grace_ms", `{"grace_ms":1e9}`: "grace_ms",
		} {
			a.refused(400, says, "POST", exec+"/kill", body)
		}
		a.ok(200, "POST", exec+"/kill", `{"signal":"KILL"}`)
	})
}
