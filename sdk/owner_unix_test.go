//go:build unix

package slicer_test

import (
	"os"
	"syscall"
	"testing"
)

// owner returns the owner and group of a file.
func owner(t *testing.T, name string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid, stat.Gid
}
