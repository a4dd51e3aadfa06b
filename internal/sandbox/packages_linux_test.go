package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// packageDocs is where the tests' package has its file: in a folder that the
// host's packages share, and in one of its own.
const packageDocs = "/usr/share/doc/slicer-test-package"

// buildPackage makes a Debian package with one file, and skips the test where
// nothing makes them.
func buildPackage(t *testing.T) []byte {
	t.Helper()
	if _, err := os.Stat("/var/lib/dpkg/status"); err != nil {
		t.Skip("this machine has no dpkg")
	}
	tree := t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control":      "Package: slicer-test-package\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a file\n",
		packageDocs + "/file": "installed\n",
	} {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(t.TempDir(), "test.deb")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Skipf("no package can be made: %v: %s", err, out)
	}
	text, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// networkedHypervisor is one whose guests share the machine's network.
func networkedHypervisor(t *testing.T) *sandbox.Hypervisor {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	h := hypervisorAt(t, sandbox.Config{StateDir: state, HostNetwork: true})
	t.Cleanup(func() {
		removeDisks(t, h)
		closeHypervisor(t, h)
		wantNoState(t, state)
	})
	return h
}

// install installs a package in a guest.
func install(t *testing.T, g daemon.Guest, deb []byte) {
	t.Helper()
	var out bytes.Buffer
	p, err := g.Start(t.Context(), &daemon.Command{
		Argv:   []string{"/bin/sh", "-c", "cat >/tmp/test.deb && dpkg -i /tmp/test.deb 2>&1"},
		Stdin:  bytes.NewReader(deb),
		Stdout: &out,
		UID:    new(uint32),
	})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err != nil || status.Code != 0 {
		t.Fatalf("dpkg -i = %+v, %v: %s", status, err, out.String())
	}
}

func TestPackagesAreInstalledWithTheHostsNetwork(t *testing.T) {
	deb := buildPackage(t)
	h := networkedHypervisor(t)
	database, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	other := boot(t, h, daemon.GuestSpec{Hostname: "sbox-2"})
	const listing = "dpkg-query -f '${binary:Package} ${Version}\\n' -W"
	hosts, err := exec.CommandContext(t.Context(), "sh", "-c", listing).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, g, false, listing); got.stdout != string(hosts) {
		t.Errorf("the guest has %d lines of packages (stderr %q), want the host's %d", strings.Count(got.stdout, "\n"), got.stderr, bytes.Count(hosts, []byte("\n")))
	}
	install(t, g, deb)
	const look = "cat " + packageDocs + "/file; dpkg-query -f '${Status}\\n' -W slicer-test-package"
	tests := []struct {
		name, script, want string
	}{
		{"its file and its state", look, "installed\ninstall ok installed\n"},
		{"the locks are nobody else's", "stat -c %a /var/lib/dpkg/lock /var/lib/dpkg/lock-frontend", "640\n640\n"},
		{"no owner is overridden", "cat /var/lib/dpkg/statoverride 2>/dev/null", ""},
		{"apt's folders are there, and empty", "find /var/lib/apt /var/cache/apt ! -type d; ls -d /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt", "/var/cache/apt/archives/partial\n/var/lib/apt/lists/partial\n/var/log/apt\n"},
		{"apt's secrets aren't", "ls -d /etc/apt/auth* 2>/dev/null", ""},
		{"it is removed again", "dpkg -r slicer-test-package >/dev/null; ls " + packageDocs + " 2>/dev/null; " + listing + " | grep -c slicer-test-package", "0\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, g, true, tt.script); got.stdout != tt.want {
				t.Errorf("%q printed %q (stderr %q), want %q", tt.script, got.stdout, got.stderr, tt.want)
			}
		})
	}
	if got := run(t, other, true, look); got.stdout != "" {
		t.Errorf("another guest has %q of the package", got.stdout)
	}
	now, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil || !bytes.Equal(now, database) {
		t.Errorf("the host's package database has changed (%v)", err)
	}
	if _, err := os.Stat(packageDocs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the package's folder on the host = %v, want that it doesn't exist", err)
	}
}

func TestInstalledPackagesAreOnTheDisk(t *testing.T) {
	deb := buildPackage(t)
	h := networkedHypervisor(t)
	g, err := h.Boot(t.Context(), daemon.GuestSpec{Hostname: "sbox-1", Disk: "vm-1"})
	if err != nil {
		t.Fatal(err)
	}
	install(t, g, deb)
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []daemon.GuestSpec{{Hostname: "sbox-1", Disk: "vm-1"}, {Hostname: "sbox-2", Base: "vm-1"}} {
		got := onDisk(t, h, spec, "cat "+packageDocs+"/file; dpkg-query -f '${Status}\\n' -W slicer-test-package")
		if want := "installed\ninstall ok installed\n"; got != want {
			t.Errorf("%s has %q of the package, want %q", spec.Hostname, got, want)
		}
	}
}

func TestAUsedDisksPackagesLeadNowhere(t *testing.T) {
	buildPackage(t)
	h := networkedHypervisor(t)
	outside := t.TempDir()
	for _, folder := range []string{"/var/lib", "/var/cache"} {
		disk := "vm" + strings.ReplaceAll(folder, "/", "-")
		onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: disk}, fmt.Sprintf("mv %s /var/was && ln -s %s %s", folder, outside, folder))
		if got := onDisk(t, h, daemon.GuestSpec{Hostname: "sbox-1", Disk: disk}, "readlink "+folder); got != outside+"\n" {
			t.Errorf("%s leads to %q after a boot, want %q", folder, got, outside)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("a folder outside has %v (%v), want nothing", left, err)
	}
}

func TestWithoutTheHostsNetworkThereIsNoApt(t *testing.T) {
	g := boot(t, newHypervisor(t), daemon.GuestSpec{Hostname: "sbox-1"})
	if got := run(t, g, true, "ls -d /etc/apt /var/lib/dpkg /var/lib/apt 2>/dev/null"); got.stdout != "" {
		t.Errorf("a guest without the host's network has %q", got.stdout)
	}
}
