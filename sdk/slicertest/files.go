package slicertest

import (
	"io/fs"
	"path"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Files are a VM's files as one user may use them. Errors are *fs.PathError.
type Files struct {
	tree *memTree
	dir  string
	user *owner // nil may do everything
}

// owner is a user and group id.
type owner struct{ uid, gid uint32 }

func (f *Files) abs(name string) string {
	if !path.IsAbs(name) {
		name = path.Join(f.dir, name)
	}
	return path.Clean(name)
}

// attr is what files that f makes get.
func (f *Files) attr(perm fs.FileMode) daemon.FileAttr {
	o := owner{}
	if f.user != nil {
		o = *f.user
	}
	return daemon.FileAttr{Mode: perm, UID: &o.uid, GID: &o.gid}
}

// ReadFile returns a file's content.
func (f *Files) ReadFile(name string) ([]byte, error) {
	data, err := f.tree.read(f.abs(name), f.user)
	return data, pathError("open", name, err)
}

// WriteFile writes a file, which gets perm and the user's ids when it is new;
// an old one keeps what it has.
func (f *Files) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return pathError("open", name, f.tree.write(f.abs(name), data, f.attr(perm), f.user))
}

// Mkdir makes a folder with the permissions 0755, and the missing ones above
// it. A folder that is there is no error.
func (f *Files) Mkdir(name string) error {
	return pathError("mkdir", name, f.tree.mkdir(f.abs(name), f.attr(0o755), true, f.user))
}

// Symlink makes a symlink called name that points to target.
func (f *Files) Symlink(target, name string) error {
	return pathError("symlink", name, f.tree.symlink(target, f.abs(name), f.attr(0), f.user))
}

// Remove removes a file, or a folder with all that is in it.
func (f *Files) Remove(name string) error {
	return pathError("remove", name, f.tree.remove(f.abs(name), true, f.user))
}

// Chmod changes a file's permissions, which only its owner and root may. It
// follows symlinks.
func (f *Files) Chmod(name string, perm fs.FileMode) error {
	return pathError("chmod", name, f.tree.chmod(f.abs(name), perm, f.user))
}

// Rename moves a file or folder. A file that is there is replaced, a folder
// is not.
func (f *Files) Rename(from, to string) error {
	return pathError("rename", from, f.tree.rename(f.abs(from), f.abs(to), f.user))
}

// Stat describes a file. It follows symlinks. The result's Sys is an Owner.
func (f *Files) Stat(name string) (fs.FileInfo, error) {
	info, err := f.tree.stat(f.abs(name), true)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return fileInfo{info}, nil
}

// Owner says whose a file is.
type Owner struct{ UID, GID uint32 }

type fileInfo struct{ i daemon.FileInfo }

func (f fileInfo) Name() string       { return f.i.Name }
func (f fileInfo) Size() int64        { return f.i.Size }
func (f fileInfo) Mode() fs.FileMode  { return f.i.Mode }
func (f fileInfo) ModTime() time.Time { return f.i.ModTime }
func (f fileInfo) IsDir() bool        { return f.i.Mode.IsDir() }
func (f fileInfo) Sys() any           { return Owner{f.i.UID, f.i.GID} }

// String makes test failures readable.
func (f fileInfo) String() string { return fs.FormatFileInfo(f) }

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
