package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// etcShown are the entries of the host's /etc that guests see: what programs
// need to find their parts, nothing that tells of users, keys or networks.
var etcShown = []string{
	"ImageMagick-*", "X11", "adduser.conf", "alternatives", "bash.bashrc", "bash_completion*", "bindresvport.blacklist",
	"ca-certificates", "ca-certificates.conf", "crypto-policies", "debconf.conf", "debian_version", "default/locale",
	"default/useradd", "deluser.conf", "dpkg", "emacs", "ethertypes", "fedora-release", "fonts", "gai.conf", "groff",
	"host.conf", "inputrc", "issue", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "libaudit.conf", "locale.alias",
	"locale.conf", "locale.gen", "localtime", "login.defs", "lsb-release", "magic", "magic.mime", "mailcap", "maven/logging",
	"maven/m2.conf", "mime.types", "mke2fs.conf", "nsswitch.conf", "openmpi", "os-release", "papersize", "perl", "php",
	"pki/ca-trust", "pki/java", "pki/tls", "profile", "protocols", "python*", "redhat-release", "rpc", "services", "shells",
	"skel", "ssl", "system-release", "terminfo", "texmf", "timezone", "vim", "xattr.conf", "xdg", "zsh",
}

// etcHidden are base names that stay out wherever they stand.
var etcHidden = []string{"private", "auth.conf*", "*.key", "*credential*", "*secret*", "*token*", "*passwd*", "*password*"}

const (
	maxEtcFileBytes = 8 << 20
	maxEtcBytes     = 64 << 20
)

// copyEtc copies the shown part of the host's /etc to dir, and what more names:
// what every user of the host may read, and no other.
func copyEtc(ctx context.Context, source, dir string, more ...string) error {
	budget := int64(maxEtcBytes)
	var shownParts [][]string
	for _, pattern := range slices.Concat(etcShown, more) {
		shownParts = append(shownParts, strings.Split(pattern, "/"))
	}
	return filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, rerr := filepath.Rel(source, name)
		if rerr != nil {
			return rerr
		}
		if err != nil {
			if rel == "." {
				return err
			}
			return nil // not readable for us, so not for a guest
		}
		if rel == "." {
			return os.MkdirAll(dir, 0o755)
		}
		shown, below := etcMatch(shownParts, rel)
		if !shown && !below {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(dir, rel)
		switch {
		case entry.IsDir():
			info, err := entry.Info()
			if err != nil || info.Mode().Perm()&0o005 != 0o005 {
				return fs.SkipDir
			}
			return os.MkdirAll(target, 0o755)
		case !shown:
			return nil
		case entry.Type()&fs.ModeSymlink != 0:
			text, err := os.Readlink(name)
			if err != nil {
				return nil //nolint:nilerr // it went away while we looked
			}
			return os.Symlink(text, target)
		case strings.HasPrefix(rel, etcPackages+"/") && tellsSecret(name):
			return nil
		case entry.Type().IsRegular():
			n, err := copyReadable(name, target)
			budget -= n
			if err == nil && budget < 0 {
				err = fmt.Errorf("the host's /etc is over %d bytes", int64(maxEtcBytes))
			}
			return err
		}
		return nil
	})
}

// etcMatch says whether rel is shown, or is a folder above something shown.
func etcMatch(patterns [][]string, rel string) (shown, below bool) {
	for _, hidden := range etcHidden {
		if ok, _ := path.Match(hidden, strings.ToLower(path.Base(rel))); ok {
			return false, false
		}
	}
	parts := strings.Split(rel, "/")
	for _, pattern := range patterns {
		depth := min(len(pattern), len(parts))
		matched := true
		for i := range depth {
			if ok, _ := path.Match(pattern[i], parts[i]); !ok {
				matched = false
				break
			}
		}
		if !matched {
			continue
		}
		if depth == len(pattern) {
			return true, false
		}
		below = true
	}
	return false, below
}

// copyReadable copies a file that every user may read; another is left out.
func copyReadable(name, target string) (int64, error) {
	in, err := os.Open(name)
	if err != nil {
		return 0, nil // not readable for us, so not for a guest
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 || info.Size() > maxEtcFileBytes {
		return 0, nil
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()&0o755)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, maxEtcFileBytes))
	return n, errors.Join(err, out.Close())
}
