package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The guest's ordinary user, as in Slicer's own images.
const (
	ubuntuName = "ubuntu"
	ubuntuID   = 1000
	ubuntuHome = "/home/ubuntu"
)

// writeIdentity writes, on a new disk, the files of /etc that name the machine
// and its users, and the users' homes.
func writeIdentity(cfg *bootConfig) error {
	passwd := `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`
	group := `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:ubuntu
tty:x:5:
disk:x:6:
man:x:12:
mail:x:8:
sudo:x:27:ubuntu
www-data:x:33:
shadow:x:42:
utmp:x:43:
staff:x:50:
ubuntu:x:1000:
nogroup:x:65534:
`
	// For su, passwd and whatever else asks: root may, and nobody has a password.
	pam := `auth sufficient pam_rootok.so
auth required pam_deny.so
account required pam_permit.so
password required pam_unix.so sha512
session required pam_permit.so
`
	if err := mkdirMode("/etc/pam.d", 0o755); err != nil {
		return err
	}
	files := []struct {
		name, text string
		mode       fs.FileMode
	}{
		{"passwd", passwd, 0o644},
		{"group", group, 0o644},
		{"shadow", "root:*:19000:0:99999:7:::\nubuntu:*:19000:0:99999:7:::\n", 0o640},
		{"pam.d/other", pam, 0o644},
		{"hostname", cfg.Hostname + "\n", 0o644},
		{"hosts", "127.0.0.1 localhost\n127.0.1.1 " + cfg.Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n", 0o644},
	}
	for _, f := range files {
		name := filepath.Join("/etc", f.name)
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(name, []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for _, l := range []link{{"mtab", "/proc/self/mounts"}, {"resolv.conf", guestResolver}} {
		name := filepath.Join("/etc", l.Name)
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(l.Target, name); err != nil {
			return err
		}
	}
	return makeHomes(cfg.Idmap.Kind)
}

// makeHomes makes the homes of root and ubuntu where they aren't there yet.
func makeHomes(kind idmapKind) error {
	for _, u := range []struct {
		home string
		id   uint32
		mode fs.FileMode
	}{{"/root", 0, 0o700}, {ubuntuHome, ubuntuID, 0o755}} {
		if err := mkdirMode(u.home, u.mode); err != nil {
			return err
		}
		uid, gid := kind.own(u.id, u.id)
		if err := os.Chown(u.home, uid, gid); err != nil {
			return fmt.Errorf("give %s to %d: %w", u.home, u.id, err)
		}
		skeleton, err := os.ReadDir("/etc/skel")
		if err != nil {
			continue // a host without skeleton files
		}
		for _, e := range skeleton {
			data, err := os.ReadFile(filepath.Join("/etc/skel", e.Name()))
			if err != nil || !e.Type().IsRegular() {
				continue // only plain files are copied
			}
			name := filepath.Join(u.home, e.Name())
			if _, err := os.Lstat(name); err == nil {
				continue
			}
			if err := os.WriteFile(name, data, 0o644); err != nil {
				return err
			}
			if err := os.Chown(name, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// account is a line of the guest's /etc/passwd.
type account struct {
	name, home, shell string
	gid               uint32
}

// lookupAccount finds a user in the guest's /etc/passwd; an id without a line
// gets a plain account.
func lookupAccount(uid uint32) account {
	unknown := account{name: strconv.FormatUint(uint64(uid), 10), home: "/", shell: "/bin/sh", gid: uid}
	f, err := openRegular("/etc/passwd", &reply{})
	if err != nil {
		return unknown
	}
	defer f.Close()
	text := make([]byte, 1<<20)
	n, _ := readUpTo(f, text) // what could be read is what is known
	for line := range strings.Lines(string(text[:n])) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || f[2] != unknown.name {
			continue
		}
		gid, err := strconv.ParseUint(f[3], 10, 32)
		if err != nil {
			continue
		}
		return account{name: f[0], home: f[5], shell: f[6], gid: uint32(gid)}
	}
	return unknown
}
