package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// hypervisorAt makes a hypervisor that the caller closes, or skips as
// openHypervisor does.
func hypervisorAt(t testing.TB, cfg sandbox.Config) *sandbox.Hypervisor {
	t.Helper()
	h, err := sandbox.New(cfg)
	if err != nil {
		skipWithoutSandbox(t, err)
	}
	return h
}

func closeHypervisor(t testing.TB, h *sandbox.Hypervisor) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// diskHypervisor is one that ends with the test, and whose disks do: their files
// may belong to ids that the test itself can't touch.
func diskHypervisor(t *testing.T) (h *sandbox.Hypervisor, state string) {
	t.Helper()
	state = filepath.Join(t.TempDir(), "state")
	h = hypervisorAt(t, sandbox.Config{StateDir: state})
	t.Cleanup(func() {
		removeDisks(t, h)
		closeHypervisor(t, h)
		wantNoState(t, state)
	})
	return h, state
}

func removeDisks(t testing.TB, h *sandbox.Hypervisor) {
	t.Helper()
	for _, d := range disks(t, h) {
		if err := h.RemoveDisk(context.Background(), d.Name); err != nil {
			t.Errorf("RemoveDisk(%q) = %v", d.Name, err)
		}
	}
}

func disks(t testing.TB, h *sandbox.Hypervisor) []daemon.Disk {
	t.Helper()
	d, err := h.Disks(context.Background())
	if err != nil {
		t.Fatalf("Disks() = %v", err)
	}
	return d
}

func stop(t testing.TB, g daemon.Guest) {
	t.Helper()
	if err := g.Stop(context.Background()); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
}

// onDisk runs a script as root in a guest that has the disk for as long.
func onDisk(t testing.TB, h *sandbox.Hypervisor, spec daemon.GuestSpec, script string) string {
	t.Helper()
	g := boot(t, h, spec)
	got := run(t, g, true, script)
	if got.status.Code != 0 {
		t.Fatalf("%q exits with %d: %s", script, got.status.Code, got.stderr)
	}
	stop(t, g)
	return got.stdout
}

// xattr is a Perl program that sets or prints an attribute of a file.
func xattr(set bool) string {
	number := map[string][2]int{"amd64": {191, 188}, "arm64": {8, 5}}[runtime.GOARCH]
	if set {
		return fmt.Sprintf(`perl -e '$f = "/usr/local/bin/a"; $n = "user.key"; $v = "value"; syscall(%d, $f, $n, $v, 5, 0) == 0 or die $!'`, number[1])
	}
	return fmt.Sprintf(`perl -e '$f = "/usr/local/bin/a"; $n = "user.key"; $v = " " x 9; $l = syscall(%d, $f, $n, $v, 9); print substr($v, 0, $l), "\n"'`, number[0])
}

// fill makes every kind of file in every place; survey says what is there.
func fill() string {
	return `set -e
echo home >/home/f; echo root >/root/f; echo var >/var/lib/f; echo etc >/etc/f; echo srv >/srv/f
echo 'alice:x:1001:1001::/home/alice:/bin/sh' >>/etc/passwd
rm /usr/bin/yes; rm -r /etc/skel; mkdir /etc/skel; echo mine >/etc/skel/mine; rm -r /mnt
echo program >/usr/local/bin/a; ln /usr/local/bin/a /usr/local/bin/b; chmod 4755 /usr/local/bin/a
chgrp 33 /usr/local/bin/a && chmod 4755 /usr/local/bin/a || true # one id has no groups
ln -s /etc/f /root/link; mkfifo /root/fifo; truncate -s 50M /var/lib/sparse; echo end >>/var/lib/sparse
touch -d 2001-02-03T04:05:06Z /root/f /usr/local/bin/a /etc/skel; touch -h -d 2001-02-03T04:05:06Z /root/link
` + xattr(true)
}

func survey() string {
	return `cat /home/f /home/ubuntu/f /root/f /root/link /var/lib/f /etc/f /srv/f; tail -n1 /etc/passwd
ls /usr/bin/yes /mnt 2>/dev/null; ls -A /etc/skel
stat -c '%n %F %a %h %u %g %s %Y' /home/f /home/ubuntu/f /root/f /root/link /root/fifo /var/lib/sparse /etc/f /etc/skel /usr/local/bin/a /usr/local/bin/b
test /usr/local/bin/a -ef /usr/local/bin/b && echo linked
test $(stat -c %b /var/lib/sparse) -lt 1000 && echo sparse
` + xattr(false)
}

