package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// callsEnv makes the test binary, executed inside a guest, try refusedCalls or
// allowedCalls, as the variable says, and print "name: result" for each.
const callsEnv = "SANDBOX_TEST_CALLS"

// guestProgram is where every guest has the program that its server is.
const guestProgram = "/usr/lib/slicer/slicer-agent"

// refusedCalls are what no process of a guest may do. Arguments are zero: what
// comes through says something else than EPERM, or "ok".
var refusedCalls = map[string]uintptr{
	"acct": unix.SYS_ACCT, "add_key": unix.SYS_ADD_KEY, "adjtimex": unix.SYS_ADJTIMEX, "bpf": unix.SYS_BPF,
	"clock_adjtime": unix.SYS_CLOCK_ADJTIME, "clock_settime": unix.SYS_CLOCK_SETTIME, "delete_module": unix.SYS_DELETE_MODULE,
	"finit_module": unix.SYS_FINIT_MODULE, "fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "fsopen": unix.SYS_FSOPEN,
	"fspick": unix.SYS_FSPICK, "init_module": unix.SYS_INIT_MODULE, "io_uring_enter": unix.SYS_IO_URING_ENTER,
	"io_uring_register": unix.SYS_IO_URING_REGISTER, "io_uring_setup": unix.SYS_IO_URING_SETUP, "kcmp": unix.SYS_KCMP,
	"kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "kexec_load": unix.SYS_KEXEC_LOAD, "keyctl": unix.SYS_KEYCTL,
	"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "mount": unix.SYS_MOUNT, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	"move_mount": unix.SYS_MOVE_MOUNT, "nfsservctl": unix.SYS_NFSSERVCTL, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"open_tree": unix.SYS_OPEN_TREE, "open_tree_attr": unix.SYS_OPEN_TREE_ATTR, "perf_event_open": unix.SYS_PERF_EVENT_OPEN,
	"pidfd_getfd": unix.SYS_PIDFD_GETFD, "pivot_root": unix.SYS_PIVOT_ROOT, "quotactl": unix.SYS_QUOTACTL,
	"quotactl_fd": unix.SYS_QUOTACTL_FD, "reboot": unix.SYS_REBOOT, "request_key": unix.SYS_REQUEST_KEY, "setns": unix.SYS_SETNS,
	"settimeofday": unix.SYS_SETTIMEOFDAY, "swapoff": unix.SYS_SWAPOFF, "swapon": unix.SYS_SWAPON, "syslog": unix.SYS_SYSLOG,
	"umount2": unix.SYS_UMOUNT2, "userfaultfd": unix.SYS_USERFAULTFD, "vhangup": unix.SYS_VHANGUP,
}

// allowedCalls are what programs in a guest need although they look like the
// others.
var allowedCalls = map[string]func() error{
	"trace a child": func() error {
		cmd := exec.CommandContext(context.Background(), "/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || !status.Stopped() {
			return fmt.Errorf("the child isn't stopped at its start: %v, %w", status, err)
		}
		if err := unix.PtraceDetach(cmd.Process.Pid); err != nil {
			return err
		}
		return cmd.Wait()
	},
	"read one's own memory": func() error {
		from, to := byte('x'), byte(0)
		local, remote := unix.Iovec{Base: &to, Len: 1}, unix.RemoteIovec{Base: uintptr(unsafe.Pointer(&from)), Len: 1}
		_, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
		return err
	},
	"leave the shared folder": func() error { return unix.Unshare(unix.CLONE_FS) },
	"ask for the personality": func() error {
		_, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
		return nonZero(errno)
	},
	"name a file by its handle": func() error {
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/proc/self/exe", unix.AT_SYMLINK_FOLLOW)
		if err == unix.EOPNOTSUPP { //nolint:errorlint // the raw errno of a file system that has none
			err = nil
		}
		return err
	},
}

func nonZero(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// runCalls does what callsEnv asks for, and doesn't return then.
func runCalls() {
	runtime.LockOSThread()
	switch os.Getenv(callsEnv) {
	case "":
		runtime.UnlockOSThread()
		return
	case "refused":
		for name, number := range refusedCalls {
			_, _, errno := unix.RawSyscall6(number, 0, 0, 0, 0, 0, 0)
			fmt.Printf("%s: %s\n", name, outcome(nonZero(errno)))
		}
	case "allowed":
		for name, call := range allowedCalls {
			fmt.Printf("%s: %s\n", name, outcome(call()))
		}
	}
	os.Exit(0)
}

func TestSystemCallsOfAGuest(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	refused, allowed := make([]string, 0, len(refusedCalls)), make([]string, 0, len(allowedCalls))
	for name := range refusedCalls {
		refused = append(refused, name+": EPERM")
	}
	for name := range allowedCalls {
		allowed = append(allowed, name+": ok")
	}
	for _, asRoot := range []bool{false, true} {
		for which, want := range map[string][]string{"refused": refused, "allowed": allowed} {
			t.Run(fmt.Sprintf("%s, root %t", which, asRoot), func(t *testing.T) {
				got := run(t, g, asRoot, callsEnv+"="+which+" "+guestProgram)
				lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
				for _, w := range want {
					if !slices.Contains(lines, w) {
						name, _, _ := strings.Cut(w, ":")
						i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
						if i < 0 {
							t.Errorf("%s isn't reported (%+v)", name, got)
							continue
						}
						t.Errorf("%s, want %s", lines[i], w)
					}
				}
			})
		}
	}
}

func TestGuestsTakeNoLeases(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	// Two leases and a delegation (F_SETLEASE and F_SETDELEG); the last is no lease but the same call.
	const script = `for my $call ([1024, F_RDLCK], [1024, F_WRLCK], [1040, F_RDLCK], [F_SETFD, 1]) { print defined(fcntl(STDOUT, $call->[0], $call->[1])) ? "done\n" : "$!\n" }`
	for _, asRoot := range []bool{false, true} {
		got := run(t, g, asRoot, "perl -e 'use Fcntl; open(STDOUT, \">\", $ENV{HOME}.\"/x\") or die; "+script+"'; cat ~/x")
		if want := strings.Repeat("Operation not permitted\n", 3) + "done\n"; got.stdout != want {
			t.Errorf("leases (root %v) printed %q (stderr %q), want %q", asRoot, got.stdout, got.stderr, want)
		}
	}
}
