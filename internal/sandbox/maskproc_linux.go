package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maskProc makes what /proc shows of the whole machine read-only or empty.
func maskProc() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, name := range []string{"acpi", "asound", "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "pagetypeinfo", "scsi", "sched_debug", "slabinfo", "timer_list", "timer_stats", "vmallocinfo"} {
		path := "/proc/" + name
		info, err := os.Lstat(path)
		if err != nil {
			continue // this kernel has none
		}
		if info.IsDir() {
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY|flags, "size=0,mode=555")
		} else {
			err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !ofTheMachine(info) {
			continue // a process that has ended, or nothing to write to
		}
		path := "/proc/" + e.Name()
		if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	return nil
}

// ofTheMachine reports whether an entry of /proc is a folder of the machine's
// own, not a process's, or a file that some user may write to. Which there are
// is the kernel's choice: some have dynamic_debug, mtrr and more.
func ofTheMachine(info fs.FileInfo) bool {
	if info.IsDir() {
		_, err := strconv.Atoi(info.Name())
		return err != nil
	}
	return info.Mode().IsRegular() && info.Mode()&0o222 != 0
}
