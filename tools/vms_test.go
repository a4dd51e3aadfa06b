package tools_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// vmRecord is what answers say about a VM.
type vmRecord struct {
	VM     string   `json:"vm"`
	Name   string   `json:"name"`
	Status string   `json:"status"`
	Owned  bool     `json:"owned"`
	Owner  string   `json:"owner"`
	Group  string   `json:"group"`
	CPUs   int      `json:"cpus"`
	RAMGiB float64  `json:"ram_gib"`
	Tags   []string `json:"tags"`
	Next   string   `json:"next"`
}

type vmList struct {
	VMs    []vmRecord `json:"vms"`
	Owned  int        `json:"owned"`
	Others int        `json:"others"`
	Hidden int        `json:"hidden"`
	Next   string     `json:"next"`
}

// createOther makes a VM that the session's server doesn't own.
func createOther(t *testing.T, client *slicer.SlicerClient, tags ...string) string {
	t.Helper()
	vm, err := client.CreateVMWithOptions(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{Tags: tags}, slicer.CreateVMOptions{Wait: "agent"})
	if err != nil {
		t.Fatalf("CreateVM: %v", err)
	}
	return vm.Hostname
}

func TestCreateVM(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	var made vmRecord
	text := s.record("create_vm", args{"name": "web", "cpus": 1, "ram_gib": 1, "tags": []string{"job=42", "job=42"}}, &made)
	if !strings.HasPrefix(made.VM, "sbox-") || made.Name != "web" || !made.Owned || made.CPUs != 1 || made.RAMGiB != 1 || made.Group != "sbox" {
		t.Errorf("create_vm = %+v, want VM sbox-n named web with 1 CPU and 1 GiB, owned", made)
	}
	wantText(t, "create_vm", text, made.VM, "(web)", "1 CPU", "1 GiB", "owned by this server", "job=42", `exec(vm="web"`, "delete_vm")
	wantText(t, "create_vm's record", made.Next, `exec(vm="web"`, "delete_vm")

	nodes, err := client.ListVMs(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Fatalf("ListVMs = %v, %v; want one", nodes, err)
	}
	tags := strings.Join(nodes[0].Tags, " ")
	for _, want := range []string{"created-by=slicervm-mcp", "owner=" + testOwner, "name=web", "job=42"} {
		if !strings.Contains(tags, want) {
			t.Errorf("the VM's tags are %q, want %q among them", tags, want)
		}
	}
	wantText(t, "exec by name", s.call("exec", args{"vm": "web", "command": "echo hi"}), "exit 0 in ", "```\nhi\n```")
	wantText(t, "exec without a name", s.call("exec", args{"command": "echo hi"}), "```\nhi\n```")
}

func TestCreateVMRefusals(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	s.call("create_vm", args{"name": "web"})
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"a size above the group's", args{"cpus": 1000}, []string{"too big", `host group "sbox" gives at most`, "CPU", "GiB"}},
		{"memory above the group's", args{"ram_gib": 60000}, []string{"too big", "at most"}},
		{"an unknown group", args{"group": "sbx"}, []string{`no host group named "sbx"`, `Did you mean "sbox"?`, "sbox (up to"}},
		{"a name that is taken", args{"name": "web"}, []string{`name "web" is taken`, "list_vms(all=true)"}},
		{"a name like a hostname", args{"name": "sbox-9"}, []string{`name "sbox-9" can't be used`, "Choose another"}},
		{"a name with a space", args{"name": "my vm"}, []string{`name "my vm" can't be used`, "letters"}},
		{"a reserved tag", args{"tags": []string{"owner=somebody"}}, []string{`tag "owner=somebody" can't be used`, "this server sets owner="}},
		{"a name as a tag", args{"tags": []string{"name=x"}}, []string{`tag "name=x" can't be used`, "Use name"}},
		{"a tag with a newline", args{"tags": []string{"a\nb"}}, []string{`tag "a\nb" can't be used`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantText(t, "create_vm", s.fail("create_vm", tc.args), tc.want...)
		})
	}
	if nodes, err := client.ListVMs(t.Context()); err != nil || len(nodes) != 1 {
		t.Errorf("after refusals ListVMs = %v, %v; want only the first VM", nodes, err)
	}
}

