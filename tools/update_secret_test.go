package tools_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// secretSession is a session with one VM, a root, and an environment of which
// some variables are allowed.
func secretSession(t *testing.T, change func(*tools.Config)) (s *session, srv *slicertest.Server, vm, root string) {
	t.Helper()
	srv = slicertest.NewServer(t)
	root = t.TempDir()
	cfg := tools.Config{
		Client: srv.Client(), Roots: []string{root}, SecretEnv: []string{"API_KEY", "UNSET", "TINY"},
		Getenv: func(name string) string {
			return map[string]string{"API_KEY": "key-from-env", "TINY": "abc", "AWS_SECRET": "not-allowed-value"}[name]
		},
	}
	if change != nil {
		change(&cfg)
	}
	s = connect(t, cfg)
	var made vmRecord
	s.record("create_vm", args{"name": "web"}, &made)
	return s, srv, made.VM, root
}

// secretOf is a secret's value as a VM has it.
func secretOf(t *testing.T, srv *slicertest.Server, vm, name string) string {
	t.Helper()
	data, err := srv.Files(vm).ReadFile("/run/slicer/secrets/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSecretSources(t *testing.T) {
	s, srv, vm, root := secretSession(t, nil)
	put(t, root, map[string]string{"key": "key-from-file\n", "tiny": " abc\n"})
	for _, tc := range []struct {
		name  string
		args  args
		value string
	}{
		{"env", args{"from_env": "API_KEY"}, `^key-from-env$`},
		{"file", args{"from_file": "key"}, "^key-from-file\n$"},
		{"short", args{"generate": 8}, `^[A-Za-z0-9_-]{8}$`},
		{"long", args{"generate": 512}, `^[A-Za-z0-9_-]{512}$`},
	} {
		tc.args["name"] = tc.name
		text := s.call("create_secret", tc.args)
		value := secretOf(t, srv, vm, tc.name)
		if !regexp.MustCompile(tc.value).MatchString(value) || strings.Contains(text, strings.TrimSpace(value)) {
			t.Errorf("create_secret(%v) set %q and said %q; want a value like %s, not said", tc.args, value, text, tc.value)
		}
	}
	a := secretOf(t, srv, vm, "short")
	s.call("update_secret", args{"name": "short", "generate": 8})
	b := secretOf(t, srv, vm, "short")
	if a == b {
		t.Errorf("two generated values are both %q", a)
	}
	for _, tc := range []struct {
		name string
		args args
		want []string
	}{
		{"none", args{}, []string{"Give exactly one of from_env, from_file or generate"}},
		{"two", args{"from_env": "API_KEY", "generate": 9}, []string{"from_env and generate are given", "exactly one"}},
		{"a variable that isn't allowed", args{"from_env": "AWS_SECRET"}, []string{`from_env "AWS_SECRET" can't be used`, "whether it is set or not", "--secret-env", `"API_KEY"`}},
		{"a variable that isn't there", args{"from_env": "UNSET"}, []string{"is allowed", "not set"}},
		{"a short variable", args{"from_env": "TINY"}, []string{"fewer than 4 characters", "Nothing was set", "generate=32"}},
		{"a short file", args{"from_file": "tiny"}, []string{"fewer than 4 characters"}},
		{"too few characters", args{"generate": 7}, []string{"generate must be between 8 and 512"}},
		{"too many characters", args{"generate": 513}, []string{"generate must be between 8 and 512"}},
		{"a value", args{"value": "a-value-given"}, []string{`unknown argument "value"`}},
		{"a bad mode", args{"generate": 9, "mode": "999"}, []string{`mode "999"`}},
		{"a large uid", args{"generate": 9, "user": "70000"}, []string{"goes up to 65535"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.args["name"] = "new"
			text := s.fail("create_secret", tc.args)
			wantText(t, "create_secret", text, tc.want...)
			if strings.Contains(text, "HOME") || strings.Contains(text, "not-allowed-value") {
				t.Errorf("create_secret = %q, want it to tell nothing of the environment", text)
			}
		})
	}
	a = s.fail("create_secret", args{"name": "new", "from_env": "AWS_SECRET"})
	b = s.fail("create_secret", args{"name": "new", "from_env": "NO_SUCH_ONE"})
	if strings.ReplaceAll(a, "AWS_SECRET", "X") != strings.ReplaceAll(b, "NO_SUCH_ONE", "X") {
		t.Errorf("the refusal tells whether a variable is set: %q, %q", a, b)
	}
}

func TestUpdateSecret(t *testing.T) {
	s, srv, vm, root := secretSession(t, nil)
	put(t, root, map[string]string{"key": "second-value"})
	s.call("create_secret", args{"name": "api", "generate": 20})
	first := secretOf(t, srv, vm, "api")
	var got struct{ Name, Path, Source, Mode, User string }
	text := s.record("update_secret", args{"name": "api", "from_file": "key", "mode": "640", "user": "1001"}, &got)
	if got.Source != "from_file" || got.Mode != "0640" || got.User != "1001" || secretOf(t, srv, vm, "api") != "second-value" {
		t.Errorf("update_secret = %+v", got)
	}
	wantText(t, "update_secret", text, "a new value from from_file (12 bytes)", "mode 0640", "owner 1001")
	s.call("update_secret", args{"name": "api", "mode": "0400"})
	wantText(t, "list_secrets", s.call("list_secrets", args{}), "12 bytes, mode 0400, uid 1001")
	if value := secretOf(t, srv, vm, "api"); value != "second-value" {
		t.Errorf("after an update of the mode the value is %q", value)
	}
	// Both the old and the new value stay out of what follows.
	if err := srv.Files(vm).WriteFile("/tmp/f", []byte(first+" and second-value"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantText(t, "read_file", s.call("read_file", args{"file_path": "/tmp/f"}), "[redacted secret api] and [redacted secret api]")
	for _, tc := range []struct {
		args args
		want []string
	}{
		{args{"name": "api"}, []string{"needs something to change", "mode, or user"}},
		{args{"name": "apj", "generate": 8}, []string{`no secret named "apj"`, `Did you mean "api"?`, "list_secrets"}},
		{args{"name": "api", "user": "root"}, []string{"no change of owner to root", "delete_secret"}},
		{args{"name": "../x", "generate": 8}, []string{`name "../x" can't be used`}},
	} {
		wantText(t, fmt.Sprint("update_secret ", tc.args), s.fail("update_secret", tc.args), tc.want...)
	}
}

func TestDeleteSecret(t *testing.T) {
	s, srv, vm, _ := secretSession(t, nil)
	client := srv.Client()
	s.call("create_secret", args{"name": "api", "from_env": "API_KEY"})
	s.call("create_secret", args{"name": "other", "generate": 8})
	s.call("create_vm", args{"name": "narrow", "secrets": []string{"other"}})
	s.call("create_vm", args{"name": "still"})
	s.call("pause", args{"vm": "still"})
	var got struct {
		Name    string
		LostBy  []string `json:"lost_by"`
		Unknown []string
	}
	text := s.record("delete_secret", args{"name": "api"}, &got)
	if got.Name != "api" || len(got.LostBy) != 1 || got.LostBy[0] != "web" || len(got.Unknown) != 1 || got.Unknown[0] != "still" {
		t.Errorf("delete_secret = %+v, want it lost by web, and still not known", got)
	}
	wantText(t, "delete_secret", text, "Secret api is deleted", "1 VM lost it: web", "don't answer", "still")
	if there, err := client.Exists(t.Context(), vm, "/run/slicer/secrets/api"); there || err != nil {
		t.Errorf("the VM has it still: %v, %v", there, err)
	}
	wantText(t, "delete_secret again", s.fail("delete_secret", args{"name": "api"}), `no secret named "api"`, "list_secrets")
	// Its value stays known.
	if err := srv.Files(vm).WriteFile("/tmp/f", []byte("key-from-env"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text := s.call("read_file", args{"vm": "web", "file_path": "/tmp/f"}); strings.Contains(text, "key-from-env") {
		t.Errorf("read_file = %q, want it redacted", text)
	}
}

// TestSecretValues is about the parameter that is there only when the operator
// allows it.
func TestSecretValues(t *testing.T) {
	s, srv, vm, _ := secretSession(t, func(cfg *tools.Config) { cfg.AllowSecretValues = true })
	s.call("create_secret", args{"name": "api", "value": "a-value-given"})
	if got := secretOf(t, srv, vm, "api"); got != "a-value-given" {
		t.Errorf("the value is %q", got)
	}
	text := s.call("update_secret", args{"name": "api", "value": "another-value"})
	if got := secretOf(t, srv, vm, "api"); got != "another-value" || strings.Contains(text, got) {
		t.Errorf("the value is %q, the answer %q", got, text)
	}
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "b", "value": "xyz"}), "fewer than 4 characters")
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "b", "value": "long-enough", "generate": 8}), "generate and value are given")
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "b"}), "from_env, from_file, generate or value")
	for _, allowed := range []bool{false, true} {
		s := connect(t, tools.Config{Client: slicer.NewSlicerClient("http://127.0.0.1:1", "", "", nil), AllowSecretValues: allowed})
		list, err := s.client.ListTools(t.Context(), mcp.ListToolsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		with := 0
		for _, tool := range list.Tools {
			raw, err := json.Marshal(tool)
			if err != nil {
				t.Fatal(err)
			}
			var listed listedTool
			if err := json.Unmarshal(raw, &listed); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(tool.Name, "_secret") && listed.InputSchema.Properties["value"] != nil {
				with++
				checkSchema(t, listed.InputSchema)
			}
		}
		if want := map[bool]int{true: 2}[allowed]; with != want || len(list.Tools) != len(tools.Catalogue()) {
			t.Errorf("with values %v: %d tools of %d take one, want %d of %d", allowed, with, len(list.Tools), want, len(tools.Catalogue()))
		}
	}
}

// TestMostKnown is about values that are more than this server remembers. Those
// that no secret has any more make place; those that one has are kept.
func TestMostKnown(t *testing.T) {
	s, _, _, root := secretSession(t, nil)
	names := []string{"a", "b", "c", "d", "e", "f"}
	for i, name := range names {
		put(t, root, map[string]string{name: strings.Repeat(fmt.Sprintf("%d-0123456789\n", i), 60_000)})
	}
	s.call("create_secret", args{"name": "one", "from_file": "a"})
	for _, name := range names {
		s.call("update_secret", args{"name": "one", "from_file": name})
	}
	for _, name := range names[:4] {
		s.call("create_secret", args{"name": name, "from_file": name})
	}
	wantText(t, "create_secret", s.fail("create_secret", args{"name": "e", "from_file": "e"}), "keeps at most 4096 values of 4 MiB", "delete_secret", "Nothing was set")
	s.call("delete_secret", args{"name": "a"})
	s.call("create_secret", args{"name": "e", "from_file": "e"})
}
