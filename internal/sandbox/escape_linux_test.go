package sandbox_test

import (
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attackProgram is where the test binary lies in a guest. A script that names
// /proc/self/exe as its interpreter runs what its parent runs, which is the
// agent's program for what the API starts.
const (
	attackProgram = "/usr/local/bin/attack"
	agentScript   = "/usr/local/bin/agent-script"
)

// refused are the attacks that don't simply meet EPERM, by user, and what they
// come to. "A/B" allows either.
var refused = map[string]struct{ root, ubuntu string }{
	"read the agent's environment":  {"EACCES", "EACCES"},
	"read the agent's memory":       {"EACCES", "EACCES"},
	"follow the agent's root":       {"EACCES", "EACCES"},
	"follow the agent's folder":     {"EACCES", "EACCES"},
	"follow the agent's program":    {"EACCES", "EACCES"},
	"open the agent's program":      {"EACCES", "EACCES"},
	"the agent's descriptors":       {"none", "none"},
	"list the agent's mapped files": {"EACCES", "EACCES"},
	"roots of processes":            {"none", "none"},
	"processes in sight":            {"none", "none"},
	"ptrace a process out of sight": {"ESRCH", "ESRCH"},
	"signal a process out of sight": {"ESRCH", "ESRCH"},
	"clone3":                        {"ENOSYS", "ENOSYS"},
	"write a core pattern":          {"EROFS/EACCES", "EACCES"},
	"write a module path":           {"EROFS/EACCES/ENOENT", "EACCES/ENOENT"},
	"write a sysctl of the memory":  {"EROFS/EACCES", "EACCES"},
	"write a sysctl of the names":   {"EROFS/EACCES", "EACCES"},
	"trigger sysrq":                 {"EROFS/EACCES/ENOENT", "EACCES/ENOENT"},
	"write a helper in /sys":        {"ENOENT", "ENOENT"},
	"write a release agent":         {"ENOENT", "ENOENT"},
	"the machine's open switches":   {"none", "none"},
	"folders of the host":           {"ENOENT", "ENOENT"},
	"open a socket to hypervisors":  {"EAFNOSUPPORT", "EAFNOSUPPORT"},
	"open a socket of the kernel's": {"EAFNOSUPPORT", "EAFNOSUPPORT"},
	"open a socket of a bus":        {"EAFNOSUPPORT", "EAFNOSUPPORT"},
	"reach an abstract socket":      {"ECONNREFUSED", "ECONNREFUSED"},
	"devices in sight":              {"none", "none"},
	"segments of the host":          {"EINVAL", "EINVAL"},
	"descriptors of others":         {"none", "none"},
	"open a terminal":               {"ENXIO", "ENXIO"},
	"type into a terminal":          {"EPERM/EIO", "EPERM/EIO"},
	"terminals in sight":            {"none", "none"},
	"signal every process":          {"ESRCH", "ESRCH"},
	"break out of a chroot":         {"the guest's root", "EPERM"},
	"write to the own program":      {"EROFS", "EROFS/EACCES"},
	"forbid to execute the agent":   {"EROFS", "EROFS/EPERM"},
	"forbid it by an access list":   {"EROFS", "EROFS/EPERM"},
	"give the agent away":           {"EROFS", "EROFS/EPERM"},
	"remove the agent":              {"EROFS", "EROFS/EACCES"},
}

// withOneID are the attacks that end in another way where the guest's users
// are one id of the host's: who isn't root there is in a user namespace of its
// own, and more of them can be cloned.
var withOneID = map[string]struct{ root, ubuntu string }{
	"clone into a user namespace": {"ok", "ok"},
	"mount in cloned namespaces":  {"exit status 32", "exit status 32"},
}

// alone are the attacks that change the process which tries them, and by what
// they are run.
var alone = map[string]string{
	"signal every process":        attackProgram,
	"break out of a chroot":       attackProgram,
	"descriptors of others":       attackProgram,
	"write to the own program":    agentScript,
	"forbid to execute the agent": agentScript,
	"forbid it by an access list": agentScript,
	"give the agent away":         agentScript,
}

func TestAttacksAreContained(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := victim.Process.Kill(); err != nil {
			t.Errorf("the host's process didn't outlive the attacks: %v", err)
		}
		_ = victim.Wait() // it was killed
	})
	folder := t.TempDir()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", "@"+filepath.Base(folder))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	segment, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.SysvShmCtl(segment, unix.IPC_RMID, nil) }() // the test's end takes no notice

	s := newService(t)
	vm := s.create()
	s.put(vm, attackProgram, thisProgram(t))
	s.put(vm, agentScript, []byte("#!/proc/self/exe\n"))
	kind := s.uidMap(vm)
	targets := map[string]string{
		"ptrace a process out of sight": strconv.Itoa(victim.Process.Pid),
		"signal a process out of sight": strconv.Itoa(victim.Process.Pid),
		"segments of the host":          strconv.Itoa(segment),
	}
	for _, user := range []struct{ name, uid string }{{"root", "0"}, {"ubuntu", "1000"}} {
		found := map[string]string{}
		attack := func(program, target string, list ...string) {
			r := s.exec(vm, user.uid, []string{"env", attackEnv + "=" + strings.Join(list, ","), "env", targetEnv + "=" + target}, program)
			if r.ExitCode != 0 {
				t.Errorf("%q as %s = %+v, want code 0", list, user.name, r)
			}
			for line := range strings.Lines(r.Stdout) {
				name, result, _ := strings.Cut(strings.TrimSpace(line), "=")
				found[name] = result
			}
		}
		var together []string
		for _, name := range slices.Sorted(maps.Keys(attacks)) {
			switch {
			case alone[name] != "":
				attack(alone[name], folder, name)
			case targets[name] != "":
				attack(attackProgram, targets[name], name)
			default:
				together = append(together, name)
			}
		}
		attack(attackProgram, folder, together...)
		for name := range attacks {
			t.Run(name+" as "+user.name, func(t *testing.T) {
				if got, want := found[name], wantOf(name, user.name, kind); !slices.Contains(strings.Split(want, "/"), got) {
					t.Errorf("came to %q, want %q", got, want)
				}
			})
		}
	}

	t.Run("the host keeps its name", func(t *testing.T) {
		if got, err := os.Hostname(); err != nil || got != hostname {
			t.Errorf("Hostname() = %q, %v, want %q", got, err, hostname)
		}
	})
	t.Run("the VM goes on", func(t *testing.T) {
		if got := s.sh(vm, "echo on"); got != "on\n" {
			t.Errorf("echo printed %q, want on", got)
		}
	})
	t.Run("other VMs can be made", func(t *testing.T) {
		if got := s.sh(s.create(), "echo on"); got != "on\n" {
			t.Errorf("echo printed %q, want on", got)
		}
	})
}

func wantOf(name, user, kind string) string {
	want, ok := refused[name]
	if special, there := withOneID[name]; there && kind == "single" {
		want, ok = special, true
	}
	switch {
	case !ok:
		return "EPERM"
	case user == "root":
		return want.root
	}
	return want.ubuntu
}

// TestAKilledGuestTakesNothingAlong has a guest's root end all that it can
// reach.
func TestAKilledGuestTakesNothingAlong(t *testing.T) {
	s := newService(t)
	first, second := s.create(), s.create()
	_, _ = s.try(t.Context(), "POST", "/vm/"+first+"/exec"+params("buffered", "true", "uid", "0", "cmd", "/bin/sh",
		"args", "-c", "args", "kill -KILL -1; kill -KILL 1; kill -SEGV 1"), nil) // the VM may end before the answer
	if got := s.sh(second, "hostname"); got != second+"\n" {
		t.Errorf("hostname of the other VM printed %q, want %s", got, second)
	}
	if got := s.call("GET", "/vm/"+second+"/health", nil); got.status != http.StatusOK {
		t.Errorf("health of the other VM = %d %s, want 200", got.status, got.body)
	}
}
