package sandbox

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSealWaitsForPagesInUse(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	defer f.Close()
	if _, err := f.WriteString("program"); err != nil {
		t.Fatal(err)
	}
	pages, err := unix.Mmap(fd, 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() {
		if err := unix.Munmap(pages); err != nil {
			t.Error(err)
		}
	})
	if err := seal(f); err != nil {
		t.Errorf("seal() = %v, want that it waits for the mapping's end", err)
	}
	if _, err := f.WriteString("other"); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to it = %v, want %v", err, unix.EPERM)
	}
}
