package sandbox

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The kernel counts these by user, and without a user namespace of the guest's
// together with the host's processes of the same user: one guest mustn't take
// them all.
const (
	maxPendingSignals   = 1024 // timers are counted in
	maxQueueBytes       = 256 << 10
	maxInotifyInstances = 64 // of the host's, by default 128
	maxInotifyWatches   = 32 << 10
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
	limits := map[int]uint64{
		unix.RLIMIT_SIGPENDING: maxPendingSignals,
		unix.RLIMIT_MSGQUEUE:   maxQueueBytes,
	}
	if cfg.MaxProcesses > 0 {
		limits[unix.RLIMIT_NPROC] = uint64(cfg.MaxProcesses)
	}
	for resource, n := range limits {
		if err := lowerLimit(resource, n); err != nil {
			return fmt.Errorf("limit resource %d of processes: %w", resource, err)
		}
	}
	return nil
}

// lowerLimit holds this process and its children to n of a resource, or to the
// less that they have already.
func lowerLimit(resource int, n uint64) error {
	var was unix.Rlimit
	if err := unix.Getrlimit(resource, &was); err != nil {
		return err
	}
	n = min(n, was.Max)
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n})
}

// limitInotify holds each of the guest's users to a part of what the host's user
// has of inotify. It needs the guest's own user namespace and /proc.
func limitInotify() {
	for name, n := range map[string]int{"instances": maxInotifyInstances, "watches": maxInotifyWatches} {
		// A kernel without the limit, or a /proc that isn't writable, leaves
		// the guest with the host's.
		_ = os.WriteFile("/proc/sys/user/max_inotify_"+name, []byte(strconv.Itoa(n)), 0o644)
	}
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
