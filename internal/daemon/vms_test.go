package daemon_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// hostnames lists VMs.
func (a *api) hostnames(path string) []string {
	a.t.Helper()
	var nodes []struct {
		Hostname string `json:"hostname"`
	}
	decode(a.t, a.want(200, "GET", path, "").body, &nodes)
	names := []string{}
	for _, n := range nodes {
		names = append(names, n.Hostname)
	}
	return names
}

func TestCreateAndList(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	var made map[string]any
	decode(t, a.want(201, "POST", "/hostgroup/sbox/nodes?wait=agent&timeout=30s", `{"cpus":2,"tags":["name=build","ci"]}`).body, &made)
	if made["hostname"] != "sbox-1" || made["hostgroup"] != "sbox" || made["ip"] != "192.168.137.2/24" {
		t.Errorf("create = %v, want sbox-1 at 192.168.137.2/24", made)
	}
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(made["created_at"])); err != nil {
		t.Errorf("created_at = %v, want RFC 3339", made["created_at"])
	}
	var nodes []map[string]any
	decode(t, a.want(200, "GET", "/hostgroup/sbox/nodes", "").body, &nodes)
	want := []map[string]any{{
		"hostname": "sbox-1", "hostgroup": "sbox", "ip": "192.168.137.2/24", "ram_bytes": float64(8 << 30), "cpus": 2.0,
		"created_at": made["created_at"], "arch": made["arch"], "tags": []any{"name=build", "ci"}, "status": "Running", "persistent": false,
	}}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

func TestNamesAndAddresses(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{}`)
	a.create(``)
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/sbox-1", "")
	var made struct{ Hostname, IP string }
	decode(t, a.want(201, "POST", "/hostgroup/sbox/nodes", `{}`).body, &made)
	if made.Hostname != "sbox-3" || made.IP != "192.168.137.2/24" {
		t.Errorf("third VM = %+v, want the new name sbox-3 and the freed address", made)
	}
}

func TestTagFilters(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{"tags":["name=one","team=red"]}`)
	a.create(`{"tags":["name=two","team=blue"]}`)
	a.create(`{}`)
	for query, want := range map[string][]string{
		"":                   {"sbox-1", "sbox-2", "sbox-3"},
		"?tag=name=two":      {"sbox-2"},
		"?tag=name":          {},
		"?tag_prefix=team=":  {"sbox-1", "sbox-2"},
		"?tag_prefix=name=o": {"sbox-1"},
		"?tag=nope":          {},
	} {
		for _, path := range []string{"/nodes", "/hostgroup/sbox/nodes"} {
			if got := a.hostnames(path + query); !cmp.Equal(got, want) {
				t.Errorf("GET %s%s = %v, want %v", path, query, got, want)
			}
		}
	}
}

