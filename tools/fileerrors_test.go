package tools_test

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// turningDaemon is a daemon with one VM, sbox-1 called web, that runs until a
// call about it comes. That is answered by handle, and the VM has another
// status from then on; with "" it is gone.
func turningDaemon(t *testing.T, status string, handle http.HandlerFunc) *slicer.SlicerClient {
	t.Helper()
	list := func(status string) string {
		nodes := []slicer.SlicerNode{}
		if status != "" {
			nodes = append(nodes, slicer.SlicerNode{Hostname: "sbox-1", Status: status, Tags: []string{"name=web", "owner=" + testOwner}})
		}
		text, err := json.Marshal(nodes)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, after := list("Running"), list(status)
	var turned atomic.Bool
	return daemonWith(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/nodes":
			turned.Store(true)
			handle(w, r)
		case turned.Load():
			answer(200, after)(w, r)
		default:
			answer(200, before)(w, r)
		}
	})
}

// cutOff breaks the connection without an answer.
func cutOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// stall takes the request and answers nothing until the client gives up.
func stall(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only a body that is read tells of a client that goes
	<-r.Context().Done()
}

func TestFileCallsThatFail(t *testing.T) {
	const (
		read = "read_file"
		file = "cp_to_vm"
		root = "cp_to_vm as root"
		tree = "cp_to_vm of a folder"
	)
	calls := map[string]args{
		read: {"file_path": "/opt/x/f"},
		file: {"host_path": "f", "vm_path": "/opt/x/f"},
		root: {"host_path": "f", "vm_path": "/opt/x/f", "user": "root"},
		tree: {"host_path": "dir", "vm_path": "/opt/x"},
	}
	gone := []string{`VM "web" is gone: it was deleted or has ended`, "create_vm"}
	for _, tc := range []struct {
		name   string
		call   string
		status string // of the VM afterwards
		handle http.HandlerFunc
		want   []string
	}{
		{"a path that may not be written", file, "Running", answer(403, `{"error":"/opt/x: permission denied"}`), []string{`permission denied on "/opt/x/f" in VM "web" (the daemon says: /opt/x: permission denied)`, `Use another path, or user="root"`}},
		{"a path that root may not write", root, "Running", answer(403, `{"error":"/opt/x: permission denied"}`), []string{`permission denied on "/opt/x/f"`, "Use another path."}},
		{"a folder that may not be written", tree, "Running", answer(403, `{"error":"/opt/x: permission denied"}`), []string{`permission denied on "/opt/x"`, `user="root"`}},
		{"a path that may not be read", read, "Running", answer(403, `{"error":"/opt/x/f: permission denied"}`), []string{`permission denied on "/opt/x/f"`, `exec(vm="web", user="root", command="head -c 20000 -- /opt/x/f")`}},
		{"a path that is refused in other words", file, "Running", answer(403, `{"error":"read-only"}`), []string{`permission denied on "/opt/x/f" in VM "web" (the daemon says: read-only)`}},
		{"a wrong token", file, "Running", answer(401, `{"error":"unauthorized"}`), []string{"refused this server's token", "SLICER_TOKEN"}},

		{"a folder that can't be made", file, "Running", answer(404, `{"error":"/opt/x: no such file or directory"}`), []string{`vm_path "/opt/x/f" can't be made in VM "web" (the daemon says: /opt/x: no such file or directory)`, `exec(vm="web", user="root", command="mkdir -p -- /opt/x")`}},
		{"a path that a daemon tersely doesn't find", file, "Running", answer(404, `not found`), []string{`can't find "/opt/x/f" in VM "web" (the daemon says: not found), though the VM is there`, `list_files(vm="web", path="/opt/x")`}},
		{"a file that a daemon tersely doesn't find", read, "Running", answer(404, `not found`), []string{`can't find "/opt/x/f" in VM "web"`}},
		{"a VM that is deleted before a copy", file, "", answer(404, `{"error":"no VM named \"sbox-1\""}`), gone},
		{"a VM that is being deleted", tree, "Stopped", answer(404, `{"error":"VM \"sbox-1\" is gone"}`), gone},
		{"a VM that is deleted before a read", read, "", answer(404, `{"error":"no VM named \"sbox-1\""}`), gone},

		{"a VM that ends during a copy", tree, "", cutOff, gone},
		{"a VM that stops during a copy", file, "Stopped", cutOff, gone},
		{"a VM that ends during a read", read, "", cutOff, gone},
		{"a VM that is paused during a read", read, "Paused", cutOff, []string{`VM "web" is paused. Call resume(vm="web") first, then retry`}},
		{"a VM that is suspended during a read", read, "Suspended", cutOff, []string{`VM "web" is suspended. Call restore(vm="web") first`}},
		{"a connection that breaks during a copy", file, "Running", cutOff, []string{"the connection to the daemon broke during the copy", "1 file (", "Call list_vms"}},
		{"a file that can't be read as one", read, "Running", cutOff, []string{`reading "/opt/x/f" in VM "web" broke off before its end`, "/proc and /sys", "head -c 1000 -- /opt/x/f", "Call list_vms"}},

		{"a VM that is paused under a copy", file, "Paused", stall, []string{"the copy was not done after", `VM "web" is paused. Call resume(vm="web") first`}},
		{"a VM that goes under a copy", tree, "", stall, append([]string{"the copy was not done after"}, gone...)},
		{"a VM that is paused under a read", read, "Paused", stall, []string{`VM "web" is paused. Call resume(vm="web") first`}},
		{"a VM that is paused", file, "Paused", answer(409, `{"error":"VM \"sbox-1\" is paused; resume it first"}`), []string{`VM "web" is paused. Call resume(vm="web")`}},

		{"a full disk", file, "Running", answer(500, `{"error":"/opt/x/f: write /opt/x/f: no space left on device"}`), []string{`there is no room for "/opt/x/f" in VM "web"`, "no space left on device", "df -h", "remove what isn't needed"}},
		{"a full disk by its status", tree, "Running", answer(507, ``), []string{`there is no room for "/opt/x" in VM "web"`, "df -h"}},
		{"a device", read, "Running", answer(400, `{"error":"/opt/x/f: not a regular file"}`), []string{`"/opt/x/f" in VM "web" is a device, a pipe or a socket`, "exec"}},
		{"a file on the way", file, "Running", answer(400, `{"error":"/opt/x: not a directory"}`), []string{"a part of that path, is a file", "(the daemon says: /opt/x: not a directory)"}},
		{"a folder in the way", file, "Running", answer(400, `{"error":"/opt/x/f is a directory; name a file in it"}`), []string{`vm_path "/opt/x/f" is a folder in VM "web"`, `"/opt/x/f/f"`}},
		{"a folder in the way, as agents say it", file, "Running", answer(400, `must specify a file not a directory`), []string{`vm_path "/opt/x/f" is a folder in VM "web"`}},
		{"a redirect", read, "Running", answer(302, ``), []string{"answers with a redirect (status 302)", "SLICER_URL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // some wait for their call's end
			host := t.TempDir()
			put(t, host, map[string]string{"f": "x", "dir/a": "x"})
			s := connect(t, tools.Config{Client: turningDaemon(t, tc.status, tc.handle), Roots: []string{host}, CallLimit: 5 * time.Second})
			tool, _, _ := strings.Cut(tc.call, " ")
			got := s.fail(tool, calls[tc.call])
			wantText(t, tc.call, got, tc.want...)
			never := []string{"EOF", "http://", "\n", "%!"}
			if tc.name != "a wrong token" {
				never = append(never, "token")
			}
			if !strings.Contains(strings.Join(tc.want, ""), "is gone") {
				never = append(never, "gone")
			}
			for _, bad := range never {
				if strings.Contains(got, bad) {
					t.Errorf("%s = %q, which contains %q", tc.call, got, bad)
				}
			}
		})
	}
}

