package tools_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// factsStage is where the rows of TestField7FactsAreTheSameInEachForm play: one VM
// of this owner with all that a VM can have, another of somebody else, a root
// and a secret.
type factsStage struct {
	*session
	srv    *slicertest.Server
	client *slicer.SlicerClient
	vm     string
	root   string
}

// The names on the stage. Each is a fact: it is in both forms of an answer or in
// none.
func stageNames() []string {
	return []string{"sbox-1", "sbox-2", "sbox-3", "web", "extra", "job=42", "somebody", "/srv/data.txt", "/srv/new/f", "/srv/dir", "in/data.bin", "out/copy", "token", "CANARY"}
}

func newFactsStage(t *testing.T) *factsStage {
	t.Helper()
	st := &factsStage{root: t.TempDir()}
	put(t, st.root, map[string]string{
		"in/data.bin": strings.Repeat("x", 1_234_567), "in/more": "more", "in/skip.log": "skipped", "in/.slicerignore": "*.log\n",
	})
	st.srv = slicertest.NewServer(t, slicertest.Options{
		Groups: []slicer.SlicerHostGroup{
			{Name: "sbox", CPUs: 4, RamBytes: slicer.GiB(8), Arch: "x86_64"},
			{Name: "gpu", CPUs: 16, RamBytes: slicer.GiB(64), GPUCount: 2},
		},
		Shell: launched(stuckOr),
	})
	st.client = st.srv.Client()
	st.session = connect(t, tools.Config{
		Client: st.client, Roots: []string{st.root}, CallLimit: 3 * time.Second, SecretEnv: []string{"CANARY"},
		Getenv: func(string) string { return "value-of-the-secret" },
	})
	var made vmRecord
	st.record("create_vm", args{"name": "web", "cpus": 2, "ram_gib": 3, "tags": []string{"job=42"}, "ttl": "90m", "persistent": true, "wait": "agent"}, &made)
	st.vm = made.VM
	createOther(t, st.client, "owner=somebody")
	st.call("create_secret", args{"name": "token", "from_env": "CANARY", "mode": "0440", "user": "1234"})
	files := st.srv.Files(st.vm)
	seed(t, files, map[string]string{"/srv/data.txt": strings.Repeat("line\n", 2500), "/srv/empty": "", "/srv/dir/a": "a", "/srv/dir/b": "b"})
	if err := files.Mkdir("/srv/none"); err != nil {
		t.Fatal(err)
	}
	return st
}

// factsRow is one call.
type factsRow struct {
	rule, tool string
	before     func(st *factsStage)
	args       args
	bulk       bool     // its answer is text alone
	facts      []string // are in the text, and in the record unless bulk
}

