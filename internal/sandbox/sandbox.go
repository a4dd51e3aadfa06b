// Package sandbox makes guests for internal/daemon out of Linux namespaces.
//
// A guest is a process tree with mount, pid, uts, ipc and net namespaces of
// its own (and a user namespace where the server isn't root), on an overlay
// root: the host's system folders below, a private writable layer above. Its
// first process is this same program, executed again as the guest's agent. The
// agent starts commands and opens files inside the guest on the daemon's
// behalf, and passes file descriptors back, so that no path of a guest is ever
// resolved on the host.
//
// Namespaces are not a hypervisor: guests share the host's kernel.
package sandbox

import (
	"errors"
	"log/slog"
)

// Config says how a Hypervisor works.
type Config struct {
	// StateDir is the folder under which guests keep their disks while they
	// run, and kept disks lie. "" is slicervm-mcp in the user's state folder
	// ($XDG_STATE_HOME, else ~/.local/state).
	StateDir string

	// HostNetwork gives guests the machine's network instead of one of their
	// own that leads nowhere. They share its ports with the machine and with
	// each other, reach its abstract Unix sockets and what listens on its
	// loopback (this program's own server as well), and names are resolved as
	// the machine does it. They can neither configure the network nor open raw
	// sockets. Guests' root binds ports below 1024 where the server is root.
	HostNetwork bool

	// Log takes what happens to guests; nil discards it.
	Log *slog.Logger
}

// needsLinux says on another system what to use instead.
func needsLinux(goos string) error {
	hint := "point --url at a Slicer daemon on a Linux machine"
	if goos == "darwin" {
		hint = "install Slicer for Mac, whose socket ~/slicer-mac/slicer.sock is found by itself, or point --url at another Slicer daemon"
	}
	return errors.New("the embedded sandbox needs Linux namespaces and this is " + goos + "; instead, " + hint)
}