// TestCallsThatFailForNoFile is about refusals of calls that name no path.
func TestCallsThatFailForNoFile(t *testing.T) {
	for _, tc := range []struct {
		name, tool string
		args       args
		handle     http.HandlerFunc
		want       []string
		token      bool
	}{
		{"a token without the right to run", "exec", args{"command": "x"}, answer(403, `{"error":"forbidden"}`), []string{"refused this server's token"}, true},
		{"a command's own permissions", "exec", args{"command": "x"}, answer(403, `{"error":"permission denied: /srv"}`), []string{"permission denied (the daemon says: permission denied: /srv)"}, false},
		{"no room for secrets", "create_secret", args{"name": "k", "from_file": "f"}, answer(507, `{"error":"the secrets' limit is reached"}`), []string{"has no room for this (the daemon says: the secrets' limit is reached)", "A retry alone won't help"}, false},
		{"no room for a VM", "create_vm", args{}, answer(500, `{"error":"make the disk: no space left on device"}`), []string{"no space left on device", "A retry alone won't help"}, false},
		{"a redirect", "list_secrets", args{}, answer(307, ``), []string{"answers with a redirect (status 307)", "Tell the user to point SLICER_URL"}, false},
		{"a connection that breaks", "list_secrets", args{}, cutOff, []string{"the connection to the daemon broke before its answer was complete", "Call list_vms"}, false},
		{"a command whose call is cut off", "exec", args{"command": "x"}, cutOff, []string{"the connection to the daemon broke"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := t.TempDir()
			put(t, host, map[string]string{"f": "a value"})
			s := connect(t, tools.Config{Client: turningDaemon(t, "Running", tc.handle), Roots: []string{host}})
			got := s.fail(tc.tool, tc.args)
			wantText(t, tc.tool, got, tc.want...)
			if strings.Contains(got, "token") != tc.token || strings.Contains(got, "EOF") {
				t.Errorf("%s = %q, which speaks of the token or of EOF where it should not", tc.tool, got)
			}
		})
	}
}