func TestADiskKeepsEveryFile(t *testing.T) {
	h, _ := diskHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"})
	run(t, g, false, "echo ubuntu >~/f; touch -d 2002-02-03T04:05:06Z ~/f")
	if got := run(t, g, true, fill()); got.status.Code != 0 {
		t.Fatalf("filling the disk: %s", got.stderr)
	}
	want := run(t, g, true, survey()).stdout
	for _, part := range []string{
		"home\nubuntu\nroot\netc\nvar\netc\nsrv\n", "alice", "\nmine\n", "981173106", "/usr/local/bin/a regular file 4755 2 ",
		"linked\nsparse\nvalue\n",
	} {
		if !strings.Contains(want, part) {
			t.Fatalf("the first guest sees\n%s\nwant %q in it", want, part)
		}
	}
	stop(t, g)
	if err := h.CopyDisk(t.Context(), "vm-1", "commit-1", nil); err != nil {
		t.Fatalf("CopyDisk() = %v", err)
	}
	tests := []struct {
		name string
		spec daemon.GuestSpec
	}{
		{"booted again", daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}},
		{"booted a third time", daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}},
		{"a copy", daemon.GuestSpec{Hostname: "sbox-2", Disk: "commit-1"}},
		{"the base of a disk that stays", daemon.GuestSpec{Hostname: "sbox-3", Disk: "vm-3", Base: "commit-1"}},
		{"a disk that began as a copy, booted again", daemon.GuestSpec{Hostname: "sbox-3", Disk: "vm-3"}},
		{"the base of a disk that goes", daemon.GuestSpec{Hostname: "sbox-4", Base: "commit-1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := onDisk(t, h, tt.spec, survey())
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the files differ (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a copy is apart", func(t *testing.T) {
		onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-3", Disk: "vm-3"}, "echo changed >/etc/f; echo changed >/root/f; rm /home/f")
		for _, name := range []string{"vm-1", "commit-1"} {
			if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: name}, survey()); got != want {
				t.Errorf("%s changes with its copy:\n%s", name, cmp.Diff(want, got))
			}
		}
	})
	t.Run("a disk that goes is gone", func(t *testing.T) {
		var names []string
		for _, d := range disks(t, h) {
			names = append(names, d.Name)
		}
		if diff := cmp.Diff([]string{"commit-1", "vm-1", "vm-3"}, names); diff != "" {
			t.Errorf("disks differ (-want +got):\n%s", diff)
		}
	})
}

func TestADiskFitsTheGuestThatHasIt(t *testing.T) {
	h, _ := diskHypervisor(t)
	const identity = "hostname; cat /etc/hostname; grep -v localhost /etc/hosts; cat /etc/machine-id; ls /etc/ssh; head -n1 /etc/ssh/ssh_host_*_key; tail -n1 /etc/passwd; ls -A /root"
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, `set -e
sed -i 's/127.0.1.1 sbox-1/127.0.1.1 sbox-1 # mine/' /etc/hosts; echo 192.0.2.1 sbox-1 db >>/etc/hosts
echo alice:x:1001:1001::/home/alice:/bin/sh >>/etc/passwd; rm -f /root/.* 2>/dev/null || true
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir /etc/ssh; echo old >/etc/ssh/ssh_host_rsa_key; echo old >/etc/ssh/ssh_host_rsa_key.pub; echo mine >/etc/ssh/sshd_config`)
	const users = "alice:x:1001:1001::/home/alice:/bin/sh\n"
	t.Run("the same one finds everything as it was", func(t *testing.T) {
		want := "sbox-1\nsbox-1\n127.0.1.1 sbox-1 # mine\n192.0.2.1 sbox-1 db\n0123456789abcdef0123456789abcdef\nssh_host_rsa_key\nssh_host_rsa_key.pub\nsshd_config\nold\n" + users
		if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, identity); got != want {
			t.Errorf("the guest sees (-want +got)\n%s", cmp.Diff(want, got))
		}
	})
	t.Run("another one gets its own names and keys, and nothing else changes", func(t *testing.T) {
		var seen []string
		for range 2 { // the second boot changes nothing
			got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-2", Disk: "vm-2", Base: "vm-1"}, identity)
			before, rest, _ := strings.Cut(got, "db\n")
			id, rest, _ := strings.Cut(rest, "\n")
			if want := "sbox-2\nsbox-2\n127.0.1.1 sbox-2 # mine\n192.0.2.1 sbox-1 "; before != want {
				t.Errorf("the names are %q, want %q", before, want)
			}
			if want := "ssh_host_ecdsa_key\nsshd_config\n-----BEGIN EC PRIVATE KEY-----\n" + users; rest != want {
				t.Errorf("the keys and users are %q, want %q", rest, want)
			}
			seen = append(seen, id)
		}
		if len(seen[0]) != 32 || seen[0] == "0123456789abcdef0123456789abcdef" || seen[0] != seen[1] {
			t.Errorf("the machine ids of two boots are %q, want a new one that stays", seen)
		}
	})
	t.Run("what isn't a file any more doesn't stop the boot", func(t *testing.T) {
		onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "rm /etc/hosts /etc/hostname; mkfifo /etc/hosts; mkdir /etc/hostname")
		if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-3", Base: "vm-1"}, "hostname"); got != "sbox-3\n" {
			t.Errorf("hostname prints %q, want sbox-3", got)
		}
	})
}

