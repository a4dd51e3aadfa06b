//go:build unix

package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockLimit bounds the wait for a folder's lock, which servers hold for
// milliseconds, and lockPause is how often it is tried.
const (
	lockLimit = 3 * time.Second
	lockPause = 5 * time.Millisecond
)

// lockFolder takes the lock of a folder and returns what releases it.
func lockFolder(ctx context.Context, folder string) (unlock func(), err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR { //nolint:errorlint // an errno
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", folder, err)
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another program holds the lock of %s; name a socket in another folder with --listen", folder)
		}
	}
}