func TestCopyMakesMissingFolders(t *testing.T) {
	srv := slicertest.NewServer(t)
	host := t.TempDir()
	large := strings.Repeat("0123456789abcdef", 1<<18)
	put(t, host, map[string]string{"f": "content", "large": large, "line\nbreak": "odd"})
	s := connect(t, tools.Config{Client: srv.Client(), Roots: []string{host}})
	s.call("create_vm", args{"name": "web"})
	for _, tc := range []struct {
		name       string
		args       args
		file, dir  string // as they are in the VM
		content    string
		madeFolder string // as it was named
		uid        uint32
	}{
		{"one folder", args{"host_path": "f", "vm_path": "/tmp/new/x"}, "/tmp/new/x", "/tmp/new", "content", "/tmp/new", 1000},
		{"a folder that is named", args{"host_path": "f", "vm_path": "/tmp/o/"}, "/tmp/o/f", "/tmp/o", "content", "/tmp/o", 1000},
		{"several folders of root", args{"host_path": "f", "vm_path": "/srv/a/b/x", "user": "root"}, "/srv/a/b/x", "/srv/a", "content", "/srv/a/b", 0},
		{"a folder at home", args{"host_path": "f", "vm_path": "~/deep/er/x"}, "/home/ubuntu/deep/er/x", "/home/ubuntu/deep", "content", "~/deep/er", 1000},
		{"a large file", args{"host_path": "large", "vm_path": "/tmp/big/x"}, "/tmp/big/x", "/tmp/big", large, "/tmp/big", 1000},
		{"a line break in the names", args{"host_path": "line\nbreak", "vm_path": "/tmp/n\nl/x\ny"}, "/tmp/n\nl/x\ny", "/tmp/n\nl", "odd", "/tmp/n\nl", 1000},
		{"none", args{"host_path": "f", "vm_path": "/tmp/new/y"}, "/tmp/new/y", "/tmp/new", "content", "", 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got struct {
				copied
				MadeFolder string `json:"made_folder"`
			}
			text := s.record("cp_to_vm", tc.args, &got)
			if got.Files != 1 || got.Bytes != int64(len(tc.content)) || len(got.SHA256) != 64 || got.MadeFolder != tc.madeFolder {
				t.Errorf("cp_to_vm(%v) = %+v, want 1 file of %d bytes, its SHA-256 and the made folder %q", tc.args, got, len(tc.content), tc.madeFolder)
			}
			if made := strings.Contains(text, "Made the missing folder"); made != (tc.madeFolder != "") {
				t.Errorf("cp_to_vm(%v) = %q, which says %v of a made folder", tc.args, text, made)
			}
			files := srv.Files("sbox-1")
			if data, err := files.ReadFile(tc.file); err != nil || string(data) != tc.content {
				t.Errorf("in the VM %q = %.40q, %v, want %.40q", tc.file, data, err, tc.content)
			}
			for _, name := range []string{tc.file, tc.dir} {
				info, err := files.Stat(name)
				if err != nil {
					t.Fatal(err)
				}
				if owner := info.Sys().(slicertest.Owner); owner.UID != tc.uid {
					t.Errorf("%q belongs to %d, want %d", name, owner.UID, tc.uid)
				}
			}
		})
	}
	wantText(t, "cp_to_vm below a file", s.fail("cp_to_vm", args{"host_path": "f", "vm_path": "/etc/hostname/a/b"}), "a part of that path, is a file")
	if got, want := s.fail("cp_to_vm", args{"host_path": "f", "vm_path": "/tmp/new"}), `"/tmp/new" is a folder in VM "web"`; !strings.Contains(got, want) {
		t.Errorf("cp_to_vm onto the folder that was made = %q, want %q", got, want)
	}
}

