package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attackEnv makes the test binary, executed inside a guest, try the attacks
// that the variable lists, separated by commas. A line "name=result" is printed
// for each: the errno's name, or "ok" when nothing refused it.
const attackEnv = "SANDBOX_TEST_ATTACK"

// targetEnv is what some attacks aim at.
const targetEnv = "SANDBOX_TEST_TARGET"

// runAttacks does what attackEnv asks for, and doesn't return then.
func runAttacks() {
	list := os.Getenv(attackEnv)
	if list == "" {
		return
	}
	runtime.LockOSThread() // what an attack changes of its thread stays there
	for name := range strings.SplitSeq(list, ",") {
		attack, ok := attacks[name]
		if !ok {
			fmt.Printf("%s=no such attack\n", name)
			continue
		}
		fmt.Printf("%s=%s\n", name, attack())
	}
	os.Exit(0)
}

// outcome names an error by its errno.
func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// raw makes a system call with arguments that are enough for a refusal.
func raw(number uintptr, args ...uintptr) func() string {
	return func() string {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 {
			return unix.ErrnoName(errno)
		}
		return "ok"
	}
}

func mounting(source, target, kind string, flags uintptr, data string) func() string {
	return func() string { return outcome(unix.Mount(source, target, kind, flags, data)) }
}

func reading(name string) func() string {
	return func() string {
		_, err := os.ReadFile(name)
		return outcome(err)
	}
}

// writing opens a file for writing and writes nothing to it, which EIO answers
// where the kernel has nothing to be written.
func writing(name string) func() string {
	return func() string {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			_, err = unix.Write(int(f.Fd()), nil)
			f.Close()
		}
		return outcome(err)
	}
}

func linkOf(name string) func() string {
	return func() string {
		_, err := os.Readlink(name)
		return outcome(err)
	}
}