func TestRefusedCreates(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{"tags":["name=taken"]}`)
	for _, tt := range []struct {
		name, query, body string
		status            int
		says              string
	}{
		{"too many CPUs", "", `{"cpus":5}`, 400, "is 4"},
		{"too much RAM", "", `{"ram_bytes":8589934593}`, 400, "is 8589934592"},
		{"a GPU", "", `{"gpu_count":1}`, 400, "is 0"},
		{"negative CPUs", "", `{"cpus":-1}`, 400, "negative"},
		{"negative RAM", "", `{"ram_bytes":-1}`, 400, "negative"},
		{"name taken", "", `{"tags":["name=taken"]}`, 409, `"sbox-1"`},
		{"two names", "", `{"tags":["name=a","name=b"]}`, 400, "one name"},
		{"empty name", "", `{"tags":["name="]}`, 400, "empty"},
		{"empty tag", "", `{"tags":[""]}`, 400, "empty"},
		{"tag twice", "", `{"tags":["a","a"]}`, 400, "twice"},
		{"control character in a tag", "", `{"tags":["a\nb"]}`, 400, "characters"},
		{"long tag", "", `{"tags":["` + strings.Repeat("x", 257) + `"]}`, 400, "256"},
		{"unknown secret", "", `{"secrets":["key"]}`, 400, `"key"`},
		{"empty secret", "", `{"secrets":[""]}`, 400, `""`},
		{"unknown wait", "?wait=boot", `{}`, 400, "wait"},
		{"timeout without wait", "?timeout=3s", `{}`, 400, "needs wait"},
		{"timeout without a unit", "?wait=agent&timeout=30", `{}`, 400, "timeout"},
		{"negative timeout", "?wait=agent&timeout=-1s", `{}`, 400, "timeout"},
		{"endless timeout", "?wait=agent&timeout=99h", `{}`, 400, "timeout"},
		{"hostname", "", `{"hostname":"x"}`, 501, "hostname"},
		{"protected", "", `{"protected":true}`, 501, "protected"},
		{"PCI devices", "", `{"pci_devices":["x"]}`, 501, "pci_devices"},
		{"another image", "", `{"disk_image":"x"}`, 501, "disk_image"},
		{"network that is let through", "", `{"network":{"allow":["1.1.1.1/32"]}}`, 501, "leads nowhere"},
		{"network that is none", "", `{"network":{"drop":["example"]}}`, 400, `"example"`},
		{"unknown field of a network", "", `{"network":{"deny":[]}}`, 400, `"deny"`},
		{"too many networks", "", `{"network":{"drop":["::/0"` + strings.Repeat(`,"::/0"`, 256) + `]}}`, 400, "256"},
		{"address elsewhere", "", `{"ip":"10.0.0.2"}`, 400, "192.168.137.2 to 192.168.137.254"},
		{"address of the network", "", `{"ip":"192.168.137.0"}`, 400, "192.168.137.2"},
		{"address of the gateway", "", `{"ip":"192.168.137.1/24"}`, 400, "192.168.137.2"},
		{"address with another mask", "", `{"ip":"192.168.137.9/16"}`, 400, "192.168.137.2"},
		{"address with zeros", "", `{"ip":"192.168.137.09"}`, 400, "192.168.137.2"},
		{"address as IPv6", "", `{"ip":"::ffff:192.168.137.9"}`, 400, "192.168.137.2"},
		{"address taken", "", `{"ip":"192.168.137.2/24"}`, 409, "another VM's"},
		{"two lines as one key", "", `{"ssh_keys":["ssh-rsa AAAA\nssh-rsa BBBB"]}`, 400, "entry 1"},
		{"control character in a key", "", `{"ssh_keys":["ssh-rsa AAAA","ssh-rsa \u001bAAA"]}`, 400, "entry 2"},
		{"empty key", "", `{"ssh_keys":[""]}`, 400, "no public key"},
		{"comment as a key", "", `{"ssh_keys":["# ssh-rsa AAAA"]}`, 400, "no public key"},
		{"long key", "", `{"ssh_keys":["ssh-rsa ` + strings.Repeat("A", 16<<10) + `"]}`, 400, "16384"},
		{"too many keys", "", `{"ssh_keys":["ssh-rsa A"` + strings.Repeat(`,"ssh-rsa A"`, 100) + `]}`, 400, "100"},
		{"import_user with a slash", "", `{"import_user":"a/b"}`, 400, "import_user"},
		{"import_user with two hyphens", "", `{"import_user":"a--b"}`, 400, "import_user"},
		{"import_user that ends with a hyphen", "", `{"import_user":"a-"}`, 400, "import_user"},
		{"long import_user", "", `{"import_user":"` + strings.Repeat("a", 40) + `"}`, 400, "import_user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("POST", "/hostgroup/sbox/nodes"+tt.query, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("create %s = %d %s, want %d and %q", tt.body, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	if got := a.hostnames("/nodes"); !cmp.Equal(got, []string{"sbox-1"}) {
		t.Errorf("VMs after refused creates = %v, want only the first", got)
	}
}

func TestNameIsFreeAgainAfterDelete(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"tags":["name=x"]}`)
	var got map[string]string
	decode(t, a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "").body, &got)
	if got["error"] != "" || !strings.Contains(got["message"], vm) || got["disk_removed"] == "" {
		t.Errorf("delete = %v, want a message, the disk and no error", got)
	}
	a.want(404, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
	a.create(`{"tags":["name=x"]}`)
}

func TestAddressesRunOut(t *testing.T) {
	a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
	for range 253 {
		a.create(`{}`)
	}
	if got := a.want(503, "POST", "/hostgroup/sbox/nodes", `{}`).message(t); !strings.Contains(got, "253") {
		t.Errorf("the 254th VM is refused with %q, want the limit named", got)
	}
}

func TestFailedBootLeavesNothing(t *testing.T) {
	fail := true
	a := newAPI(t, slicertest.Options{Boot: func(context.Context, string) error {
		if fail {
			return fmt.Errorf("no kernel")
		}
		return nil
	}})
	if got := a.want(500, "POST", "/hostgroup/sbox/nodes", `{"tags":["name=x"]}`).message(t); !strings.Contains(got, "no kernel") {
		t.Errorf("failed boot says %q, want its cause", got)
	}
	if got := a.hostnames("/nodes"); len(got) != 0 {
		t.Errorf("VMs after a failed boot = %v, want none", got)
	}
	fail = false
	if got := a.create(`{"tags":["name=x"]}`); got != "sbox-2" {
		t.Errorf("next VM = %s, want sbox-2", got)
	}
}

