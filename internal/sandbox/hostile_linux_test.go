package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostMark is in a file of the host's that no guest may come by.
const hostMark = "only the host has this"

// hostFile makes a file of the host's with hostMark in it.
func hostFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(name, []byte(hostMark), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestHostilePathsStayInside(t *testing.T) {
	mark := hostFile(t)
	s := newService(t)
	vm := s.create()
	s.sh(vm, `
ln -s /etc/shadow /tmp/shadow; ln -s `+mark+` /tmp/mark; ln -s ../../../../../../../../..`+mark+` /tmp/up
ln -s /proc/self/root`+mark+` /tmp/proc; ln -s loop2 /tmp/loop1; ln -s loop1 /tmp/loop2; ln -s loop1/x /tmp/loop3
mkfifo /tmp/fifo; ln -s /proc/self /tmp/self; ln -s /dev/zero /tmp/endless
perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "/tmp/sock", Listen => 1) or die'`)
	tests := []struct {
		name   string
		query  string // of a cp that reads
		status int    // 0 is any refusal
	}{
		{"dots lead to the guest's root", params("path", "/../../../.."+mark), 404},
		{"dots written as %2e lead there too", "?path=/%2e%2e/%2e%2e/%2e%2e" + mark, 404},
		{"slashes written as %2f are slashes", "?path=%2f..%2f..%2f.." + strings.ReplaceAll(mark, "/", "%2f"), 404},
		{"what is encoded twice is a name", "?path=/%252e%252e%252f%252e%252e" + mark, 404},
		{"a backslash is a character", params("path", `/..\..\..`+mark), 404},
		{"NUL is refused", "?path=/tmp/a%00" + mark, 400},
		{"a relative path is refused", params("path", ".."+mark), 400},
		{"dots behind the home stay inside", params("path", "~/../../../../.."+mark), 404},
		{"a link to a host's file leads nowhere", params("path", "/tmp/mark"), 404},
		{"a link with dots leads nowhere", params("path", "/tmp/up"), 404},
		{"a link through the agent's root leads nowhere", params("path", "/tmp/proc"), 404},
		{"the agent's root is the guest's", params("path", "/proc/self/root"+mark), 404},
		{"the first process's root is the guest's", params("path", "/proc/1/root"+mark), 404},
		{"the agent's folder is the guest's", params("path", "/proc/self/cwd/.."+mark), 404},
		{"a thread's root is the guest's", params("path", "/proc/thread-self/root"+mark), 404},
		{"a loop of links is refused", params("path", "/tmp/loop1"), 400},
		{"a loop of links and folders is refused", params("path", "/tmp/loop3"), 400},
		{"an endless device is refused", params("path", "/dev/zero"), 400},
		{"a link to an endless device is refused", params("path", "/tmp/endless"), 400},
		{"a fifo is refused", params("path", "/tmp/fifo"), 400},
		{"a socket is refused", params("path", "/tmp/sock"), 400},
		{"the agent's memory isn't read", params("path", "/proc/self/mem"), 0},
		{"the agent's page map isn't read", params("path", "/proc/self/pagemap"), 0},
		{"kernel memory is empty", params("path", "/proc/kcore"), 0},
		{"kernel messages aren't read", params("path", "/proc/kmsg"), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, kind := range []string{"binary", "tar"} {
				got := s.call("GET", "/vm/"+vm+"/cp"+tt.query+"&mode="+kind, nil)
				if got.status != tt.status && (tt.status != 0 || !got.refused()) {
					t.Errorf("GET cp%s as %s = %d %.200q (cut %v), want %d", tt.query, kind, got.status, got.body, got.cut, tt.status)
				}
			}
		})
	}
	t.Run("a link to shadow leads to the guest's own", func(t *testing.T) {
		own := s.sh(vm, "cat /etc/shadow")
		host, err := os.ReadFile("/etc/shadow")
		if got := s.want(200, "GET", "/vm/"+vm+"/cp"+params("path", "/tmp/shadow", "mode", "binary"), nil); got != own || err == nil && got == string(host) {
			t.Errorf("cp reads %q, want the guest's own %q", got, own)
		}
	})
	t.Run("the agent's environment tells nothing", func(t *testing.T) {
		got := s.want(200, "GET", "/vm/"+vm+"/cp"+params("path", "/proc/self/environ", "mode", "binary"), nil)
		if strings.Count(got, "\x00") != 1 || !strings.HasPrefix(got, "PATH=") {
			t.Errorf("the agent's environment is %q, want its PATH alone", got)
		}
	})
	t.Run("no descriptor of the agent's leads out", func(t *testing.T) {
		for fd := range 40 {
			name := fmt.Sprintf("/proc/self/fd/%d", fd)
			for _, kind := range []string{"binary", "tar"} {
				if got := s.call("GET", "/vm/"+vm+"/cp"+params("path", name, "mode", kind), nil); !got.refused() {
					t.Errorf("GET cp of %s as %s = %d %.100q, want a refusal", name, kind, got.status, got.body)
				}
			}
			if got := s.call("POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary"), strings.NewReader("x")); got.status < 400 {
				t.Errorf("POST cp to %s = %d %.100q, want a refusal", name, got.status, got.body)
			}
		}
	})
	t.Run("no file of the agent's can be written", func(t *testing.T) {
		for _, name := range []string{"/proc/self/mem", "/proc/self/exe", "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname", "/dev/null", "/tmp/fifo", "/tmp/sock", "/tmp/loop1"} {
			if got := s.call("POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary", "uid", "0"), strings.NewReader("x")); got.status < 400 {
				t.Errorf("POST cp to %s = %d %.100q, want a refusal", name, got.status, got.body)
			}
		}
	})
	t.Run("writing and removing through links stays inside", func(t *testing.T) {
		for _, name := range []string{"/tmp/mark", "/tmp/up", mark, "/.." + mark} {
			if got := s.call("POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary", "uid", "0"), strings.NewReader("written")); got.status != 404 {
				t.Errorf("POST cp to %s = %d %s, want 404: there is no such folder", name, got.status, got.body)
			}
			s.call("DELETE", "/vm/"+vm+"/fs/remove"+params("path", name, "recursive", "true"), nil) // of the link, where there is one
		}
		for _, call := range []string{"readdir", "stat"} {
			if got := s.call("GET", "/vm/"+vm+"/fs/"+call+params("path", "/../../.."+filepath.Dir(mark)), nil); got.status != 404 {
				t.Errorf("%s of a host's folder = %d %s, want 404", call, got.status, got.body)
			}
		}
		wantHostFile(t, mark)
	})
	t.Run("paths of the API with dots don't exist", func(t *testing.T) {
		for _, path := range []string{"/vm/../vm/" + vm, "/vm/%2e%2e/secrets", "/vm/..%2fsecrets/health", "/vm/" + vm + "%00/health", "/vm/" + vm + "/../../nodes"} {
			if got := s.call("GET", path, nil); got.status != 404 {
				t.Errorf("GET %s = %d %s, want 404", path, got.status, got.body)
			}
		}
	})
}

