package daemon_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

type commitRecord struct {
	ID        string `json:"commit_id"`
	Hostname  string `json:"hostname"`
	Status    string `json:"status"`
	Mode      string `json:"mode"`
	Tags      []string
	Labels    map[string]string
	CacheKey  string `json:"cache_key"`
	CreatedAt string `json:"created_at"`
	Parent    string `json:"parent_commit_id"`
}

func (a *api) commit(vm, body string) commitRecord {
	a.t.Helper()
	var c commitRecord
	decode(a.t, a.want(200, "POST", "/vm/"+vm+"/commit", body).body, &c)
	return c
}

func (a *api) listCommits(query string) []commitRecord {
	a.t.Helper()
	list := []commitRecord{}
	decode(a.t, a.want(200, "GET", "/vm/commits"+query, "").body, &list)
	return list
}

type forkRecord struct {
	Hostname   string
	Source     string `json:"source_hostname"`
	CommitID   string `json:"commit_id"`
	Status     string
	Mode       string
	Persistent bool
	IP         string
	CreatedAt  string `json:"created_at"`
}

func (a *api) fork(id, query, body string) forkRecord {
	a.t.Helper()
	var f forkRecord
	decode(a.t, a.want(201, "POST", "/vm/commits/"+id+"/fork"+query, body).body, &f)
	return f
}

// committed makes a stopped VM with the file /var/data and commits it.
func (a *api) committed(body string) commitRecord {
	a.t.Helper()
	vm := a.create(`{"persistent":true,"cpus":2,"ram_bytes":1073741824,"tags":["name=base"]}`)
	a.write(vm, "base")
	a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
	return a.commit(vm, body)
}

func TestCommitAndFork(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	c := a.committed(`{"tags":["built"],"labels":{"k":"v"},"cache_key":"abc"}`)
	want := commitRecord{
		ID: c.ID, Hostname: "sbox-1", Status: "ready", Mode: "cold", Tags: []string{"built"},
		Labels: map[string]string{"k": "v"}, CacheKey: "abc", CreatedAt: c.CreatedAt,
	}
	if diff := cmp.Diff(want, c); diff != "" || c.ID == "" || c.CreatedAt == "" {
		t.Errorf("commit (-want +got):\n%s", diff)
	}
	if got := a.described("sbox-1").CommitID; got != c.ID {
		t.Errorf("commit of the VM = %q, want %q", got, c.ID)
	}
	a.want(200, "POST", "/vm/sbox-1/relaunch", "")
	a.write("sbox-1", "changed")

	f := a.fork(c.ID, "?wait=agent&timeout=30s", `{"tags":["name=child"]}`)
	if f.Hostname != "sbox-2" || f.Source != "sbox-1" || f.CommitID != c.ID || f.Status != "Running" || f.Mode != "cold" || f.Persistent || f.IP == "" || f.CreatedAt == "" {
		t.Errorf("fork = %+v, want sbox-2 that runs", f)
	}
	d := a.described("sbox-2")
	if d.ParentCommitID != c.ID || d.CPUs != 2 || d.RAMBytes != 1<<30 || d.Storage != "ephemeral" || !cmp.Equal(d.Tags, []string{"built", "name=child"}) {
		t.Errorf("description of the fork = %+v, want the size of what was committed, its commit and its tags", d)
	}
	if data, name := a.read("sbox-2", "/var/data"), a.read("sbox-2", "/etc/hostname"); data != "base" || name != "sbox-2\n" {
		t.Errorf("files of the fork = %q and hostname %q, want those of the commit and its own name", data, name)
	}

	a.srv.Restart()
	if diff := cmp.Diff([]commitRecord{c}, a.listCommits("")); diff != "" {
		t.Errorf("commits after a restart (-want +got):\n%s", diff)
	}
	kept := a.fork(c.ID, "?wait=none", `{"persistent":true}`).Hostname
	a.write(kept, "grandchild")
	a.want(200, "POST", "/vm/"+kept+"/shutdown", "")
	if got := a.commit(kept, ``); got.Parent != c.ID {
		t.Errorf("parent of a fork's commit = %q, want %q", got.Parent, c.ID)
	}
	a.want(200, "DELETE", "/vm/commits/"+c.ID, "")
	a.want(404, "DELETE", "/vm/commits/"+c.ID, "")
	a.want(404, "POST", "/vm/commits/"+c.ID+"/fork", "{}")
	a.want(200, "POST", "/vm/"+kept+"/relaunch", "") // it has a disk of its own
	if got := a.read(kept, "/var/data"); got != "grandchild" {
		t.Errorf("file of the persistent fork = %q, want its own", got)
	}
	if got := a.described(kept); got.Storage != "persistent" || got.ParentCommitID != c.ID {
		t.Errorf("description of the persistent fork = %+v", got)
	}
}

func TestCommitFilters(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	one := a.committed(`{"tags":["x","y"],"cache_key":"k"}`).ID
	two := a.commit("sbox-1", `{"tags":["x"]}`).ID
	for query, want := range map[string][]string{
		"": {one, two}, "?tag=x": {one, two}, "?tag=y": {one}, "?tag=z": {}, "?cache_key=k": {one}, "?source=sbox-1&tag=y": {one},
		"?source=sbox-2": {}, "?mode=cold": {one, two}, "?mode=hot": {}, "?tag=x&cache_key=z": {},
	} {
		got := []string{}
		for _, c := range a.listCommits(query) {
			got = append(got, c.ID)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("commits%s = %v, want %v", query, got, want)
		}
	}
	a.want(400, "GET", "/vm/commits?tag=", "")
	a.want(400, "GET", "/vm/commits?id=x", "")
}

