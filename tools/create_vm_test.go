package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// createdVM is create_vm's answer.
type createdVM struct {
	vmRecord
	Expires    string
	Persistent bool
	Note       string
}

func TestCreateVMRefusesTheRest(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"a ttl that is none", args{"ttl": "soon"}, []string{`ttl "soon" can't be used`, "2h", "from 1m to 30d"}},
		{"a ttl that is too short", args{"ttl": "59s"}, []string{"from 1m to 30d"}},
		{"a ttl that is too long", args{"ttl": "31d"}, []string{"from 1m to 30d"}},
		{"a ttl that is negative", args{"ttl": "-2h"}, []string{"from 1m to 30d"}},
		{"an end as a tag", args{"tags": []string{"expires-at=2000-01-01T00:00:00Z"}}, []string{"this server sets expires-at="}},
		{"a wait that is none", args{"wait": "boot"}, []string{"wait must be one of agent, userdata, none"}},
		{"a private key", args{"ssh_keys": []string{"-----BEGIN OPENSSH PRIVATE KEY-----\ncanary"}}, []string{"ssh_keys[0] can't be used", "a public key on one line"}},
		{"two keys in one", args{"ssh_keys": []string{"ssh-ed25519 AAAA a\nssh-ed25519 canary b"}}, []string{"ssh_keys[0] can't be used"}},
		{"a secret that isn't there", args{"secrets": []string{"nope"}}, []string{"nope", "list_secrets"}},
		{"a secret with a space", args{"secrets": []string{"a b"}}, []string{`secret "a b" can't be used`, "list_secrets"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.fail("create_vm", tc.args)
			wantText(t, "create_vm", got, tc.want...)
			if strings.Contains(got, "canary") {
				t.Errorf("create_vm = %q, which repeats a key", got)
			}
		})
	}
	wantVMs(t, client, 0)
}

func TestCreateVMWithNoSecrets(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	s.call("create_vm", args{"secrets": []string{}}) // there are none
	s.call("create_secret", args{"name": "api", "generate": 16})
	wantText(t, "create_vm", s.fail("create_vm", args{"secrets": []string{}}), "can't be given none", "1 secret", "list_secrets")
	wantVMs(t, client, 1)
	s.call("create_vm", args{"secrets": []string{"api"}})
}

func TestCreateVMTTL(t *testing.T) {
	for ttl, want := range map[string]time.Duration{"1m": time.Minute, "90m": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "30d": 30 * 24 * time.Hour} {
		client := fakeDaemon(t)
		s := connect(t, tools.Config{Client: client})
		var made createdVM
		before := time.Now()
		text := s.record("create_vm", args{"ttl": ttl}, &made)
		wantText(t, "create_vm", text, "expires "+made.Expires)
		wantText(t, "list_vms", s.call("list_vms", args{}), "expires "+made.Expires[:20])
		tags, err := client.GetVMTags(t.Context(), made.VM)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Time{}
		for _, tag := range tags {
			if value, ok := strings.CutPrefix(tag, "expires-at="); ok {
				if at, err = time.Parse(time.RFC3339, value); err != nil || !strings.HasSuffix(value, "Z") {
					t.Errorf("tag %q: %v; want RFC 3339 in UTC", tag, err)
				}
			}
		}
		if off := at.Sub(before) - want; off < -2*time.Second || off > 10*time.Second {
			t.Errorf("with ttl %s it expires after %s", ttl, at.Sub(before))
		}
	}
}

// TestCreateVMWaits is about what create_vm waits for.
func TestCreateVMWaits(t *testing.T) {
	const health = "GET /vm/{vm}/health"
	down := slicertest.Fault{Status: 502, Body: `{"error":"no agent"}`}
	t.Run("the agent answers after a while", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		fault := down
		fault.Times = 3
		srv.Fault(health, fault)
		s := connect(t, tools.Config{Client: srv.Client()})
		var made createdVM
		s.record("create_vm", args{}, &made)
		if made.Status != "Running" || made.Note != "" {
			t.Errorf("create_vm = %+v, want it running", made)
		}
	})
	t.Run("the agent doesn't answer in time", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault(health, down)
		s := connect(t, tools.Config{Client: srv.Client(), CallLimit: 500 * time.Millisecond})
		var made createdVM
		text := s.record("create_vm", args{"name": "slow"}, &made)
		if made.Status != "starting" {
			t.Errorf("create_vm = %+v, want it starting", made)
		}
		wantText(t, "create_vm", text, "starting", made.Note, made.Next, `get_vm(vm="slow")`, "agent doesn't answer yet")
		wantVMs(t, srv.Client(), 1)
		wantText(t, "get_vm", s.call("get_vm", args{}), "agent: does not answer", "no agent", `get_vm(vm="slow") again`, "vm_logs")
	})
	t.Run("nothing is waited for", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault(health, down)
		s := connect(t, tools.Config{Client: srv.Client()})
		wantText(t, "create_vm", s.call("create_vm", args{"name": "web", "wait": "none"}), "starting", `get_vm(vm="web")`)
		for _, r := range srv.Requests() {
			if strings.HasSuffix(r.Path, "/health") {
				t.Errorf("create_vm asked for %s", r.Path)
			}
		}
	})
	t.Run("a VM that ends before it is up", func(t *testing.T) {
		client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/hostgroup":
				answer(200, `[{"name":"sbox","cpus":1,"ram_bytes":1}]`)(w, r)
			case r.Method == http.MethodPost:
				answer(200, `{"hostname":"sbox-1"}`)(w, r)
			case r.URL.Path == "/nodes":
				answer(200, `[]`)(w, r)
			default:
				answer(404, `{"error":"gone"}`)(w, r)
			}
		})
		s := connect(t, tools.Config{Client: client})
		wantText(t, "create_vm", s.fail("create_vm", args{"name": "web"}), `VM "web" is gone`, "No VM is left of it")
	})
	t.Run("a call that is taken back leaves no VM", func(t *testing.T) {
		srv := slicertest.NewServer(t)
		srv.Fault(health, slicertest.Fault{Stall: make(chan struct{})})
		set, err := tools.New(tools.Config{Client: srv.Client(), Owner: testOwner})
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		s := connectTo(t, set)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			var req mcp.CallToolRequest
			req.Params.Name = "create_vm"
			// The client has gone: what it is told is no matter.
			_, _ = s.client.CallTool(ctx, req)
		}()
		for !slices.ContainsFunc(srv.Requests(), func(r slicertest.Request) bool { return strings.HasSuffix(r.Path, "/health") }) {
			runtime.Gosched()
		}
		cancel()
		<-done
		awaitVMs(t, srv.Client(), 0)
	})
}

