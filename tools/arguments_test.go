package tools_test

import (
	"encoding/json"
	"strings"
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// TestBadArguments needs no daemon: no such call reaches it.
func TestBadArguments(t *testing.T) {
	s := connect(t, tools.Config{Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)})
	for _, tc := range []struct {
		name string
		tool string
		args any
		want []string
	}{
		{"an unknown argument names the nearest", "exec", args{"comand": "ls", "command": "ls"}, []string{`unknown argument "comand"; did you mean command?`, "command, vm, cwd, env, user, stdin, timeout_seconds, yield_seconds, background"}},
		{"an unknown argument names the list", "exec", args{"command": "ls", "quux": 1}, []string{`unknown argument "quux"`, "it takes: command, vm"}},
		{"case counts", "pause", args{"VM": "x"}, []string{`unknown argument "VM"; did you mean vm?`}},
		{"a tool without arguments says so", "list_secrets", args{"all": true}, []string{`unknown argument "all"`, "it takes no arguments"}},
		{"every fault is named", "exec", args{"cmd": "ls", "timeout_seconds": 0}, []string{`did you mean command?`, "command is required", "timeout_seconds must be between 1 and 86400, got 0"}},
		{"a number for a string", "pause", args{"vm": 7}, []string{"vm must be a string, got a number"}},
		{"an array for a string", "exec", args{"command": []string{"ls"}}, []string{"command must be a string, got an array"}},
		{"an object for a string", "exec", args{"command": args{"a": 1}}, []string{"command must be a string, got an object"}},
		{"a string for a boolean", "list_vms", args{"all": "yes"}, []string{"all must be true or false, got a string"}},
		{"a string for an integer", "exec", args{"command": "ls", "timeout_seconds": "5"}, []string{"timeout_seconds must be an integer, got a string"}},
		{"a fraction for an integer", "create_vm", args{"cpus": 1.5}, []string{"cpus must be an integer, got 1.5"}},
		{"a huge integer", "create_vm", args{"cpus": json.Number("1e300")}, []string{"cpus must be between 1 and 1024, got 1e300"}},
		{"an object for an array", "exec", args{"command": "ls", "env": args{"A": "b"}}, []string{"env must be an array, got an object"}},
		{"a number in an array of strings", "exec", args{"command": "ls", "env": []any{"A=b", 3}}, []string{"env[1] must be a string, got a number"}},
		{"too many items", "create_vm", args{"tags": strings.Split(strings.Repeat("x,", 20)+"x", ",")}, []string{"tags must have at most 20 items, got 21"}},
		{"a missing argument says what it is", "exec", args{}, []string{"command is required: Script for bash"}},
		{"null is missing", "exec", args{"command": nil}, []string{"command is required"}},
		{"no arguments at all", "delete_vm", nil, []string{"vm is required"}},
		{"an empty string", "exec", args{"command": ""}, []string{"command must not be empty"}},
		{"only white space", "exec", args{"command": " \n"}, []string{"command must not be empty"}},
		{"a NUL character", "exec", args{"command": "a\x00b"}, []string{"command must not contain a NUL character"}},
		{"too long a string", "pause", args{"vm": strings.Repeat("x", 254)}, []string{"vm must have at most 253 characters, got 254"}},
		{"beyond the maximum", "exec", args{"command": "ls", "yield_seconds": 51}, []string{"yield_seconds must be between 1 and 50, got 51"}},
		{"arguments that are an array", "pause", []int{1}, []string{"the arguments of pause must be a JSON object, got an array"}},
		{"arguments that are a string", "pause", "sbox-1", []string{"the arguments of pause must be a JSON object, got a string"}},
		{"an impossible user", "exec", args{"command": "ls", "user": "bob:x"}, []string{`user "bob:x" is not known`, "ubuntu", "root", "uid"}},
		{"the uid that stands for none", "exec", args{"command": "ls", "user": "4294967295"}, []string{"is not known"}},
		{"a relative working folder", "exec", args{"command": "ls", "cwd": "src"}, []string{`cwd "src" can't be used`, "absolute"}},
		{"an environment entry without a value", "exec", args{"command": "ls", "env": []string{"SECRET"}}, []string{"env[0] can't be used", "KEY=VALUE"}},
		{"a handle that is none", "read_process", args{"process": "42"}, []string{`process "42" is no handle`, "list_processes"}},
		{"a cursor that is none", "read_process", args{"process": "ex_1", "cursor": "-1"}, []string{`cursor "-1" is none`}},
		{"a regular expression that is none", "read_process", args{"process": "ex_1", "until": "("}, []string{"until is not a regular expression"}},
		{"a relative path in the VM", "read_file", args{"file_path": "etc/hosts"}, []string{`file_path "etc/hosts" can't be used`, "absolute"}},
		{"a mode that is not octal", "create_secret", args{"name": "x", "from_file": "f", "mode": "rw"}, []string{`mode "rw" can't be used`, "0600"}},
		{"a mode with more than permissions", "create_secret", args{"name": "x", "from_file": "f", "mode": "4755"}, []string{`mode "4755" can't be used`}},
		{"a secret that climbs", "create_secret", args{"name": "..", "from_file": "f"}, []string{`name ".." can't be used`}},
		{"a secret with a slash", "create_secret", args{"name": "a/b", "from_file": "f"}, []string{`name "a/b" can't be used`}},
		{"a malformed glob", "cp_to_vm", args{"host_path": "x", "vm_path": "/x", "exclude": []string{"["}}, []string{`exclude[0] "[" is not a well-formed glob`}},
		{"a glob that takes back", "cp_to_vm", args{"host_path": "x", "vm_path": "/x", "exclude": []string{"a", "!b"}}, []string{`exclude[1] "!b" can't be used`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.fail(tc.tool, tc.args)
			wantText(t, tc.tool, got, tc.want...)
			if strings.Contains(got, "json:") || strings.Contains(got, "Go struct") {
				t.Errorf("%s = %q, which speaks of Go", tc.tool, got)
			}
		})
	}
}

func TestAnUnknownArgumentIsNotRepeatedWhole(t *testing.T) {
	s := connect(t, tools.Config{Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil)})
	a := args{}
	for i := range 100 {
		a[strings.Repeat("x\u202e", 2000+i)] = 1
	}
	got := s.fail("pause", a)
	if n := len(got); n > 6000 {
		t.Errorf("pause with 100 long unknown arguments answered %d bytes", n)
	}
	if strings.Contains(got, "\u202e") {
		t.Errorf("pause = %q, which has a bidirectional control", got)
	}
}
