package daemon_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

const keysFile = "/home/ubuntu/.ssh/authorized_keys"

func TestSSHKeys(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{"persistent":true,"ssh_keys":["ssh-rsa AAAA me@home","ssh-ed25519 BBBB\n","ssh-rsa AAAA me@home"]}`)
	want := `"ssh-rsa AAAA me@home\nssh-ed25519 BBBB\n" 600 1000:1000`
	if got := a.file(vm, keysFile); got != want {
		t.Errorf("authorized_keys = %s, want %s", got, want)
	}
	info, err := a.srv.Files(vm).Stat("/home/ubuntu/.ssh")
	if err != nil || info.Mode().Perm() != 0o700 || info.Sys() != (slicertest.Owner{UID: 1000, GID: 1000}) {
		t.Errorf(".ssh = %v, %v, want it the user's own, 0700", info, err)
	}
	a.srv.Restart()
	if got := a.file(vm, keysFile); got != want {
		t.Errorf("authorized_keys after a restart = %s, want %s", got, want)
	}
}

func TestImportUser(t *testing.T) {
	for _, tt := range []struct {
		name, body, keys, console string
		find                      func(context.Context, string) ([]string, error)
	}{
		{
			"keys", `{"import_user":"octo-cat","ssh_keys":["ssh-rsa MINE"]}`, `"ssh-rsa MINE\nssh-rsa octo-cat\n" 600 1000:1000`, "import_user octo-cat: 1 SSH keys\n",
			func(_ context.Context, user string) ([]string, error) { return []string{"ssh-rsa " + user}, nil },
		},
		{"nobody can be asked", `{"import_user":"a"}`, "absent", "import_user a: no key was imported: this daemon can't look up users' keys\n", nil},
		{
			"an error", `{"import_user":"a"}`, "absent", "no key was imported: no such user\n",
			func(context.Context, string) ([]string, error) { return nil, errors.New("no such\nuser") },
		},
		{
			"no key", `{"import_user":"a"}`, "absent", "no key was imported: key 1 is not one line",
			func(context.Context, string) ([]string, error) { return []string{"ssh-rsa A\nssh-rsa B"}, nil },
		},
		{
			"no answer", `{"import_user":"a"}`, "absent", "no key was imported: there was no answer within 10s\n",
			func(ctx context.Context, _ string) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, slicertest.Options{Network: slicertest.Pipe, ImportKeys: tt.find})
				defer a.srv.Close()
				begin := time.Now()
				vm := a.create(tt.body)
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("create took %s, want 10s at most", took)
				}
				if got := a.file(vm, keysFile); got != tt.keys {
					t.Errorf("authorized_keys = %s, want %s", got, tt.keys)
				}
				if got := a.console(vm); !strings.Contains(got, tt.console) {
					t.Errorf("console = %q, want %q in it", got, tt.console)
				}
			})
		})
	}
}

func TestImportLeavesTimeForTheVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe, ImportKeys: func(ctx context.Context, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer a.srv.Close()
		a.want(201, "POST", "/hostgroup/sbox/nodes?wait=agent&timeout=4s", `{"import_user":"a"}`)
	})
}

func TestKeysThatCannotBeWrittenFailTheCreate(t *testing.T) {
	a := newAPI(t, slicertest.Options{DiskBytes: 100})
	got := a.call("POST", "/hostgroup/sbox/nodes", `{"persistent":true,"ssh_keys":["ssh-rsa `+strings.Repeat("A", 200)+`"]}`)
	if got.status != 500 || !strings.Contains(got.message(t), "SSH keys") {
		t.Errorf("create = %d %s, want 500 about the keys", got.status, got.body)
	}
	a.srv.Restart()
	if got := a.hostnames("/nodes"); len(got) > 0 {
		t.Errorf("VMs = %v, want none", got)
	}
}

// TestRefusalDoesNotWaitForTheBody is about clients that keep a call's body
// open, or wait before they send it: they are refused at once.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	a.create(`{}`)
	paused := a.create(`{}`)
	a.want(200, "POST", "/vm/"+paused+"/pause", "")
	for _, tt := range []struct {
		name, path string
		length     int64 // -1 is unknown
		status     int
		says       string
	}{
		{"exec in no VM", "/vm/sbox-9/exec?cmd=cat&stdin=true", -1, 404, "sbox-9"},
		{"exec in a paused VM", "/vm/sbox-2/exec?cmd=cat&stdin=true", -1, 409, "paused"},
		{"exec without a command", "/vm/sbox-1/exec?stdin=true", -1, 400, "cmd"},
		{"exec in the background", "/vm/sbox-1/exec?cmd=cat&stdin=true&background=true", -1, 400, "stdin"},
		{"exec with an unknown parameter", "/vm/sbox-1/exec?cmd=cat&stdin=true&x=1", -1, 400, "unknown query parameter"},
		{"file to no VM", "/vm/sbox-9/cp?path=/x", 10, 404, "sbox-9"},
		{"file to a paused VM", "/vm/sbox-2/cp?path=/x", 1 << 30, 409, "paused"},
		{"file in an unknown mode", "/vm/sbox-1/cp?path=/x&mode=cp-v1-binary", -1, 400, "invalid mode: cp-v1-binary"},
		{"file over a folder", "/vm/sbox-1/cp?path=/tmp", -1, 400, "directory"},
		{"no such path", "/nope", -1, 404, "path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			body := newFeed()
			defer body.end()
			req := a.request(ctx, "POST", tt.path, body)
			req.ContentLength = tt.length
			got := a.send(req)
			if got.status != tt.status || got.err != nil || !strings.Contains(got.body, tt.says) {
				t.Errorf("POST %s with an open body = %d %s, %v, want %d and %q", tt.path, got.status, got.body, got.err, tt.status, tt.says)
			}
		})
	}
}

// TestRefusalReachesWhoStillSends is about a client that reads the answer only
// when it has sent all.
func TestRefusalReachesWhoStillSends(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.srv.URL, "http://"))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatalf("SetDeadline = %v", err)
	}
	resp := a.rawUpload(conn, "/vm/sbox-9/cp?path=/x", 8<<20)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound || !resp.Close {
		t.Errorf("upload to no VM = %s, close %t, want 404 and the connection closed", resp.Status, resp.Close)
	}
}