// flip points a link and a folder now here, now there.
const flip = `my ($dir) = @ARGV;
while (1) {
  for my $to ("/srv/a", $dir, "/proc/1/root$dir", "/srv/b", "../../../../../..$dir", "/dev") {
    symlink $to, "/srv/new"; rename "/srv/new", "/srv/link";
    symlink "$to/mark", "/srv/new"; rename "/srv/new", "/srv/file";
  }
}`

func TestSwappedLinksStayInside(t *testing.T) {
	mark := hostFile(t)
	s := newService(t)
	vm := s.create()
	s.sh(vm, "mkdir -p /srv/a /srv/b; echo inside >/srv/a/f; echo inside >/srv/b/f; ln -s a /srv/link; ln -s a/f /srv/file")
	s.want(http.StatusCreated, "POST", "/vm/"+vm+"/exec"+params("background", "true", "uid", "0", "cmd", "perl", "args", "-e", "args", flip, "args", filepath.Dir(mark)), nil)
	for i := range 30 {
		for _, name := range []string{"/srv/link/f", "/srv/link/mark", "/srv/file", "/srv/link"} {
			for _, call := range []string{"cp" + params("path", name, "mode", "binary"), "cp" + params("path", name, "mode", "tar"), "fs/stat" + params("path", name), "fs/readdir" + params("path", name)} {
				if got := s.call("GET", "/vm/"+vm+"/"+call, nil); strings.Contains(got.body, hostMark) {
					t.Fatalf("round %d: GET %s = %d %.200q, want nothing of the host's", i, call, got.status, got.body)
				}
			}
			s.call("POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "binary", "uid", "0"), strings.NewReader("written"))
			s.call("POST", "/vm/"+vm+"/cp"+params("path", name, "mode", "tar", "uid", "0"), bytes.NewReader(archive(t, tarEntry{name: "mark"})))
		}
		s.call("DELETE", "/vm/"+vm+"/fs/remove"+params("path", "/srv/link/mark"), nil)
	}
	wantHostFile(t, mark)
}

// wantHostFile fails the test when a host's file or what is beside it changed.
func wantHostFile(t *testing.T, mark string) {
	t.Helper()
	if entries, err := os.ReadDir(filepath.Dir(mark)); err != nil || len(entries) != 1 {
		t.Errorf("the host's folder has %d files (%v), want the one that was there", len(entries), err)
	}
	if got, err := os.ReadFile(mark); string(got) != hostMark || err != nil {
		t.Errorf("the host's file has %q (%v), want what it had", got, err)
	}
}

func TestAHugeFileEndsWithItsReader(t *testing.T) {
	s := newService(t)
	vm := s.create()
	s.sh(vm, "truncate -s 1T /tmp/huge; mkdir /tmp/folder; ln /tmp/huge /tmp/folder")
	for _, path := range []string{params("path", "/tmp/huge", "mode", "binary"), params("path", "/tmp/folder", "mode", "tar")} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/vm/"+vm+"/cp"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatalf("GET cp%s of a sparse terabyte = %v", path, err)
		}
		if n, err := io.CopyN(io.Discard, resp.Body, 1<<20); resp.StatusCode != http.StatusOK || err != nil {
			t.Errorf("GET cp%s of a sparse terabyte = %d, %d bytes, %v, want its begin", path, resp.StatusCode, n, err)
		}
		cancel()
		resp.Body.Close()
	}
	s.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, nil) // which waits for calls on the VM
}
