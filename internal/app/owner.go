package app

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/user"
	"strings"
)

// defaultOwner names the VMs of this user's work on this project on this
// host: the same after a restart, different for another project. It is a hash,
// since a daemon's other users can read it.
func defaultOwner(project string) string {
	parts := []string{"", "", project}
	if u, err := user.Current(); err == nil { // else the host and the project tell owners apart
		parts[0] = u.Uid + " " + u.Username
	}
	if name, err := os.Hostname(); err == nil { // as above
		parts[1] = name
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