func TestCreateTimesOut(t *testing.T) {
	hang := func(ctx context.Context, p *slicertest.Proc) int { <-ctx.Done(); return 0 }
	for _, tt := range []struct {
		name, query, body string
		after             time.Duration
		opts              slicertest.Options
	}{
		{"the agent doesn't come", "?wait=agent&timeout=30s", `{}`, 30 * time.Second, slicertest.Options{
			Boot: func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) },
		}},
		{"the agent comes too late", "?wait=agent&timeout=30s", `{}`, 40 * time.Second, slicertest.Options{
			Boot: func(context.Context, string) error { time.Sleep(40 * time.Second); return nil },
		}},
		{"the default time", "?wait=agent", `{}`, 5 * time.Minute, slicertest.Options{
			Boot: func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) },
		}},
		{"the userdata doesn't end", "?wait=userdata&timeout=1m", `{"userdata":"hang"}`, time.Minute, slicertest.Options{
			Programs: map[string]slicertest.Program{"hang": hang},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.opts.Network = slicertest.Pipe
				a := newAPI(t, tt.opts)
				defer a.srv.Close()
				begin := time.Now()
				if got := a.want(408, "POST", "/hostgroup/sbox/nodes"+tt.query, tt.body).message(t); !strings.Contains(got, "removed") {
					t.Errorf("408 says %q, want that the VM was removed", got)
				}
				if took := time.Since(begin); took != tt.after {
					t.Errorf("create gave up after %s, want %s", took, tt.after)
				}
				if got := a.hostnames("/nodes"); len(got) != 0 {
					t.Errorf("VMs after the time-out = %v, want none", got)
				}
				if a.srv.Files("sbox-1") != nil {
					t.Error("the guest is still there")
				}
			})
		})
	}
}

func TestClientThatGoesAwayLeavesNoVM(t *testing.T) {
	booting, over := make(chan struct{}), make(chan struct{})
	a := newAPI(t, slicertest.Options{Boot: func(ctx context.Context, _ string) error {
		close(booting)
		<-ctx.Done()
		close(over)
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-booting; cancel() }()
	resp, err := a.srv.HTTPClient().Do(a.request(ctx, "POST", "/hostgroup/sbox/nodes", strings.NewReader(`{}`)))
	if err == nil {
		resp.Body.Close()
		t.Fatal("the cancelled create was answered")
	}
	<-over
	a.srv.Close() // waits for the call; a guest that is left fails the test
	if a.srv.Files("sbox-1") != nil {
		t.Error("the guest is still there")
	}
}

var bootTime = regexp.MustCompile(`ready in \d+ ms`)

func TestUserdata(t *testing.T) {
	a := newAPI(t, slicertest.Options{Shell: func(_ context.Context, p *slicertest.Proc, script string) int {
		fmt.Fprintf(p.Stdout, "uid %d ran %s", p.UID, strings.TrimSpace(script))
		fmt.Fprintln(p.Stderr, "!")
		return 3
	}})
	for _, script := range []string{"setup", "#!/bin/bash\nsetup"} {
		var made struct{ Hostname string }
		body := fmt.Sprintf(`{"userdata":%q}`, script)
		decode(t, a.want(201, "POST", "/hostgroup/sbox/nodes?wait=userdata", body).body, &made)
		var health map[string]any
		decode(t, a.want(200, "GET", "/vm/"+made.Hostname+"/health", "").body, &health)
		if health["userdata_ran"] != true || health["userdata_exit_code"] != 3.0 {
			t.Errorf("health after userdata %q = %v, want exit code 3", script, health)
		}
		var logs struct {
			Hostname, Content string
			Lines             int
		}
		decode(t, a.want(200, "GET", "/vm/"+made.Hostname+"/logs", "").body, &logs)
		want := "slicer: " + made.Hostname + " started, 4 CPUs, 8 GiB, network isolated\n" +
			"slicer: agent ready in 0 ms\nslicer: secrets: 0\nuid 0 ran setup!\nuserdata: exit code 3\n"
		got := bootTime.ReplaceAllString(logs.Content, "ready in 0 ms")
		if got != want || logs.Lines != 5 || logs.Hostname != made.Hostname {
			t.Errorf("logs of userdata %q = %+v, want its boot and its output", script, logs)
		}
	}
}

func TestLogLines(t *testing.T) {
	a := newAPI(t, slicertest.Options{Shell: func(_ context.Context, p *slicertest.Proc, _ string) int {
		for n := range 30 {
			fmt.Fprintln(p.Stdout, n)
		}
		return 0
	}})
	a.want(201, "POST", "/hostgroup/sbox/nodes?wait=userdata", `{"userdata":"x"}`)
	// Three lines of the boot come first, the exit code last.
	for query, want := range map[string]int{"": 20, "?lines=0": 34, "?lines=5": 5, "?lines=99": 34} {
		var logs struct {
			Content string
			Lines   int
		}
		decode(t, a.want(200, "GET", "/vm/sbox-1/logs"+query, "").body, &logs)
		if logs.Lines != want || strings.Count(logs.Content, "\n") != want || !strings.HasSuffix(logs.Content, "29\nuserdata: exit code 0\n") {
			t.Errorf("logs%s = %d lines %q, want the last %d", query, logs.Lines, logs.Content, want)
		}
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		time.Sleep(90 * time.Second)
		var got map[string]any
		decode(t, a.want(200, "GET", "/vm/"+vm+"/health", "").body, &got)
		want := map[string]any{
			"hostname": vm, "agent_uptime": 90.0, "system_uptime": 90.0, "agent_version": "slicertest",
			"userdata_ran": true, "ip": "192.168.137.2/24",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		if got := a.want(200, "HEAD", "/vm/"+vm+"/health", "").body; got != "" {
			t.Errorf("HEAD health = %q, want no body", got)
		}
	})
}