// succeeding has a success of every tool, and each other shape of its answers.
func succeeding() []factsRow {
	running := func(st *factsStage) { st.call("exec", args{"vm": "web", "command": "stuck", "background": true}) }
	return []factsRow{
		{rule: "one of every kind of fact", tool: "create_vm", args: args{"name": "extra", "ttl": "2h", "tags": []string{"a=b"}, "cpus": 1, "ram_gib": 1, "persistent": true}, facts: []string{"sbox-3", "extra", "Running", "a=b", "1", "sbox", "delete_vm when done"}},
		{rule: "not waited for", tool: "create_vm", args: args{"wait": "none"}, facts: []string{"sbox-3", "starting"}},
		{rule: "its agent isn't up in time", tool: "create_vm", before: func(st *factsStage) {
			st.srv.Fault("GET /vm/{vm}/health", slicertest.Fault{Status: 502})
		}, facts: []string{"sbox-3", "starting"}},
		{rule: "those that are owned", tool: "list_vms", facts: []string{"sbox-1", "web", "job=42", "3", "2", "1"}},
		{rule: "those of others too", tool: "list_vms", args: args{"all": true}, facts: []string{"sbox-1", "sbox-2", "somebody"}},
		{rule: "none", tool: "list_vms", args: args{"tag": "no=such"}, facts: []string{"leave them out"}},
		{rule: "more than are listed", tool: "list_vms", before: func(st *factsStage) {
			for range 100 {
				createOther(st.t, st.client, "job=many")
			}
		}, args: args{"all": true}, facts: []string{"not shown"}},
		{rule: "several, one with GPUs", tool: "list_host_groups", facts: []string{"sbox", "gpu", "16", "64", "2", "x86_64", "4", "8"}},
		{rule: "one that runs", tool: "get_vm", facts: []string{"sbox-1", "web", "Running", "answers"}},
		{rule: "one that is paused", tool: "get_vm", before: func(st *factsStage) { st.call("pause", args{}) }, facts: []string{"paused", "resume("}},
		{rule: "one whose agent is silent", tool: "get_vm", before: func(st *factsStage) {
			st.srv.Fault("GET /vm/{vm}/health", slicertest.Fault{Status: 502})
			st.srv.Fault("GET /vm/{vm}/stats", slicertest.Fault{Status: 502})
		}, facts: []string{"does not answer", "vm_logs("}},
		{rule: "one that is owned", tool: "delete_vm", args: args{"vm": "web"}, facts: []string{"sbox-1", "web"}},
		{rule: "a VM that runs", tool: "pause", facts: []string{"sbox-1", "web", "paused", "resume("}},
		{rule: "a VM that is paused", tool: "resume", before: func(st *factsStage) { st.call("pause", args{}) }, facts: []string{"sbox-1", "running"}},
		{rule: "a VM that runs", tool: "suspend", facts: []string{"sbox-1", "web", "suspended", "restore("}},
		{rule: "a VM that is suspended", tool: "restore", before: func(st *factsStage) { st.call("suspend", args{}) }, facts: []string{"sbox-1", "running"}},
		{rule: "a persistent one", tool: "shutdown", args: args{"vm": "web"}, facts: []string{"stopped", "relaunch("}},
		{rule: "an ephemeral one", tool: "shutdown", before: func(st *factsStage) { st.call("create_vm", args{"name": "extra"}) }, args: args{"vm": "extra"}, facts: []string{"sbox-3", "extra", "gone with its disk"}},
		{rule: "one that was shut down", tool: "relaunch", before: func(st *factsStage) { st.call("shutdown", args{"vm": "web"}) }, facts: []string{"sbox-1", "running"}},
		{rule: "one that runs", tool: "relaunch", facts: []string{"It ran already"}},
		{rule: "a console", tool: "vm_logs", bulk: true, facts: []string{"web"}},

		{rule: "one that ends", tool: "exec", args: args{"command": "echo hi"}, bulk: true, facts: []string{"exit 0 in", "hi"}},
		{rule: "one that goes on", tool: "exec", args: args{"command": "stuck", "background": true}, bulk: true, facts: []string{"started (process ex_"}},
		{rule: "one that fails", tool: "exec", args: args{"command": "false"}, bulk: true, facts: []string{"exit 1 in"}},
		{rule: "one that runs", tool: "read_process", before: running, args: args{"process": "<process>", "wait_seconds": 0}, bulk: true, facts: []string{"still running"}},
		{rule: "none", tool: "list_processes", facts: []string{"web"}},
		{rule: "some that wrote much", tool: "list_processes", before: func(st *factsStage) {
			st.call("exec", args{"command": "cat /srv/data.txt"})
			running(st)
			st.call("read_process", args{"process": st.process(), "until": "begun"})
		}, facts: []string{"running", "exit 0", "12500", "6", "cat /srv/data.txt", "stuck", "read_process("}},
		{rule: "one that lost output", tool: "list_processes", before: func(st *factsStage) {
			for range 6 {
				write(st.t, st.client, st.vm, "/srv/data.txt", []byte(strings.Repeat("x", 1<<20)))
			}
			st.call("exec", args{"command": "cat" + strings.Repeat(" /srv/data.txt", 6)})
		}, facts: []string{"6291456"}},
		{rule: "more than are listed", tool: "list_processes", before: func(st *factsStage) {
			for range 51 {
				st.call("exec", args{"command": "true"})
			}
		}, facts: []string{"1", "50"}},
		{rule: "one that runs", tool: "signal_process", before: running, args: args{"process": "<process>", "signal": "KILL"}, facts: []string{"KILL", "killed by SIGKILL"}},
		{rule: "one that has ended", tool: "signal_process", before: func(st *factsStage) {
			st.call("exec", args{"command": "true"})
		}, args: args{"process": "<process>"}, facts: []string{"it had ended before: exit 0"}},

		{rule: "a text", tool: "read_file", args: args{"file_path": "/srv/data.txt", "limit": 1}, bulk: true, facts: []string{"/srv/data.txt", "2500", "line"}},
		{rule: "a new one", tool: "write_file", args: args{"file_path": "/srv/new/f", "content": strings.Repeat("x\n", 1500), "create_parents": true, "mode": "0640"}, facts: []string{"sbox-1", "web", "/srv/new/f", "1500", "3000", "0640", "/srv/new"}},
		{rule: "one that was there", tool: "write_file", args: args{"file_path": "/srv/data.txt", "content": ""}, facts: []string{"0", "0644"}},
		{rule: "one match", tool: "edit_file", args: args{"file_path": "/srv/dir/a", "edits": []args{{"old_string": "a", "new_string": "c"}}}, bulk: true, facts: []string{"/srv/dir/a"}},
		{rule: "a folder", tool: "list_files", args: args{"path": "/srv/dir"}, bulk: true, facts: []string{"/srv/dir", "a", "b"}},
		{rule: "some matches", tool: "search_files", args: args{"path": "/srv", "pattern": "li.e", "limit": 3}, bulk: true, facts: []string{"/srv/data.txt", "line"}},
		{rule: "a file", tool: "remove_file", args: args{"path": "/srv/data.txt"}, facts: []string{"sbox-1", "web", "/srv/data.txt", "12500", "file"}},
		{rule: "an empty file", tool: "remove_file", args: args{"path": "/srv/empty"}, facts: []string{"0"}},
		{rule: "a folder with all below", tool: "remove_file", args: args{"path": "/srv/dir", "recursive": true}, facts: []string{"/srv/dir", "2"}},
		{rule: "an empty folder", tool: "remove_file", args: args{"path": "/srv/none"}},
		{rule: "a file", tool: "cp_to_vm", args: args{"host_path": "in/data.bin", "vm_path": "/srv/new/f"}, facts: []string{"sbox-1", "web", "in/data.bin", "/srv/new/f", "1", "1234567"}},
		{rule: "a folder with ignored ones", tool: "cp_to_vm", args: args{"host_path": "in", "vm_path": "/srv/copied"}, facts: []string{"sbox-1", "web", "/srv/copied"}},
		{rule: "one that takes longer than the call", tool: "cp_to_vm", before: func(st *factsStage) {
			st.srv.Fault("POST /vm/{vm}/cp", slicertest.Fault{Stall: make(chan struct{}), Times: 1})
		}, args: args{"host_path": "in/data.bin", "vm_path": "/srv/new/f"}, facts: []string{"sbox-1", "in/data.bin", "/srv/new/f", "read_process(process=", "signal_process(process="}},
		{rule: "a file", tool: "cp_from_vm", args: args{"vm_path": "/srv/data.txt", "host_path": "out/copy"}, facts: []string{"sbox-1", "web", "/srv/data.txt", "out/copy", "12500"}},
		{rule: "a folder over what is there", tool: "cp_from_vm", before: func(st *factsStage) {
			put(st.t, st.root, map[string]string{"out/copy/a": "old"})
			if err := st.srv.Files(st.vm).Symlink("a", "/srv/dir/link"); err != nil {
				st.t.Fatal(err)
			}
		}, args: args{"vm_path": "/srv/dir/.", "host_path": "out/copy"}, facts: []string{"out/copy"}},

		{rule: "one", tool: "list_secrets", facts: []string{"token", "0440", "1234", "19"}},
		{rule: "more than are listed", tool: "list_secrets", before: func(st *factsStage) {
			for i := range 101 {
				if err := st.client.CreateSecret(st.t.Context(), slicer.CreateSecretRequest{Name: fmt.Sprintf("n%d", i), Data: "x"}); err != nil {
					st.t.Fatal(err)
				}
			}
		}, facts: []string{"2"}},
		{rule: "from the environment", tool: "create_secret", args: args{"name": "other", "from_env": "CANARY"}, facts: []string{"other", "from_env", "19", "0600", "ubuntu"}},
		{rule: "a generated one", tool: "create_secret", args: args{"name": "other", "generate": 24, "user": "root", "mode": "400"}, facts: []string{"other", "generate", "24", "0400", "root"}},
		{rule: "its value", tool: "update_secret", args: args{"name": "token", "generate": 32}, facts: []string{"token", "generate", "32"}},
		{rule: "its mode and owner", tool: "update_secret", args: args{"name": "token", "mode": "0400", "user": "77"}, facts: []string{"token", "0400", "77"}},
		{rule: "one that a VM has", tool: "delete_secret", args: args{"name": "token"}, facts: []string{"token", "web"}},
		{rule: "one that a paused VM may have", tool: "delete_secret", before: func(st *factsStage) { st.call("pause", args{}) }, args: args{"name": "token"}, facts: []string{"token", "web"}},
	}
}

