package sandbox

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxProcFileBytes bounds what is read of a file that the kernel makes up.
const maxProcFileBytes = 16 << 20

// settled returns a file of a guest that the daemon may read. One of /proc is
// copied to memory here: some of them tell their reader what he may know, and
// the daemon may know more than its guest. It closes f unless it returns it.
func settled(f *os.File, r *reply) (*os.File, error) {
	var in unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &in)
	if err == nil && in.Type != unix.PROC_SUPER_MAGIC {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("proc", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "proc")
	n, err := io.Copy(memory, io.LimitReader(f, maxProcFileBytes+1))
	if err == nil && n > maxProcFileBytes {
		err = fmt.Errorf("more than %d bytes: %w", maxProcFileBytes, syscall.EFBIG)
	}
	if err == nil {
		_, err = memory.Seek(0, io.SeekStart)
	}
	if err != nil {
		memory.Close()
		return nil, err
	}
	r.Info.Size = n
	return memory, nil
}
