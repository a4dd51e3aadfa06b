package daemon

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
)

const (
	// maxLinkTarget is the longest text of a symlink, in bytes.
	maxLinkTarget = maxPath - 1
	// maxMadeSymlinks is how many symlinks an archive may have.
	maxMadeSymlinks = 1 << 17
	// maxMadeFiles is how many of an archive's files its hard links may name,
	// counted from its beginning.
	maxMadeFiles = 1 << 20
)

// madeNames are the names that an archive has made so far. They are kept as
// digests, so that long ones take no more memory than short ones.
type madeNames struct {
	files, symlinks map[nameKey]struct{}
}

func newMadeNames() *madeNames {
	return &madeNames{files: map[nameKey]struct{}{}, symlinks: map[nameKey]struct{}{}}
}

// nameKey is a name's digest.
type nameKey [16]byte

func keyOf(name string) nameKey {
	sum := sha256.Sum256([]byte(name))
	return nameKey(sum[:16])
}

func (m *madeNames) file(name string) {
	key := keyOf(name)
	delete(m.symlinks, key)
	if len(m.files) < maxMadeFiles {
		m.files[key] = struct{}{}
	}
}

func (m *madeNames) symlink(name string) {
	key := keyOf(name)
	delete(m.files, key)
	m.symlinks[key] = struct{}{}
}

func (m *madeNames) isFile(name string) bool {
	_, ok := m.files[keyOf(name)]
	return ok
}

func (m *madeNames) isSymlink(name string) bool {
	if len(m.symlinks) == 0 {
		return false
	}
	_, ok := m.symlinks[keyOf(name)]
	return ok
}

// checkWay refuses an entry that a symlink of the same archive would lead
// elsewhere: one below it, and a folder in its place.
func (u *unpacking) checkWay(name string, dir bool) error {
	if len(u.made.symlinks) == 0 {
		return nil
	}
	way := name
	if !dir {
		way = path.Dir(name)
	}
	for ; way != "."; way = path.Dir(way) {
		if u.made.isSymlink(way) {
			return refuse(http.StatusBadRequest, "archive entry %q leads through %q, which is a symlink in the archive", brief(name), brief(way))
		}
	}
	return nil
}

// symlink makes the symlink that the archive calls name. What its text names
// may lie anywhere in the guest, or be missing.
func (u *unpacking) symlink(name, text string, attr FileAttr) error {
	switch {
	case text == "" || strings.ContainsRune(text, 0):
		return refuse(http.StatusBadRequest, "archive entry %q is a symlink to nothing, or to a name with a NUL byte", brief(name))
	case len(text) > maxLinkTarget:
		return refuse(http.StatusBadRequest, "archive entry %q is a symlink with a target of %d bytes; the limit is %d", brief(name), len(text), maxLinkTarget)
	case len(u.made.symlinks) >= maxMadeSymlinks && !u.made.isSymlink(name):
		return refuse(http.StatusBadRequest, "the archive has more than %d symlinks; copy its folders one by one", maxMadeSymlinks)
	}
	target := path.Join(u.call.path, name)
	err := u.inFolder(target, attr, func() error {
		return u.files.Symlink(u.req.Context(), target, text, attr)
	})
	if err != nil {
		return err
	}
	u.made.symlink(name)
	return nil
}

// hardLink makes a copy, called name, of the file or symlink that the archive
// made under the name first.
func (u *unpacking) hardLink(name, first string, attr FileAttr) error {
	clean, err := entryName(first)
	if err != nil || !u.made.isFile(clean) && !u.made.isSymlink(clean) {
		why := "which is no earlier file of the archive"
		if err == nil && u.call.exclude.match(clean, false) {
			why = "which this copy excludes"
		}
		return refuse(http.StatusBadRequest, "archive entry %q is a hard link to %q, %s", brief(name), brief(first), why)
	}
	source := path.Join(u.call.path, clean)
	if u.made.isSymlink(clean) {
		info, err := u.files.Lstat(u.req.Context(), source)
		if err != nil {
			return fileError(source, err)
		}
		attr.ModTime = info.ModTime
		return u.symlink(name, info.Target, attr)
	}
	if clean == name {
		return nil
	}
	f, info, err := u.files.Open(u.req.Context(), source)
	if err != nil {
		return fileError(source, err)
	}
	defer f.Close()
	attr.Mode, attr.ModTime = info.Mode.Perm(), info.ModTime
	// A process in the guest may make the file longer meanwhile.
	return u.file(name, attr, io.LimitReader(fileReads{f, source}, info.Size))
}

// symlink sends a symlink as one.
func (p *packing) symlink(name string, info FileInfo) error {
	if info.Target == "" {
		return nil // it went away while the folder was listed
	}
	if len(info.Target) > maxLinkTarget || strings.ContainsRune(info.Target, 0) {
		return fmt.Errorf("send %s: the guest's symlink has no usable target", name)
	}
	return p.header(name, tar.TypeSymlink, info)
}

// brief cuts a name to what an error has room for.
func brief(name string) string { return name[:min(len(name), 200)] }