// process is the handle of the newest process in the VM.
func (st *factsStage) process() string {
	st.t.Helper()
	return processOf(st.t, st.call("list_processes", args{}))
}

// failing has a failure of every tool.
func failing() map[string][]args {
	return map[string][]args{
		"create_vm": {{"group": "sboks"}, {"cpus": 99}}, "list_vms": {{"tags": "x"}}, "list_host_groups": {{"x": 1}}, "get_vm": {{"vm": "none"}},
		"delete_vm": {{"vm": "sbox-2"}, {}}, "pause": {{"vm": "none"}}, "resume": {{"vm": "none"}}, "suspend": {{"vm": "none"}}, "restore": {{"vm": "none"}},
		"shutdown": {{"vm": "sbox-2"}}, "relaunch": {{"vm": "none"}}, "vm_logs": {{"lines": 0}},
		"exec":         {{"command": ""}, {"command": "x", "cwd": "/no/such"}, {"command": "x", "user": "nobody-here"}, {"command": "x", "env": []string{"no pair"}}},
		"read_process": {{"process": "ex_none"}, {"process": "x"}, {"process": "ex_none", "until": "("}, {"process": "ex_none", "cursor": "x"}}, "list_processes": {{"vm": "none"}},
		"signal_process": {{"process": "ex_none"}, {"process": "px_none"}},
		"read_file":      {{"file_path": "/none"}, {"file_path": "/srv/data.txt", "offset": 9999}, {"file_path": "/srv/dir"}},
		"write_file":     {{"file_path": "/no/such/f", "content": "x"}, {"file_path": "/srv/dir", "content": "x"}},
		"edit_file":      {{"file_path": "/srv/data.txt", "edits": []args{{"old_string": "line", "new_string": "x"}}}},
		"list_files":     {{"path": "/none"}}, "search_files": {{"pattern": "(", "path": "/srv"}},
		"remove_file": {{"path": "/srv/dir"}, {"path": "/none"}, {"path": "/"}},
		"cp_to_vm":    {{"host_path": "/etc/passwd", "vm_path": "/x"}}, "cp_from_vm": {{"vm_path": "/none", "host_path": "x"}, {"vm_path": "/srv/data.txt", "host_path": "/etc/x"}},
		"list_secrets":  {{"x": 1}},
		"create_secret": {{"name": "token", "generate": 20}, {"name": "x"}, {"name": "x", "from_env": "HOME"}},
		"update_secret": {{"name": "none", "generate": 20}, {"name": "token"}}, "delete_secret": {{"name": "none"}},
	}
}

// stuckOr is a shell that runs words, and the command stuck.
func stuckOr(ctx context.Context, p *slicertest.Proc, script string) int {
	if script == "stuck" {
		return stuck(ctx, p, script)
	}
	return runWords(ctx, p, script)
}
