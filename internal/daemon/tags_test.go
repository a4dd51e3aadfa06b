package daemon_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// tags are a VM's tags as its tags call gives them.
func (a *api) tags(vm string) []string {
	a.t.Helper()
	var got struct {
		Hostname string
		Tags     []string
	}
	decode(a.t, a.want(200, "GET", "/vm/"+vm+"/tags", "").body, &got)
	if got.Hostname != vm {
		a.t.Errorf("tags of %s are of %q", vm, got.Hostname)
	}
	return got.Tags
}

func TestPatchTags(t *testing.T) {
	for _, tt := range []struct {
		name, tags, patch string
		want              []string
	}{
		{"add", `["a"]`, `{"add":["b","c"]}`, []string{"a", "b", "c"}},
		{"add what is there", `["a"]`, `{"add":["a"]}`, []string{"a"}},
		{"add the same twice", `[]`, `{"add":["a","a"]}`, []string{"a"}},
		{"remove", `["a","b"]`, `{"remove":["a"]}`, []string{"b"}},
		{"remove what isn't there", `["a"]`, `{"remove":["b"]}`, []string{"a"}},
		{"add and remove", `["a"]`, `{"add":["b"],"remove":["a"]}`, []string{"b"}},
		{"add nothing", `["a"]`, `{"add":[]}`, []string{"a"}},
		{"replace", `["a","b"]`, `{"replace":["c"]}`, []string{"c"}},
		{"replace by nothing", `["a"]`, `{"replace":[]}`, []string{}},
		{"name a VM that has no name", `["a"]`, `{"add":["name=x"]}`, []string{"a", "name=x"}},
		{"add beside the name", `["name=x"]`, `{"add":["a"]}`, []string{"name=x", "a"}},
		{"add the name that it has", `["name=x"]`, `{"add":["name=x"]}`, []string{"name=x"}},
		{"replace all but the name", `["name=x","a"]`, `{"replace":["b","name=x"]}`, []string{"b", "name=x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, slicertest.Options{})
			vm := a.create(`{"tags":` + tt.tags + `}`)
			var got struct {
				Hostname string
				Tags     []string
			}
			decode(t, a.want(200, "PATCH", "/vm/"+vm+"/tags", tt.patch).body, &got)
			if diff := cmp.Diff(tt.want, got.Tags); diff != "" || got.Hostname != vm {
				t.Errorf("PATCH %s of %q (-want +got):\n%s", tt.patch, got.Hostname, diff)
			}
			if diff := cmp.Diff(tt.want, a.tags(vm)); diff != "" {
				t.Errorf("tags after PATCH %s (-want +got):\n%s", tt.patch, diff)
			}
		})
	}
}

func TestRefusedTags(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{"tags":["name=one","a"]}`)
	a.create(`{"tags":["b"]}`)
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	tooMany, err := json.Marshal(map[string]any{"add": many})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"unknown VM", "sbox-9", `{"add":["x"]}`, 404, `"sbox-9"`},
		{"nothing", "sbox-1", `{}`, 400, "required"},
		{"no body", "sbox-1", ``, 400, "required"},
		{"replace and add", "sbox-1", `{"add":["x"],"replace":["y"]}`, 400, "replace"},
		{"replace and remove", "sbox-1", `{"remove":["a"],"replace":[]}`, 400, "replace"},
		{"added and removed", "sbox-1", `{"add":["x"],"remove":["x"]}`, 400, "both"},
		{"empty tag", "sbox-1", `{"add":[""]}`, 400, "empty"},
		{"long tag", "sbox-1", `{"add":["` + strings.Repeat("x", 257) + `"]}`, 400, "256"},
		{"too many", "sbox-1", string(tooMany), 400, "64"},
		{"the same twice", "sbox-1", `{"replace":["name=one","x","x"]}`, 400, "twice"},
		{"remove the name", "sbox-1", `{"remove":["name=one"]}`, 400, "can't be changed"},
		{"replace without the name", "sbox-1", `{"replace":["x"]}`, 400, "can't be changed"},
		{"another name", "sbox-1", `{"replace":["name=two"]}`, 400, "can't be changed"},
		{"a second name", "sbox-1", `{"add":["name=two"]}`, 400, "one name"},
		{"a name that is taken", "sbox-2", `{"add":["name=one"]}`, 409, `"sbox-1"`},
		{"good and bad together", "sbox-2", `{"add":["good",""]}`, 400, "empty"},
		{"unknown field", "sbox-1", `{"set":["x"]}`, 400, "set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.call("PATCH", "/vm/"+tt.path+"/tags", tt.body)
			if got.status != tt.status || !strings.Contains(got.message(t), tt.says) {
				t.Errorf("PATCH %s = %d %s, want %d and %q", tt.body, got.status, got.body, tt.status, tt.says)
			}
		})
	}
	for vm, want := range map[string][]string{"sbox-1": {"name=one", "a"}, "sbox-2": {"b"}} {
		if diff := cmp.Diff(want, a.tags(vm)); diff != "" {
			t.Errorf("tags of %s after the refusals (-want +got):\n%s", vm, diff)
		}
	}
	a.want(404, "GET", "/vm/sbox-9/tags", "")
}

func TestOneOfManyGetsAName(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	var group sync.WaitGroup
	statuses := make(chan int, 8)
	for range cap(statuses) {
		vm := a.create(`{}`)
		group.Go(func() {
			statuses <- a.call("PATCH", "/vm/"+vm+"/tags", `{"add":["name=x"]}`).status
			a.hostnames("/nodes?tag=name=x")
		})
	}
	group.Wait()
	close(statuses)
	got := map[int]int{}
	for status := range statuses {
		got[status]++
	}
	if diff := cmp.Diff(map[int]int{200: 1, 409: 7}, got); diff != "" {
		t.Errorf("statuses of one name for eight VMs (-want +got):\n%s", diff)
	}
	if got := a.hostnames("/nodes?tag=name=x"); len(got) != 1 {
		t.Errorf("VMs called x = %v, want one", got)
	}
}
