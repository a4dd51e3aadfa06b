//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refusedCalls answer EPERM in a guest, whoever asks: they reach what the host
// and its guests share, or have been the way out of namespaces before.
var refusedCalls = append([]uint32{
	unix.SYS_ACCT,
	unix.SYS_ADD_KEY,
	unix.SYS_ADJTIMEX,
	unix.SYS_BPF,
	unix.SYS_CLOCK_ADJTIME,
	unix.SYS_CLOCK_SETTIME,
	unix.SYS_DELETE_MODULE,
	unix.SYS_FINIT_MODULE,
	unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT,
	unix.SYS_FSOPEN,
	unix.SYS_FSPICK,
	unix.SYS_INIT_MODULE,
	unix.SYS_IO_URING_ENTER,
	unix.SYS_IO_URING_REGISTER,
	unix.SYS_IO_URING_SETUP,
	unix.SYS_KCMP,
	unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_KEXEC_LOAD,
	unix.SYS_KEYCTL,
	unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_MOUNT,
	unix.SYS_MOUNT_SETATTR,
	unix.SYS_MOVE_MOUNT,
	unix.SYS_NFSSERVCTL,
	unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_OPEN_TREE,
	unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_PIDFD_GETFD,
	unix.SYS_PIVOT_ROOT,
	unix.SYS_QUOTACTL,
	unix.SYS_QUOTACTL_FD,
	unix.SYS_REBOOT,
	unix.SYS_REQUEST_KEY,
	unix.SYS_SETNS,
	unix.SYS_SETTIMEOFDAY,
	unix.SYS_SWAPOFF,
	unix.SYS_SWAPON,
	unix.SYS_SYSLOG,
	unix.SYS_UMOUNT2,
	unix.SYS_USERFAULTFD,
	unix.SYS_VHANGUP,
}, refusedHere...)

// socketFamilies are those that a guest may open sockets of. Others know no
// network namespaces, the ones that lead to a hypervisor below among them.
var socketFamilies = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}

// The offsets of struct seccomp_data. Both architectures are little-endian: an
// argument's lower half comes first.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArg0 = 16
	offsetArg1 = 24
)

// setDelegation is fcntl's F_SETDELEG of Linux 6.19.
const setDelegation = 1040

// filterCalls refuses refusedCalls to all that this thread will execute, leases
// on files, with which a guest would hold up whoever opens or executes one in
// its place, and new user namespaces, in which capabilities would come back. With one id the
// agent itself makes them for other users, by clone.
func filterCalls(kind idmapKind) error {
	program := callFilter(kind)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	runtime.KeepAlive(program)
	if err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

func callFilter(kind idmapKind) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	answer := func(errno unix.Errno) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	// test runs the instruction after it where the comparison holds, and skips
	// it elsewhere.
	test := func(comparison uint16, k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, Jf: 1, K: k}
	}
	p := []unix.SockFilter{
		load(offsetArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: nativeArch},
		answer(unix.ENOSYS), // another architecture's numbers mean other calls
		load(offsetCall),
		test(unix.BPF_JGE, foreignCalls), answer(unix.ENOSYS),
		test(unix.BPF_JEQ, unix.SYS_CLONE3), answer(unix.ENOSYS), // its flags can't be seen; clone is taken instead
	}
	for _, call := range refusedCalls {
		p = append(p, test(unix.BPF_JEQ, call), answer(unix.EPERM))
	}
	guarded := []uint32{unix.SYS_UNSHARE}
	if kind != idmapSingle {
		guarded = append(guarded, unix.SYS_CLONE)
	}
	for _, call := range guarded {
		p = append(p,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 4, K: call},
			load(offsetArg0),
			test(unix.BPF_JSET, unix.CLONE_NEWUSER), answer(unix.EPERM),
			load(offsetCall),
		)
	}
	p = append(p,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 6, K: unix.SYS_FCNTL},
		load(offsetArg1),
		test(unix.BPF_JEQ, unix.F_SETLEASE), answer(unix.EPERM),
		test(unix.BPF_JEQ, setDelegation), answer(unix.EPERM),
		load(offsetCall),
	)
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_SOCKET}, allow, load(offsetArg0))
	for _, family := range socketFamilies {
		p = append(p, test(unix.BPF_JEQ, family), allow)
	}
	return append(p, answer(unix.EAFNOSUPPORT))
}
