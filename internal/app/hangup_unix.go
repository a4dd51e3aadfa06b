//go:build unix

package app

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// hungUp returns a function that reports whether the other end of w, a pipe or
// a socket, has been closed. It is nil for what has no other end.
func hungUp(w io.Writer) func() bool {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	return func() bool {
		gone := false
		err := conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd)}} // errors and hang-ups are always reported
			n, err := unix.Poll(fds, 0)
			gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		})
		return err == nil && gone
	}
}