func opening(family, kind, protocol int) func() string {
	return func() string {
		fd, err := unix.Socket(family, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return outcome(err)
	}
}

func cloning(flags uintptr, argv ...string) func() string {
	return func() string {
		if len(argv) == 0 {
			argv = []string{"/bin/true"}
		}
		cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		return outcome(cmd.Run())
	}
}

// attacks are what a hostile program in a guest tries.
var attacks = map[string]func() string{
	"read the agent's environment":     reading("/proc/1/environ"),
	"read the agent's memory":          reading("/proc/1/mem"),
	"follow the agent's root":          linkOf("/proc/1/root"),
	"follow the agent's folder":        linkOf("/proc/1/cwd"),
	"follow the agent's program":       linkOf("/proc/1/exe"),
	"open the agent's program":         writing("/proc/1/exe"),
	"the agent's descriptors":          agentDescriptors,
	"list the agent's mapped files":    func() string { _, err := os.ReadDir("/proc/1/map_files"); return outcome(err) },
	"roots of processes":               foreignRoots,
	"processes in sight":               foreignProcesses,
	"ptrace the agent":                 func() string { return outcome(unix.PtraceAttach(1)) },
	"seize the agent":                  func() string { return outcome(unix.PtraceSeize(1)) },
	"ptrace a process out of sight":    func() string { return outcome(unix.PtraceAttach(target())) },
	"signal a process out of sight":    func() string { return outcome(unix.Kill(target(), unix.SIGKILL)) },
	"read the agent through a vector":  func() string { return outcome(vector(unix.SYS_PROCESS_VM_READV)) },
	"write the agent through a vector": func() string { return outcome(vector(unix.SYS_PROCESS_VM_WRITEV)) },
	"compare with the agent":           raw(unix.SYS_KCMP, 1, 1, 0, 0, 3),
	"take the agent's socket":          takeDescriptor,

	"mount a tmpfs":                mounting("tmpfs", "/mnt", "tmpfs", 0, ""),
	"mount proc":                   mounting("proc", "/mnt", "proc", 0, ""),
	"mount sysfs":                  mounting("sysfs", "/sys", "sysfs", 0, ""),
	"mount cgroup":                 mounting("cgroup", "/mnt", "cgroup2", 0, ""),
	"mount an overlay":             mounting("overlay", "/mnt", "overlay", 0, "lowerdir=/usr:/etc"),
	"bind a folder":                mounting("/", "/mnt", "", unix.MS_BIND|unix.MS_REC, ""),
	"make a mask writable":         mounting("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""),
	"make mounts shared":           mounting("", "/", "", unix.MS_REC|unix.MS_SHARED, ""),
	"unmount a mask":               func() string { return outcome(unix.Unmount("/proc/sys", unix.MNT_DETACH)) },
	"unmount the root":             func() string { return outcome(unix.Unmount("/", unix.MNT_DETACH)) },
	"pivot the root":               func() string { return outcome(unix.PivotRoot("/", "/")) },
	"open a file system":           raw(unix.SYS_FSOPEN),
	"configure a file system":      raw(unix.SYS_FSCONFIG),
	"mount a file system":          raw(unix.SYS_FSMOUNT),
	"pick a file system":           raw(unix.SYS_FSPICK),
	"open a tree":                  raw(unix.SYS_OPEN_TREE),
	"open a tree with attributes":  raw(unix.SYS_OPEN_TREE_ATTR),
	"move a mount":                 raw(unix.SYS_MOVE_MOUNT),
	"set a mount's attributes":     raw(unix.SYS_MOUNT_SETATTR),
	"make a mount namespace":       raw(unix.SYS_UNSHARE, unix.CLONE_NEWNS),
	"make a net namespace":         raw(unix.SYS_UNSHARE, unix.CLONE_NEWNET),
	"make a cgroup namespace":      raw(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP),
	"make a user namespace":        raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	"clone into a user namespace":  cloning(unix.CLONE_NEWUSER),
	"clone3":                       raw(unix.SYS_CLONE3),
	"enter a namespace":            enterNamespace,
	"mount in cloned namespaces":   cloning(unix.CLONE_NEWUSER|unix.CLONE_NEWNS, "/bin/mount", "-t", "tmpfs", "x", "/mnt"),
	"write a core pattern":         writing("/proc/sys/kernel/core_pattern"),
	"write a module path":          writing("/proc/sys/kernel/modprobe"),
	"write a sysctl of the memory": writing("/proc/sys/vm/drop_caches"),
	"write a sysctl of the names":  writing("/proc/sys/kernel/hostname"),
	"trigger sysrq":                writing("/proc/sysrq-trigger"),
	"write a helper in /sys":       writing("/sys/kernel/uevent_helper"),
	"write a release agent":        writing("/sys/fs/cgroup/release_agent"),
	"the machine's open switches":  openSwitches,
	"folders of the host":          func() string { _, err := os.Stat(os.Getenv(targetEnv)); return outcome(err) },

	"open a raw socket":             opening(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
	"open a raw socket of IPv6":     opening(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6),
	"open a packet socket":          opening(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"open a socket to hypervisors":  opening(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"open a socket of the kernel's": opening(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"open a socket of a bus":        opening(unix.AF_CAN, unix.SOCK_RAW, 1),
	"take the interface down":       interfaceDown,
	"add an interface":              addInterface,
	"reach an abstract socket":      reachAbstract,

	"make a block device":         func() string { return outcome(makeNode(unix.S_IFBLK, 8, 0)) },
	"make a character device":     func() string { return outcome(makeNode(unix.S_IFCHR, 1, 1)) },
	"devices in sight":            foreignDevices,
	"load a module":               raw(unix.SYS_INIT_MODULE),
	"load a module's file":        raw(unix.SYS_FINIT_MODULE),
	"unload a module":             raw(unix.SYS_DELETE_MODULE),
	"load a kernel":               raw(unix.SYS_KEXEC_LOAD),
	"read a keyring":              raw(unix.SYS_KEYCTL),
	"add a key":                   raw(unix.SYS_ADD_KEY),
	"request a key":               raw(unix.SYS_REQUEST_KEY),
	"use bpf":                     raw(unix.SYS_BPF),
	"measure the machine":         raw(unix.SYS_PERF_EVENT_OPEN),
	"handle page faults":          raw(unix.SYS_USERFAULTFD),
	"make a ring":                 raw(unix.SYS_IO_URING_SETUP, 1),
	"read the kernel's log":       raw(unix.SYS_SYSLOG, 10),
	"account processes":           raw(unix.SYS_ACCT),
	"swap":                        raw(unix.SYS_SWAPON),
	"reboot":                      raw(unix.SYS_REBOOT),
	"set quotas":                  raw(unix.SYS_QUOTACTL),
	"set quotas of an open file":  raw(unix.SYS_QUOTACTL_FD),
	"open a file by its handle":   raw(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0)),
	"set the clock":               raw(unix.SYS_CLOCK_SETTIME),
	"set the time of day":         raw(unix.SYS_SETTIMEOFDAY),
	"adjust the clock":            raw(unix.SYS_ADJTIMEX),
	"change the host's name":      func() string { return outcome(unix.Sethostname([]byte("taken"))) },
	"segments of the host":        segments,
	"descriptors of others":       foreignDescriptors,
	"open a terminal":             writing("/dev/tty"),
	"type into a terminal":        typeIntoTerminal,
	"terminals in sight":          func() string { return names("/dev/pts", "ptmx") },
	"signal every process":        func() string { return outcome(unix.Kill(-1, unix.SIGTERM)) },
	"break out of a chroot":       breakOut,
	"write to the own program":    writeOwnProgram,
	"forbid to execute the agent": func() string { return ownProgram(func(f *os.File) error { return f.Chmod(0) }) },
	"forbid it by an access list": func() string { return ownProgram(denied) },
	"give the agent away":         func() string { return ownProgram(func(f *os.File) error { return f.Chown(1000, 1000) }) },
	"remove the agent":            func() string { return outcome(os.Remove("/run/slicer/bin/slicer-agent")) },
}

// target is the process id that targetEnv holds.
func target() int {
	pid, err := strconv.Atoi(os.Getenv(targetEnv))
	if err != nil {
		return -2 // no process has it
	}
	return pid
}

// foreignRoots names the processes whose root is another than this one's.
func foreignRoots() string {
	own, err := os.Stat("/")
	if err != nil {
		return err.Error()
	}
	var found []string
	roots, _ := filepath.Glob("/proc/[0-9]*/root/") // the pattern is good
	for _, root := range roots {
		if info, err := os.Stat(root); err == nil && !os.SameFile(own, info) {
			found = append(found, root)
		}
	}
	return none(found)
}

// foreignProcesses names the processes that are neither the agent nor this one
// nor above it.
func foreignProcesses() string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir)) // the pattern has a digit first
		if pid != 1 && pid != os.Getpid() && pid != os.Getppid() {
			name, _ := os.ReadFile(dir + "/comm") // one without a name is shown by its number
			found = append(found, filepath.Base(dir)+" "+strings.TrimSpace(string(name)))
		}
	}
	return none(found)
}

// vector moves a byte between this process and the agent.
func vector(number uintptr) error {
	var b byte
	local := unix.Iovec{Base: &b, Len: 1}
	remote := unix.RemoteIovec{Base: 0x400000, Len: 1}
	_, _, errno := unix.Syscall6(number, 1, uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func takeDescriptor() string {
	pidfd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(pidfd)
	_, err = unix.PidfdGetfd(pidfd, 3, 0)
	return outcome(err)
}

func enterNamespace() string {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	return outcome(unix.Setns(fd, 0))
}

// openSwitches names the files of /proc that tell of the whole machine and
// can be written.
func openSwitches() string {
	var found []string
	_ = filepath.WalkDir("/proc", func(name string, entry fs.DirEntry, err error) error {
		_, rest, _ := strings.Cut(strings.TrimPrefix(name, "/proc"), "/")
		first, _, _ := strings.Cut(rest, "/")
		if _, perr := strconv.Atoi(first); err != nil || perr == nil {
			return fs.SkipDir // gone, or a process's own
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // it is gone, or none that is meant
		}
		switch refusal := writing(name)(); refusal {
		case "EACCES", "EPERM", "EROFS", "EIO", "ENOENT":
		default:
			found = append(found, name+" "+refusal)
		}
		return nil
	})
	return none(found)
}

func none(found []string) string {
	if len(found) == 0 {
		return "none"
	}
	return strings.Join(found, " ")
}

// names lists a folder but for expected.
func names(dir string, expected ...string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return outcome(err)
	}
	var found []string
	for _, e := range entries {
		if !slices.Contains(expected, e.Name()) {
			found = append(found, e.Name())
		}
	}
	return none(found)
}
