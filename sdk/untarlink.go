package slicer

import (
	"errors"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// linkStaysInside reports whether the symlink called name, with the given
// target, leads to a place inside the folder that is extracted to. That is
// certain where the target is relative and has ".." at its beginning only, no
// more often than there are folders above name: these are no symlinks, and the
// symlinks that the rest may lead through stay inside themselves. None is made
// on Windows, where symlinks need a privilege.
func linkStaysInside(name, target string) bool {
	if runtime.GOOS == "windows" || target == "" || len(target) > maxLinkTarget || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return false
	}
	depth, down := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
			if down || depth < 0 {
				return false
			}
		default:
			down = true
		}
	}
	return true
}

// makeLink makes a symlink under a temporary name beside its own, which it then
// takes. It is never followed.
func (x *extractor) makeLink(name, target string) (err error) {
	dir := path.Dir(name)
	if err := x.ensureDir(dir, 0o755); err != nil {
		return err
	}
	temp := filepath.Join(filepath.FromSlash(dir), tempName(path.Base(name)))
	if err := x.root.Symlink(target, temp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.root.Remove(temp))
		}
	}()
	if err := x.chown(temp); err != nil {
		return err
	}
	return x.root.Rename(temp, filepath.FromSlash(name))
}
