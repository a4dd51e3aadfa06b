package daemon_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// execInfo is what the API tells of a background exec.
type execInfo struct {
	ExecID       string   `json:"exec_id"`
	PID          int      `json:"pid"`
	Command      string   `json:"command"`
	Args         []string `json:"args"`
	Cwd          string   `json:"cwd"`
	UID          *uint32  `json:"uid"`
	StartedAt    string   `json:"started_at"`
	Running      bool     `json:"running"`
	ExitCode     *int     `json:"exit_code"`
	Signal       string   `json:"signal"`
	EndedAt      *string  `json:"ended_at"`
	BytesWritten int64    `json:"bytes_written"`
	BytesDropped int64    `json:"bytes_dropped"`
	NextID       uint64   `json:"next_id"`
	RingBytes    int64    `json:"ring_bytes"`
}

// background starts a background exec and returns the path of its calls.
func (a *api) background(vm string, params ...string) (path string) {
	a.t.Helper()
	var made struct {
		ExecID string `json:"exec_id"`
	}
	decode(a.t, a.want(http.StatusCreated, "POST", execPath(vm, append(params, "background", "true")...), "").body, &made)
	return "/vm/" + vm + "/exec/" + made.ExecID
}

func (a *api) info(path string) (info execInfo) {
	a.t.Helper()
	decode(a.t, a.want(200, "GET", path, "").body, &info)
	return info
}

func (a *api) logs(path, query string) []frame {
	a.t.Helper()
	return frames(a.t, a.want(200, "GET", path+"/logs"+query, "").body)
}

// finish waits until the exec has ended.
func (a *api) finish(path string) {
	a.t.Helper()
	if got := a.want(200, "GET", path+"/wait-exit", "").body; !strings.Contains(got, `"running":false`) {
		a.t.Fatalf("wait-exit = %s, want it ended", got)
	}
}

// brief is a frame as "id type payload".
func brief(list []frame) []string {
	var texts []string
	for _, f := range list {
		text := fmt.Sprintf("%d %s", f.ID, f.Type)
		if out := f.Stdout + f.Stderr; out != "" {
			text += fmt.Sprintf(" %q", out)
		}
		if f.ExitCode != nil {
			text += fmt.Sprint(" ", *f.ExitCode)
		}
		texts = append(texts, text)
	}
	return texts
}