// TestCopyIsNotSentTwiceToAMissingVM is about a 404 that is not a path's.
func TestCopyIsNotSentTwiceToAMissingVM(t *testing.T) {
	host := t.TempDir()
	put(t, host, map[string]string{"f": "x"})
	var copies atomic.Int32
	client := turningDaemon(t, "", func(w http.ResponseWriter, r *http.Request) {
		copies.Add(1)
		answer(404, `{"error":"no VM named \"sbox-1\""}`)(w, r)
	})
	s := connect(t, tools.Config{Client: client, Roots: []string{host}})
	s.fail("cp_to_vm", args{"host_path": "f", "vm_path": "/tmp/new/f"})
	if got := copies.Load(); got != 1 {
		t.Errorf("cp_to_vm to a missing VM made %d copies, want 1", got)
	}
}

func TestFullDisk(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{DiskBytes: 1 << 10})
	host := t.TempDir()
	put(t, host, map[string]string{"dir/f": strings.Repeat("x", 1<<20)})
	s := connect(t, tools.Config{Client: srv.Client(), Roots: []string{host}})
	s.call("create_vm", args{"name": "web"})
	for _, a := range []args{{"host_path": "dir/f", "vm_path": "/tmp/f"}, {"host_path": "dir", "vm_path": "/tmp/d"}} {
		wantText(t, "cp_to_vm", s.fail("cp_to_vm", a), `in VM "web"`, "there is no room for", "df -h")
	}
}

// TestGlobThatOnlyTheSDKRefuses is about a glob that is split at its slash.
func TestGlobThatOnlyTheSDKRefuses(t *testing.T) {
	s, _, _, root := fileSession(t)
	put(t, root, map[string]string{"dir/a": "x"})
	wantText(t, "cp_to_vm with a glob that only the SDK refuses",
		s.fail("cp_to_vm", args{"host_path": filepath.Join(root, "dir"), "vm_path": "/tmp/d", "exclude": []string{"x[b/c]"}}),
		"exclude can't be used", `"x[b/c]"`, "one character")
}

func TestSecretOfAnIDThatIsTooLarge(t *testing.T) {
	s, _, _, root := fileSession(t)
	put(t, root, map[string]string{"f": "a value"})
	for _, user := range []string{"65536", "70000", "4294967294"} {
		got := s.fail("create_secret", args{"name": "k", "from_file": "f", "user": user})
		wantText(t, "create_secret", got, `user "`+user+`" can't own a secret`, "up to 65535", "ubuntu, root")
	}
	s.call("create_secret", args{"name": "k", "from_file": "f", "user": "65535"})
}