func TestRefusedCommits(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"persistent":true}`)
	if got := a.want(409, "POST", "/vm/"+vm+"/commit", "{}").message(t); !strings.Contains(got, "Running; shut it down first") {
		t.Errorf("commit of a running VM says %q, want what to do", got)
	}
	a.want(200, "POST", "/vm/"+vm+"/shutdown", "")
	labels := `"a0":""`
	for i := range 64 {
		labels += fmt.Sprintf(`,"b%d":""`, i)
	}
	for _, tt := range []struct{ name, body, says string }{
		{"unknown field", `{"name":"x"}`, `"name"`},
		{"tag twice", `{"tags":["a","a"]}`, "twice"},
		{"too many labels", `{"labels":{` + labels + `}}`, "65 labels"},
		{"label without a name", `{"labels":{"":"x"}}`, "empty"},
		{"long name of a label", `{"labels":{"` + strings.Repeat("x", 257) + `":""}}`, "256"},
		{"long label", `{"labels":{"a":"` + strings.Repeat("x", 1025) + `"}}`, "1024"},
		{"control character in a label", `{"labels":{"a":"\n"}}`, "characters"},
		{"long cache key", `{"cache_key":"` + strings.Repeat("x", 257) + `"}`, "256"},
		{"control character in the cache key", `{"cache_key":"\u0000"}`, "cache_key"},
		{"labels that are no texts", `{"labels":{"a":1}}`, "labels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("POST", "/vm/"+vm+"/commit", tt.body)
			if got.status != 400 || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("commit %s = %d %s, want 400 and %q", tt.body, got.status, got.body, tt.says)
			}
		})
	}
	if got := a.listCommits(""); len(got) > 0 {
		t.Errorf("commits after the refusals = %v, want none", got)
	}
}

func TestCommitsAreBounded(t *testing.T) {
	a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
	a.committed("")
	for range 999 {
		a.commit("sbox-1", "")
	}
	if got := a.want(507, "POST", "/vm/sbox-1/commit", "").message(t); !strings.Contains(got, "1000") {
		t.Errorf("one commit too many is refused with %q, want the limit named", got)
	}
	a.want(200, "DELETE", "/vm/commits/"+a.firstCommit(), "")
	a.commit("sbox-1", "")
}

func TestForkTags(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	id := a.committed(`{"tags":["name=built","x","y"]}`).ID
	for _, tt := range []struct {
		name, body string
		want       []string
	}{
		{"by default", `{}`, []string{"x", "y"}},
		{"append", `{"tag_mode":"append","tags":["z"]}`, []string{"x", "y", "z"}},
		{"append what is there", `{"tags":["x","z"]}`, []string{"y", "x", "z"}},
		{"replace", `{"tag_mode":"replace","tags":["z"]}`, []string{"z"}},
		{"replace by none", `{"tag_mode":"replace"}`, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := a.described(a.fork(id, "", tt.body).Hostname).Tags; !cmp.Equal(got, tt.want) {
				t.Errorf("fork %s has tags %q, want %q", tt.body, got, tt.want)
			}
		})
	}
}

func TestRefusedForks(t *testing.T) {
	a := newAPI(t, slicertest.Options{Groups: []slicer.SlicerHostGroup{{Name: "sbox", CPUs: 4, RamBytes: 8 << 30}}})
	id := a.committed("").ID
	for _, tt := range []struct {
		name, query, body string
		status            int
		says              string
	}{
		{"unknown wait", "?wait=userdata", "{}", 400, "agent or none"},
		{"timeout alone", "?timeout=3s", "{}", 400, "needs wait"},
		{"unknown tag mode", "", `{"tag_mode":"merge"}`, 400, `"merge"`},
		{"fixup", "", `{"fixups":["machine-id"]}`, 501, `"machine-id"`},
		{"too many CPUs", "", `{"vcpu":5}`, 400, "vcpu 5"},
		{"too much RAM", "", `{"ram_bytes":8589934593}`, 400, "ram_bytes"},
		{"negative CPUs", "", `{"vcpu":-1}`, 400, "vcpu"},
		{"unknown secret", "", `{"secrets":["s"]}`, 400, `"s"`},
		{"name taken", "", `{"tags":["name=base"]}`, 409, `"sbox-1"`},
		{"network that is let through", "", `{"network":{"allow":["::/0"]}}`, 501, "network"},
		{"unknown field", "", `{"cpus":1}`, 400, `"cpus"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("POST", "/vm/commits/"+id+"/fork"+tt.query, tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("fork%s %s = %d %s, want %d and %q", tt.query, tt.body, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	a.want(404, "POST", "/vm/commits/none/fork", "{}")
	if got := a.hostnames("/nodes"); !cmp.Equal(got, []string{"sbox-1"}) {
		t.Errorf("VMs after the refusals = %v, want none more", got)
	}
}

func TestForkThatTimesOutLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe, Boot: func(ctx context.Context, _ string) error {
			if hang {
				<-ctx.Done()
			}
			return context.Cause(ctx)
		}})
		defer a.srv.Close()
		id := a.committed("").ID
		hang = true
		begin := time.Now()
		a.want(408, "POST", "/vm/commits/"+id+"/fork?wait=agent&timeout=5s", `{"persistent":true}`)
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("fork gave up after %s, want 5s", took)
		}
		hang = false
		a.srv.Restart()
		if got := a.hostnames("/nodes"); !cmp.Equal(got, []string{"sbox-1"}) {
			t.Errorf("VMs after the time-out = %v, want none more", got)
		}
		a.want(200, "DELETE", "/vm/commits/"+id, "") // nobody forks it any more
	})
}
