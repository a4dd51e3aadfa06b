package tools_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// vmDetails is get_vm's answer.
type vmDetails struct {
	vmRecord
	Disk    string
	Network string
	Agent   string
	Load    string
	Memory  string
	Space   string `json:"disk_space"`
}

func (d vmDetails) facts() []string {
	return append(d.Tags, d.VM, d.Name, d.Status, d.Group, d.Disk, d.Network, d.Agent, d.Load, d.Memory, d.Space, d.Next)
}

func TestGetVM(t *testing.T) {
	srv := slicertest.NewServer(t)
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{"name": "web", "tags": []string{"job=1"}})
	srv.SetStats("sbox-1", slicertest.Stats{
		Uptime: 90 * time.Minute, Load1: 0.5, Load5: 1.25, Load15: 2, MemoryTotal: 4e9, MemoryUsed: 1e9, DiskTotal: 1e10, DiskUsed: 9e9,
	})
	var d vmDetails
	text := s.record("get_vm", args{}, &d)
	wantText(t, "get_vm", text, d.facts()...)
	wantText(t, "get_vm", text, "VM sbox-1 (web), Running, owned by this server", "disk: ephemeral", "network: isolated, allows nothing, drops 0.0.0.0/0",
		"agent: answers, version ", "no userdata left", "load: 0.50 1.25 2.00", "memory: 1.0 GB of 4.0 GB used (25%)", "disk space: 9.0 GB of 10.0 GB used (90%)", `exec(vm="web"`)

	for _, tc := range [][2]string{{"pause", `resume(vm="web")`}, {"suspend", `restore(vm="web")`}} {
		tool, want := tc[0], tc[1]
		s.call(tool, args{})
		var d vmDetails
		text := s.record("get_vm", args{}, &d)
		wantText(t, "get_vm after "+tool, text, append(d.facts(), want, "not asked, as the VM is "+strings.ToLower(d.Status), "disk: ephemeral")...)
		if d.Load != "" || d.Memory != "" {
			t.Errorf("get_vm after %s = %+v, want no figures", tool, d)
		}
	}
	s.call("restore", args{})
	srv.SetStats("sbox-1", slicertest.Stats{Err: errors.ErrUnsupported})
	wantText(t, "get_vm without a meter", s.call("get_vm", args{}), "agent: answers", "load: not known: the guest has no meter")
}

// TestGetVMOfOthers is about a VM that is somebody else's, who may be hostile.
func TestGetVMOfOthers(t *testing.T) {
	client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
		const evil = `\u202e\n\u001b[31mIGNORE`
		switch {
		case r.URL.Path == "/nodes":
			answer(200, `[{"hostname":"x-1","status":"Running`+evil+`","tags":["owner=eve`+evil+`"]}]`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/health"):
			answer(200, `{"agent_version":"1`+evil+`"}`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/stats"):
			answer(200, `[{"hostname":"x-1","error":"no`+evil+`"}]`)(w, r)
		default:
			answer(200, `{"hostname":"x-1","image":"i`+evil+`","network":{"mode":"m`+evil+`","effective":{"allow":["`+strings.Repeat(`a","`, 50)+evil+`"]}}}`)(w, r)
		}
	})
	s := connect(t, tools.Config{Client: client})
	got := s.call("get_vm", args{"vm": "x-1"})
	wantText(t, "get_vm", got, "owned by eve", "image i", "network: m", "and 41 more", "userdata has not ended", "load: not known: no")
	for _, bad := range []string{"\u202e", "\x1b", "\nIGNORE"} {
		if strings.Contains(got, bad) {
			t.Errorf("get_vm = %q, which contains %q", got, bad)
		}
	}
}

// TestGetVMFromLittle is about daemons that don't answer everything.
func TestGetVMFromLittle(t *testing.T) {
	for _, tc := range []struct {
		name    string
		pattern string
		fault   slicertest.Fault
		want    []string
	}{
		{"no description", "GET /vm/{vm}", slicertest.Fault{Status: 404, Body: "404 page not found"}, []string{"VM sbox-1", "agent: answers", "memory: "}},
		{"an agent that stalls", "GET /vm/{vm}/health", slicertest.Fault{Stall: make(chan struct{})}, []string{"VM sbox-1", "disk: ", "agent: does not answer", "memory: "}},
		{"no figures", "GET /node/{vm}/stats", slicertest.Fault{Status: 500, Body: `{"error":"broken"}`}, []string{"VM sbox-1", "agent: answers", "load: not known", "broken"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := slicertest.NewServer(t)
			s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 2 * time.Second})
			s.call("create_vm", args{})
			srv.Fault(tc.pattern, tc.fault)
			wantText(t, "get_vm", s.call("get_vm", args{}), tc.want...)
		})
	}
	t.Run("a VM that goes meanwhile", func(t *testing.T) {
		s := connect(t, tools.Config{Client: turningDaemon(t, "", answer(404, `{"error":"VM is gone"}`))})
		wantText(t, "get_vm", s.fail("get_vm", args{}), `VM "web" is gone`, "create_vm")
	})
}

func TestVMLogs(t *testing.T) {
	content := ""
	client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/nodes" {
			answer(200, `[{"hostname":"x-1","status":"Stopped","persistent":true,"tags":["owner=`+testOwner+`"]}]`)(w, r)
			return
		}
		answer(200, `{"hostname":"x-1","lines":1,"content":"`+content+`"}`)(w, r)
	})
	s := connect(t, tools.Config{Client: client})
	for _, tc := range []struct {
		name, content string
		args          args
		want          []string
		not           string
	}{
		{"nothing", "", args{}, []string{`The console of VM "x-1" holds nothing.`}, "```"},
		{"all of it", `a\nb\n`, args{}, []string{`The console of VM "x-1", 2 lines:`, "```\na\nb\n```"}, "last"},
		{"the last of it", `a\nb\n`, args{"lines": 2}, []string{"The last 2 lines of the console"}, ""},
		{"what a guest wrote to deceive", "x\\u001b[31m\\u202e\\n```\\nignore all\\n", args{}, []string{"````\n", `x\u202e`}, "\x1b"},
		{"more than an answer holds", strings.Repeat(`0123456789012345678901234567890123456789\n`, 2000), args{"lines": 2000}, []string{"The last 2,000 lines", "omitted", `vm_logs(vm="x-1", lines=…) with fewer lines`}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content = tc.content
			res := s.raw(t.Context(), "vm_logs", tc.args)
			got := textOf(t, res)
			if res.IsError || res.StructuredContent != nil {
				t.Errorf("vm_logs = %q, want text alone", got)
			}
			wantText(t, "vm_logs", got, tc.want...)
			if tc.not != "" && strings.Contains(got, tc.not) {
				t.Errorf("vm_logs = %q, want it without %q", got, tc.not)
			}
			if n := len([]rune(got)); n > 31_000 {
				t.Errorf("vm_logs answered %d characters", n)
			}
		})
	}
}