func TestCreateVMUserdata(t *testing.T) {
	release := make(chan struct{})
	var srv *slicertest.Server
	srv = slicertest.NewServer(t, slicertest.Options{Shell: func(ctx context.Context, p *slicertest.Proc, script string) int {
		text, _ := p.Files().ReadFile("/run/slicer/userdata")
		fmt.Fprintf(p.Stdout, "userdata says %s\n", text)
		switch string(text) {
		case "wait":
			select {
			case <-release:
			case <-ctx.Done():
			}
		case "later": // once it has been asked for twice
			for asked := 0; asked < 2 && ctx.Err() == nil; runtime.Gosched() {
				asked = 0
				for _, r := range srv.Requests() {
					if r.Path == "/vm/"+p.Hostname+"/health" {
						asked++
					}
				}
			}
		case "fail":
			return 3
		}
		return 0
	}})
	s := connect(t, tools.Config{Client: srv.Client(), CallLimit: time.Second})
	for _, tc := range []struct {
		name, script, wait string
		want               []string
	}{
		{"one", "ok", "userdata", []string{"Running", "Its userdata has ended.", `exec(vm="one"`}},
		{"six", "later", "userdata", []string{"Running", "Its userdata has ended."}},
		{"two", "fail", "userdata", []string{"Its userdata failed with exit code 3", `vm_logs(vm="two")`}},
		{"three", "wait", "userdata", []string{"Its userdata still runs", `vm_logs(vm="three")`, `get_vm(vm="three")`}},
		{"four", "wait", "agent", []string{"Running"}},
		{"five", "", "userdata", []string{"Running"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := s.call("create_vm", args{"name": tc.name, "userdata": tc.script, "wait": tc.wait})
			wantText(t, "create_vm", text, tc.want...)
			if tc.wait == "agent" && strings.Contains(text, "userdata") {
				t.Errorf("create_vm = %q, which tells of userdata that it did not wait for", text)
			}
		})
	}
	wantText(t, "get_vm of three", s.call("get_vm", args{"vm": "three"}), "userdata has not ended")
	wantText(t, "get_vm of two", s.call("get_vm", args{"vm": "two"}), "userdata ended with exit code 3")
	wantText(t, "vm_logs of two", s.call("vm_logs", args{"vm": "two"}), "userdata says fail")
	close(release)
	wantVMs(t, srv.Client(), 6)
}

// TestCreateVMAsks holds what the daemon is asked for to the arguments.
func TestCreateVMAsks(t *testing.T) {
	var asked slicer.SlicerCreateNodeRequest
	client := daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/hostgroup":
			answer(200, `[{"name":"vm","cpus":4,"ram_bytes":8589934592}]`)(w, r)
		case r.URL.Path == "/nodes":
			answer(200, `[]`)(w, r)
		case r.Method == http.MethodPost:
			if r.URL.RawQuery != "" {
				t.Errorf("the daemon is asked with %q", r.URL.RawQuery)
			}
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
			answer(201, `{"hostname":"vm-1","ip":"10.0.0.2/24"}`)(w, r)
		default:
			answer(200, `{"agent_version":"1"}`)(w, r)
		}
	})
	s := connect(t, tools.Config{Client: client})
	var made createdVM
	text := s.record("create_vm", args{
		"persistent": true, "userdata": "#!/bin/sh\necho hi\n", "secrets": []string{"a", "b"},
		"ssh_keys": []string{"ssh-ed25519 AAAAC3 me@x"}, "cpus": 2,
	}, &made)
	if !asked.Persistent || asked.Userdata != "#!/bin/sh\necho hi\n" || strings.Join(asked.Secrets, " ") != "a b" || len(asked.SSHKeys) != 1 || asked.CPUs != 2 || asked.RamBytes != 0 {
		t.Errorf("the daemon was asked for %+v", asked)
	}
	if !made.Persistent || made.RAMGiB != 8 {
		t.Errorf("create_vm = %+v, want it persistent with the group's memory", made)
	}
	wantText(t, "create_vm", text, "persistent", "10.0.0.2/24", "2 CPUs, 8 GiB")
}

func TestCreateVMThatTheDaemonCantMake(t *testing.T) {
	srv := slicertest.NewServer(t)
	srv.Fault("POST /hostgroup/{group}/nodes", slicertest.Fault{Status: 501, Body: `{"error":"this daemon doesn't support persistent"}`})
	s := connect(t, tools.Config{Client: srv.Client()})
	wantText(t, "create_vm", s.fail("create_vm", args{"persistent": true}), "can't do that", "doesn't support persistent", "No VM is left of it")
}
