package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// confine limits this process and all that it will execute, before anything of
// the guest runs. The daemon has put it into its groups by now.
func confine(cfg *bootConfig) error {
	// The groups' names are the host's business: from here on this process's
	// own are the root.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make cgroup namespace: %w", err)
	}
	// A machine that runs out of memory ends guests before its own programs.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0o644); err != nil {
		return fmt.Errorf("offer the guest to the machine's memory killer: %w", err)
	}
	if cfg.MaxProcesses <= 0 {
		return nil
	}
	n := uint64(cfg.MaxProcesses)
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("limit processes: %w", err)
	}
	return nil
}

// userLimit is the limit of processes for each user of a guest that no group
// limits; 0 is none. The kernel counts them in the guest's user namespace since
// Linux 5.14. Before, and without such a namespace, it counts the host's
// processes of the same user in, and a limit would hit those.
func userLimit(kind idmapKind, c *cgroup) int {
	if kind == idmapRoot || c.part(pidsController) != nil || !kernelAtLeast(5, 14) {
		return 0
	}
	return c.threads
}

func kernelAtLeast(major, minor int) bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}
