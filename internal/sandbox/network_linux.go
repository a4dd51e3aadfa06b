package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guestResolver is where a guest's resolv.conf is: outside its disk, since it
// depends on the network that the server gives it. /etc/resolv.conf is a link
// there until somebody in the guest replaces it.
const guestResolver = "/run/slicer/resolv.conf"

const maxResolverBytes = 64 << 10

// hostResolver reads the machine's resolv.conf, which may be a link.
func hostResolver() ([]byte, error) {
	return readBounded("/etc/resolv.conf", maxResolverBytes)
}

// setUpNetwork brings up what a guest has of networks. It runs in the guest.
func setUpNetwork(cfg *bootConfig) error {
	if err := os.WriteFile(guestResolver, cfg.Resolver, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", guestResolver, err)
	}
	if cfg.HostNetwork {
		return nil
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// loopbackUp brings the lo interface up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(ifr)))
	if errno != 0 {
		return errno
	}
	return nil
}
