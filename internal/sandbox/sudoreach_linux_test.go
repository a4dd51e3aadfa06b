package sandbox_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestTheSudoProgramIsOutOfReach(t *testing.T) {
	h := newHypervisor(t)
	a := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"}) // the layer is there when a guest is
	layer := filepath.Join(h.RunDir(), "sudo")
	before := snapshot(t, layer)
	if len(before) != 6 {
		t.Fatalf("the layer has %v, want two files in four folders", before)
	}
	b := boot(t, h, daemon.GuestSpec{Hostname: "sbox-2"})
	const program = "/usr/lib/slicer/slicer-agent"
	for _, script := range []string{
		"stat -c '%a %u' " + program + " /usr/bin/sudo",
		"echo x >>" + program, "chmod 777 " + program, "touch -d 2001-01-01 /usr/bin/sudo", "chown 33 " + program,
		"ln " + program + " /usr/lib/slicer/link && echo x >>/usr/lib/slicer/link",
		"mv /usr/bin/sudo /usr/bin/sudo.old; echo x >/usr/bin/sudo",
		"sleep 0 & exec 3<>/proc/$!/exe", "rm -rf /usr/lib/slicer /usr/bin/sudo",
	} {
		run(t, a, true, script) // whether its own copy changes is the guest's affair
	}
	if after := snapshot(t, layer); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("a guest has changed what all share:\n%v\nwant\n%v", after, before)
	}
	if got := run(t, b, false, "sudo id -un; grep -c sudo /proc/self/mountinfo").stdout; got != "root\n1\n" && got != "root\n0\n" {
		t.Errorf("sudo in another guest prints %q, want root", got)
	}
}

// snapshot describes all files below a folder.
func snapshot(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files = append(files, fmt.Sprintf("%s %v %d %v", strings.TrimPrefix(name, dir), info.Mode(), info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAKeptDiskHasNoSudoProgram(t *testing.T) {
	h := newHypervisor(t)
	for range 2 {
		g, err := h.Boot(t.Context(), daemon.GuestSpec{Hostname: "sbox-1", Disk: "kept"})
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, g, false, "sudo sh -c 'id -un; touch /usr/bin/made'").stdout; got != "root\n" {
			t.Errorf("sudo prints %q, want root", got)
		}
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		var kept []string
		disks := filepath.Join(filepath.Dir(h.RunDir()), "disks")
		err = filepath.WalkDir(disks, func(name string, e fs.DirEntry, err error) error {
			if err == nil && (e.Name() == "slicer-agent" || e.Name() == "sudo" || e.Name() == "made") {
				kept = append(kept, e.Name())
			}
			return nil // what only the guest may look into is none of sudo's
		})
		if err != nil || strings.Join(kept, " ") != "made" {
			t.Errorf("the disk has %q, %v, want only what was made there", kept, err)
		}
	}
	if err := h.RemoveDisk(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
}

func TestHostileCallersDontHoldTheAgentUp(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	const perl = `
use IO::Socket::UNIX; use Socket;
sub dial { IO::Socket::UNIX->new(Peer => "/run/slicer/sudo.sock") }
sub closed { my $s = shift; my $in = ""; vec($in, fileno($s), 1) = 1; select($in, undef, undef, 20) && !sysread($s, my $b, 1) ? "closed\n" : "open\n" }
`
	tests := []struct {
		name, script, want string
	}{
		{"a frame that is too long", `my $s = dial(); syswrite $s, pack("N", 5 << 20); print closed($s)`, "closed\n"},
		{"a length that makes no sense", `my $s = dial(); syswrite $s, "\xff" x 4; print closed($s)`, "closed\n"},
		{"a frame that is no request", `my $s = dial(); syswrite $s, pack("N", 3) . "[1]"; print closed($s)`, "closed\n"},
		{"a request without descriptors", `my $s = dial(); my $r = '{"argv":["aWQ="]}'; syswrite $s, pack("N", length $r) . $r; print closed($s)`, "closed\n"},
		{"a request that never comes, or half of it", `my ($s, $h) = (dial(), dial()); syswrite $h, pack("N", 100) . "{"; print closed($s), closed($h)`, "closed\nclosed\n"},
		{"more connections than there may be", `my @s = map { dial() } 1 .. 400; sleep 1; my $n = 0; for (@s) { my $in = ""; vec($in, fileno($_), 1) = 1; $n++ if select($in, undef, undef, 0) } print $n >= 400 - 128 ? "refused\n" : "$n\n"`, "refused\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"perl", "-e", perl + tt.script}, Stdout: &out, Stderr: &out})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Wait(); err != nil || out.String() != tt.want {
				t.Errorf("printed %q (%v), want %q", out.String(), err, tt.want)
			}
			if got := run(t, g, false, "sudo id -un").stdout; got != "root\n" {
				t.Errorf("sudo after it prints %q, want root", got)
			}
		})
	}
	t.Run("nothing of them stays open", func(t *testing.T) {
		count := func() string {
			s, err := g.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(s.OpenFiles)
		}
		before := count()
		for range 20 {
			run(t, g, false, "echo x | sudo cat; sudo -u nosuch id; sudo no-such-command")
		}
		if after := count(); after != before {
			t.Errorf("the agent has %s descriptors open after 60 commands, want %s as before", after, before)
		}
	})
}