func TestListVMs(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	wantText(t, "list_vms of none", s.call("list_vms", args{}), "0 VMs owned by this server, 0 others.", "create_vm")

	other := createOther(t, client, "owner=somebody", "note=\u202eevil\u200b")
	s.call("create_vm", args{"name": "web", "tags": []string{"job=1"}})
	s.call("create_vm", args{"tags": []string{"job=2"}})
	s.call("pause", args{"vm": "web"})

	var mine, all, tagged, elsewhere vmList
	text := s.record("list_vms", args{}, &mine)
	if len(mine.VMs) != 2 || mine.Owned != 2 || mine.Others != 1 {
		t.Errorf("list_vms = %+v, want the 2 owned VMs and 1 other counted", mine)
	}
	wantText(t, "list_vms", text, "2 VMs owned by this server, 1 other.", "(web), Paused, owned by this server", "tags job=1")
	if strings.Contains(text, other) {
		t.Errorf("list_vms = %q, which lists %s of somebody else", text, other)
	}

	text = s.record("list_vms", args{"all": true}, &all)
	if len(all.VMs) != 3 {
		t.Errorf("list_vms(all) = %+v, want 3 VMs", all)
	}
	for _, vm := range all.VMs {
		if got, want := vm.Owned, vm.VM != other; got != want {
			t.Errorf("list_vms(all): %s is marked owned=%v, want %v", vm.VM, got, want)
		}
		if vm.VM == other && vm.Owner != "somebody" {
			t.Errorf("list_vms(all): %s is owned by %q, want somebody", vm.VM, vm.Owner)
		}
		for _, fact := range append(vm.Tags, vm.VM, vm.Status, fmt.Sprintf("%v GiB", vm.RAMGiB)) {
			wantText(t, "list_vms(all)", text, fact)
		}
	}
	wantText(t, "list_vms(all)", text, "owned by somebody", `\u202eevil\u200b`)

	s.record("list_vms", args{"tag": "job=2"}, &tagged)
	if len(tagged.VMs) != 1 || !cmp.Equal(tagged.VMs[0].Tags, []string{"job=2"}) {
		t.Errorf("list_vms(tag=job=2) = %+v, want the one VM with that tag and no other tags shown", tagged)
	}
	s.record("list_vms", args{"all": true, "group": "nope"}, &elsewhere)
	if len(elsewhere.VMs) != 0 {
		t.Errorf("list_vms(group=nope) = %+v, want none", elsewhere)
	}
}

func TestVMArgument(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	wantText(t, "exec without any VM", s.fail("exec", args{"command": "true"}), "there is no VM yet", "Call create_vm first, and wait for its answer")
	wantText(t, "exec on a VM of none", s.fail("exec", args{"vm": "web", "command": "true"}), `no VM named "web"`, "create_vm")

	other := createOther(t, client, "name=api")
	wantText(t, "exec with only another's VM", s.fail("exec", args{"command": "true"}), "owns no VM", "Call create_vm first, and wait for its answer", other+" (api)")
	wantText(t, "exec on another's VM by name", s.call("exec", args{"vm": "api", "command": "echo hi"}), "hi")

	s.call("create_vm", args{"name": "web"})
	s.call("create_vm", args{"name": "worker"})
	wantText(t, "exec with two", s.fail("exec", args{"command": "true"}), "owns 2 VMs", "(web)", "(worker)", `vm="web"`)
	wantText(t, "a misspelt name", s.fail("exec", args{"vm": "wokrer", "command": "true"}), `no VM named "wokrer"`, `Did you mean "worker"?`, "(web)", "(worker)", "(api)", "list_vms(all=true)")
	for _, tool := range []string{"pause", "resume", "delete_vm", "read_file", "cp_to_vm"} {
		a := args{"vm": "nope"}
		switch tool {
		case "read_file":
			a["file_path"] = "/x"
		case "cp_to_vm":
			continue // it looks at the host first, and there is no root
		}
		wantText(t, tool, s.fail(tool, a), `no VM named "nope"`)
	}
}

