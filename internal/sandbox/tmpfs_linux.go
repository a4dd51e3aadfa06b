package sandbox

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A tmpfs takes half of the guest's memory at most, or defaultTmpfsBytes where
// that has no limit. A file takes about 1 KiB beside its content.
const (
	defaultTmpfsBytes = 512 << 20
	minTmpfsBytes     = 1 << 20
	tmpfsBytesPerFile = 16 << 10
	minTmpfsFiles     = 1024
)

func mountTmpfs(target, options string, flags uintptr) error {
	if err := unix.Mount("tmpfs", target, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("mount tmpfs on /%s: %w", strings.TrimPrefix(target, "root/"), err)
	}
	return nil
}

// tmpfsSize is the mount options that hold a file system in a guest's memory to
// half of that, and its files to a number that goes with it.
func tmpfsSize(ramBytes int64) string {
	size := int64(defaultTmpfsBytes)
	if ramBytes > 0 {
		size = max(ramBytes/2, minTmpfsBytes) // a size of 0 would be none
	}
	return fmt.Sprintf("size=%d,nr_inodes=%d", size, max(size/tmpfsBytesPerFile, minTmpfsFiles))
}