func TestBackgroundExec(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"both": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, "one")
			fmt.Fprint(p.Stdout, "two")
			fmt.Fprint(p.Stderr, "err")
			return 3
		},
	}})
	vm := a.create(`{}`)
	var made map[string]any
	decode(t, a.want(201, "POST", execPath(vm, "cmd", "both", "args", "x", "cwd", "/tmp", "uid", "0", "background", "true", "ring_bytes", "4096"), "").body, &made)
	id, _ := made["exec_id"].(string)
	if !strings.HasPrefix(id, "ex_") || made["pid"] == 0.0 || made["started_at"] == "" || made["ring_bytes"] != 4096.0 || len(made) != 4 {
		t.Errorf("background exec = %v, want an id, pid, time and ring", made)
	}
	path := "/vm/" + vm + "/exec/" + id
	a.finish(path)

	zero, three := uint32(0), 3
	info := a.info(path)
	if info.StartedAt == "" || info.EndedAt == nil || info.PID == 0 {
		t.Errorf("info = %+v, want times and a pid", info)
	}
	info.StartedAt, info.EndedAt, info.PID = "", nil, 0
	want := execInfo{
		ExecID: id, Command: "both", Args: []string{"x"}, Cwd: "/tmp", UID: &zero, ExitCode: &three,
		BytesWritten: 9, NextID: 5, RingBytes: 4096,
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	var list []execInfo
	decode(t, a.want(200, "GET", "/vm/"+vm+"/exec", "").body, &list)
	if len(list) != 1 || list[0].ExecID != id {
		t.Errorf("list = %+v, want the exec, though it has ended", list)
	}

	all := []string{"1 started", `2 stdout "onetwo"`, `3 stderr "err"`, "4 exit 3"}
	for query, want := range map[string][]string{
		"": all, "?follow=true": all, "?from_id=0": all, "?from_id=1": all, "?from_id=3": all[2:],
		"?from_id=4&follow=true": all[3:], "?from_id=5": nil, "?from_id=5&follow=1": nil,
	} {
		if diff := cmp.Diff(want, brief(a.logs(path, query))); diff != "" {
			t.Errorf("logs%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestBackgroundExecOutlivesItsClientAndIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		words := make(chan string)
		a := newAPI(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{"say": func(_ context.Context, p *slicertest.Proc) int {
				for word := range words {
					fmt.Fprint(p.Stdout, word)
				}
				return 0
			}},
		})
		defer a.srv.Close()
		vm := a.create(`{}`)
		path := a.background(vm, "cmd", "say")
		words <- "before"
		synctest.Wait()
		if got := a.info(path); !got.Running || got.ExitCode != nil || got.EndedAt != nil {
			t.Errorf("info while it runs = %+v, want it running, without an end", got)
		}
		if diff := cmp.Diff([]string{"1 started", `2 stdout "before"`}, brief(a.logs(path, ""))); diff != "" {
			t.Errorf("logs while it runs (-want +got):\n%s", diff)
		}

		follow := func(query string) func() frame {
			resp, err := a.srv.HTTPClient().Do(a.request(t.Context(), "GET", path+"/logs"+query, nil))
			if err != nil {
				t.Fatalf("logs = %v", err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			lines := bufio.NewScanner(resp.Body)
			return func() (f frame) {
				if !lines.Scan() {
					t.Fatalf("the logs ended: %v", lines.Err())
				}
				if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
					t.Fatalf("frame %q: %v", lines.Text(), err)
				}
				return f
			}
		}
		first, second := follow("?follow=true&from_id=2"), follow("?follow=true&from_id=3")
		if got := first(); got.ID != 2 || got.Stdout != "before" {
			t.Errorf("first followed frame = %+v", got)
		}
		for i, word := range []string{"x", "y", "z"} {
			words <- word
			for name, next := range map[string]func() frame{"first": first, "second": second} {
				if got := next(); got.ID != uint64(3+i) || got.Stdout != word {
					t.Errorf("%s follower got %+v after %q, want id %d", name, got, word, 3+i)
				}
			}
		}
		close(words)
		for name, next := range map[string]func() frame{"first": first, "second": second} {
			if got := next(); got.ID != 6 || got.Type != "exit" || *got.ExitCode != 0 {
				t.Errorf("%s follower's last frame = %+v, want exit", name, got)
			}
		}
	})
}

func TestFollowingEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		path := a.background(vm, "cmd", "sleep", "args", "1e6")
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := a.srv.HTTPClient().Do(a.request(ctx, "GET", path+"/logs?follow=true", nil))
		if err != nil {
			t.Fatalf("logs = %v", err)
		}
		cancel()
		resp.Body.Close()
		synctest.Wait()
		if got := a.info(path); !got.Running {
			t.Errorf("info after the follower left = %+v, want it running", got)
		}

		begin := time.Now()
		resp, err = a.srv.HTTPClient().Do(a.request(t.Context(), "GET", path+"/logs?follow=true", nil))
		if err != nil {
			t.Fatalf("logs = %v", err)
		}
		defer resp.Body.Close()
		a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		text, _ := io.ReadAll(resp.Body) // how it ends depends on who is first
		if took := time.Since(begin); took > time.Second {
			t.Errorf("logs %q of the deleted VM ended after %s", text, took)
		}
		a.want(404, "GET", path, "")
	})
}

func TestKillBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{"hang": func(ctx context.Context, _ *slicertest.Proc) int {
				<-ctx.Done()
				return 0
			}},
		})
		defer a.srv.Close()
		vm := a.create(`{}`)
		for _, tt := range []struct {
			name, body, sent, signal string
			code                     int
		}{
			{"TERM unless asked", "", "TERM", "TERM", 143},
			{"an empty object", "{}", "TERM", "TERM", 143},
			{"TERM", `{"signal":"TERM","grace_ms":1}`, "TERM", "TERM", 143},
			{"KILL", `{"signal":"KILL"}`, "KILL", "KILL", 137},
			{"INT", `{"signal":"INT"}`, "INT", "INT", 130},
			{"USR2", `{"signal":"USR2"}`, "USR2", "USR2", 140},
		} {
			path := a.background(vm, "cmd", "hang")
			var got struct {
				ExecID     string `json:"exec_id"`
				SignalSent string `json:"signal_sent"`
			}
			decode(t, a.want(200, "POST", path+"/kill", tt.body).body, &got)
			if got.SignalSent != tt.sent || !strings.HasSuffix(path, got.ExecID) {
				t.Errorf("%s: kill = %+v, want %s sent", tt.name, got, tt.sent)
			}
			a.finish(path)
			if info := a.info(path); info.Signal != tt.signal || *info.ExitCode != tt.code {
				t.Errorf("%s: info = %+v, want %s and %d", tt.name, info, tt.signal, tt.code)
			}
			if got := a.want(200, "POST", path+"/kill", `{"signal":"KILL"}`).body; !strings.Contains(got, `"running":false,"signal_sent":""`) {
				t.Errorf("%s: second kill = %s, want nothing sent", tt.name, got)
			}
		}

		path := a.background(vm, "cmd", "hang")
		for _, tt := range []struct{ name, body, says string }{
			{"unknown signal", `{"signal":"STOP"}`, "signal"},
			{"signal with its prefix", `{"signal":"SIGTERM"}`, "signal"},
			{"negative grace", `{"grace_ms":-1}`, "grace_ms"},
			{"long grace", `{"grace_ms":600001}`, "grace_ms"},
			{"unknown field", `{"sig":"TERM"}`, "sig"},
			{"no JSON", `TERM`, "body"},
		} {
			if got := a.want(400, "POST", path+"/kill", tt.body).message(t); !strings.Contains(got, tt.says) {
				t.Errorf("%s: kill says %q, want %q in it", tt.name, got, tt.says)
			}
		}
	})
}

func TestTermTurnsIntoKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newStubborn(t)
		path := a.background("sbox-1", "cmd", "x")
		begin := time.Now()
		a.want(200, "POST", path+"/kill", `{"grace_ms":60000}`)
		time.Sleep(10 * time.Second)
		a.want(200, "POST", path+"/kill", `{"grace_ms":2000}`)  // sooner
		a.want(200, "POST", path+"/kill", `{"grace_ms":30000}`) // changes nothing
		a.finish(path)
		if took := time.Since(begin); took != 12*time.Second {
			t.Errorf("KILL came after %s, want 12s", took)
		}
		if diff := cmp.Diff([]string{"TERM", "TERM", "TERM", "KILL"}, g.signals()); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

func TestKillOfAPausedVMWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newStubborn(t)
		path := a.background("sbox-1", "cmd", "x")
		a.want(200, "POST", path+"/kill", `{"grace_ms":1000}`)
		a.want(200, "POST", "/vm/sbox-1/pause", "")
		for _, call := range []string{"GET ", "GET /logs", "POST /kill", "GET /wait-exit", "DELETE "} {
			method, rest, _ := strings.Cut(call, " ")
			a.want(409, method, path+rest, "")
		}
		a.want(409, "GET", "/vm/sbox-1/exec", "")
		a.want(409, "POST", execPath("sbox-1", "cmd", "x", "background", "true"), "")
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"TERM"}, g.signals()); diff != "" {
			t.Errorf("signals while paused (-want +got):\n%s", diff)
		}
		a.want(200, "POST", "/vm/sbox-1/resume", "")
		a.finish(path)
		if diff := cmp.Diff([]string{"TERM", "KILL"}, g.signals()); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

func TestWaitExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		path := a.background(vm, "cmd", "sleep", "args", "2000")
		for _, tt := range []struct {
			query string
			took  time.Duration
		}{{"?timeout=0", 0}, {"", 30 * time.Second}, {"?timeout=5", 5 * time.Second}, {"?timeout=86400", 600 * time.Second}} {
			begin := time.Now()
			got := a.want(200, "GET", path+"/wait-exit"+tt.query, "").body
			if took := time.Since(begin); took != tt.took || !strings.Contains(got, `"running":true,"exit_code":null,"ended_at":null,"timed_out":true`) {
				t.Errorf("wait-exit%s = %s after %s, want timed_out after %s", tt.query, got, took, tt.took)
			}
		}
		for range 3 {
			a.want(200, "GET", path+"/wait-exit?timeout=600", "")
		}
		if got := a.want(200, "GET", path+"/wait-exit", "").body; !strings.Contains(got, `"running":false,"exit_code":0,`) || !strings.Contains(got, `"timed_out":false`) {
			t.Errorf("wait-exit of an ended exec = %s", got)
		}
		for _, query := range []string{"?timeout=-1", "?timeout=30s", "?timeout=x"} {
			if got := a.want(400, "GET", path+"/wait-exit"+query, "").message(t); !strings.Contains(got, "timeout") {
				t.Errorf("wait-exit%s says %q", query, got)
			}
		}
	})
}

func TestReapBackground(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm, other := a.create(`{}`), a.create(`{}`)
	running := a.background(vm, "cmd", "sleep", "args", "1000")
	if got := a.want(409, "DELETE", running, "").message(t); !strings.Contains(got, "running") {
		t.Errorf("DELETE while it runs says %q", got)
	}
	ended := a.background(vm, "cmd", "true")
	a.finish(ended)
	id := ended[strings.LastIndex(ended, "/")+1:]
	var reaped map[string]any
	decode(t, a.want(200, "DELETE", ended, "").body, &reaped)
	if diff := cmp.Diff(map[string]any{"exec_id": id, "reaped": true}, reaped); diff != "" {
		t.Errorf("DELETE (-want +got):\n%s", diff)
	}
	never := []string{"ex_", "ex_1", "nope", id[:len(id)-1], id + "0", "ex_ffffffff" + id[11:], "%00"}
	for _, call := range []string{"GET ", "GET /logs", "POST /kill", "GET /wait-exit", "DELETE "} {
		method, rest, _ := strings.Cut(call, " ")
		a.want(410, method, ended+rest, "")
		for _, name := range never {
			a.want(404, method, "/vm/"+vm+"/exec/"+name+rest, "")
		}
		a.want(404, method, "/vm/"+other+"/exec/"+id+rest, "")
		a.want(404, method, "/vm/sbox-9/exec/"+id+rest, "")
	}
	for _, query := range []string{"?from_id=x", "?from_id=-1", "?from_id=99", "?follow=maybe"} {
		a.want(400, "GET", running+"/logs"+query, "")
	}
}

func TestBackgroundExecsThatAreKeptAreBounded(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	var last string
	for range 1000 {
		last = a.background(vm, "cmd", "true", "ring_bytes", "1")
	}
	if got := a.want(503, "POST", execPath(vm, "cmd", "true", "background", "true"), "").message(t); !strings.Contains(got, "1000") {
		t.Errorf("the 1001st exec says %q", got)
	}
	a.finish(last)
	a.want(200, "DELETE", last, "")
	a.background(vm, "cmd", "true")
}

func TestBackgroundExecWhoseEndIsUnknown(t *testing.T) {
	_, call := serveBroken(t)
	_, text, _ := call("POST", "/vm/sbox-1/exec?cmd=x&background=true", "")
	var made execInfo
	decode(t, text, &made)
	path := "/vm/sbox-1/exec/" + made.ExecID
	if _, text, _ := call("GET", path+"/wait-exit", ""); !strings.Contains(text, `"running":false,"exit_code":null`) {
		t.Errorf("wait-exit = %s, want it ended without an exit code", text)
	}
	if status, text, err := call("GET", path+"/logs?follow=true", ""); status != 200 || err == nil || strings.Contains(text, `"exit"`) {
		t.Errorf("logs = %d %q, %v, want a 200 that breaks off", status, text, err)
	}
}