// TestDeleteOnlyWhatIsOwned holds in both directions.
func TestDeleteOnlyWhatIsOwned(t *testing.T) {
	client := fakeDaemon(t)
	a := connect(t, tools.Config{Client: client, Owner: "alice"})
	b := connect(t, tools.Config{Client: client, Owner: "bob"})
	a.call("create_vm", args{"name": "of-alice"})
	b.call("create_vm", args{"name": "of-bob"})
	nobodys := createOther(t, client)

	wantText(t, "alice deletes bob's", a.fail("delete_vm", args{"vm": "of-bob"}), "left alone", "belongs to owner=bob", "owner=alice", "ask the user")
	wantText(t, "bob deletes alice's", b.fail("delete_vm", args{"vm": "of-alice"}), "left alone", "belongs to owner=alice")
	wantText(t, "alice deletes nobody's", a.fail("delete_vm", args{"vm": nobodys}), "left alone", "no owner tag")
	if nodes, err := client.ListVMs(t.Context()); err != nil || len(nodes) != 3 {
		t.Fatalf("after refusals ListVMs = %v, %v; want all 3", nodes, err)
	}
	var deleted struct {
		VM, Name string
		Deleted  bool
		Note     string
	}
	text := a.record("delete_vm", args{"vm": "of-alice"}, &deleted)
	if !deleted.Deleted || deleted.Name != "of-alice" {
		t.Errorf("delete_vm = %+v, want of-alice deleted", deleted)
	}
	wantText(t, "delete_vm", text, deleted.VM, "(of-alice) is deleted", "disk is gone")
	wantText(t, "delete_vm again", a.fail("delete_vm", args{"vm": "of-alice"}), `no VM named "of-alice"`)
	b.call("delete_vm", args{"vm": "of-bob"})
}

func TestPauseAndResume(t *testing.T) {
	dir := t.TempDir()
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client, Roots: []string{dir}})
	s.call("create_vm", args{"name": "web"})
	for range 2 { // pausing twice is no fault
		var state struct{ VM, Name, Status, Next string }
		text := s.record("pause", args{}, &state)
		if state.Name != "web" || state.Status != "paused" {
			t.Errorf("pause = %+v, want web paused", state)
		}
		wantText(t, "pause", text, "is paused", `resume(vm="web")`)
	}
	want := `VM "web" is paused. Call resume(vm="web") first, then retry.`
	for tool, a := range map[string]args{
		"exec":      {"command": "true"},
		"read_file": {"file_path": "/etc/hosts"},
		"cp_to_vm":  {"host_path": dir, "vm_path": "/tmp/x"},
	} {
		if got := s.fail(tool, a); got != want {
			t.Errorf("%s on a paused VM = %q, want %q", tool, got, want)
		}
	}
	for range 2 {
		wantText(t, "resume", s.call("resume", args{"vm": "web"}), "is running", `exec(vm="web"`)
	}
	wantText(t, "exec after resume", s.call("exec", args{"command": "echo hi"}), "hi")
}

// TestAnswersAreTheSameEitherWay holds the facts of text and record against
// each other.
func TestAnswersAreTheSameEitherWay(t *testing.T) {
	client := fakeDaemon(t)
	s := connect(t, tools.Config{Client: client})
	made := s.raw(t.Context(), "create_vm", args{"name": "web", "tags": []string{"job=7"}})
	for tool, a := range map[string]args{"list_vms": {}, "pause": {}} {
		res := s.raw(t.Context(), tool, a)
		if res.StructuredContent == nil {
			t.Errorf("%s has no structuredContent", tool)
		}
	}
	s.call("resume", args{})
	record, ok := made.StructuredContent.(map[string]any)
	if !ok {
		t.Fatalf("create_vm's structuredContent is %T, want an object", made.StructuredContent)
	}
	text := textOf(t, made)
	for key, value := range record {
		switch v := value.(type) {
		case string:
			wantText(t, "create_vm's text for "+key, text, v)
		case []any:
			for _, item := range v {
				wantText(t, "create_vm's text for "+key, text, fmt.Sprint(item))
			}
		}
	}
	if res := s.raw(t.Context(), "exec", args{"command": "echo hi"}); res.StructuredContent != nil {
		t.Errorf("exec has structuredContent %v, want none beside bulk text", res.StructuredContent)
	}
}

// TestNew is about configurations that can't work.
func TestNew(t *testing.T) {
	client := slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)
	for _, tc := range []struct {
		name string
		cfg  tools.Config
		want string
	}{
		{"no client", tools.Config{Owner: "x"}, "need a client"},
		{"no owner", tools.Config{Client: client}, "need an owner"},
		{"an owner with a space", tools.Config{Client: client, Owner: "a b"}, `owner "a b" can't be used`},
		{"a root that is missing", tools.Config{Client: client, Owner: "x", Roots: []string{t.TempDir() + "/no"}}, "can't be used: no such file"},
		{"an empty root", tools.Config{Client: client, Owner: "x", Roots: []string{""}}, "its path is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := tools.New(tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New = %v, %v; want an error with %q", set, err, tc.want)
			}
		})
	}
}