func TestAUsedDiskLeadsNowhere(t *testing.T) {
	h, state := diskHypervisor(t)
	outside := t.TempDir()
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"},
		fmt.Sprintf("for d in /var /home /srv /media /mnt /tmp; do rm -rf $d && ln -s %s $d || exit; done", outside))
	// What a guest does that takes /usr/local away, which may be large.
	local := filepath.Join(state, "disks", "vm-1", "layers", "usr", "upper", "local")
	if err := errors.Join(os.RemoveAll(local), os.Symlink(outside, local)); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []daemon.GuestSpec{{Hostname: "sbox-1", Disk: "vm-1"}, {Hostname: "sbox-2", Base: "vm-1"}} {
		if got := onDisk(t, h, spec, "readlink /var /usr/local; echo up"); got != outside+"\n"+outside+"\nup\n" {
			t.Errorf("the guest sees %q, want its links and that it is up", got)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("a folder of the host's has %v, %v, want nothing", entries, err)
	}
}

func TestADiskHasOneGuest(t *testing.T) {
	h, _ := diskHypervisor(t)
	ctx := t.Context()
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"})
	tests := []struct {
		name string
		call func() error
	}{
		{"another guest", func() error {
			_, err := h.Boot(ctx, daemon.GuestSpec{Hostname: "sbox-2", Disk: "vm-1"})
			return err
		}},
		{"a guest based on it", func() error {
			_, err := h.Boot(ctx, daemon.GuestSpec{Hostname: "sbox-2", Disk: "vm-2", Base: "vm-1"})
			return err
		}},
		{"a copy", func() error { return h.CopyDisk(ctx, "vm-1", "commit-1", nil) }},
		{"a copy over it", func() error { return h.CopyDisk(ctx, "vm-1", "vm-1", nil) }},
		{"its removal", func() error { return h.RemoveDisk(ctx, "vm-1") }},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			if err := tt.call(); err == nil || !strings.Contains(err.Error(), `disk "vm-1" is in use`) {
				t.Errorf("error %v, want that the disk is in use", err)
			}
		})
	}
	if err := h.LabelDisk(ctx, "vm-1", []byte("running")); err != nil {
		t.Errorf("LabelDisk() of a disk in use = %v", err)
	}
	if diff := cmp.Diff([]daemon.Disk{{Name: "vm-1", Label: []byte("running")}}, disks(t, h)); diff != "" {
		t.Errorf("disks differ (-want +got):\n%s", diff)
	}
	// A guest that ends by itself lets go of its disk too.
	if _, err := g.Start(ctx, &daemon.Command{Argv: []string{"kill", "-SEGV", "1"}, UID: new(uint32)}); err != nil && !errors.Is(err, daemon.ErrEnded) {
		t.Fatal(err)
	}
	<-g.Done()
	stop(t, g)
	onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"}, "true")
}
