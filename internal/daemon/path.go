package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"syscall"
)

// maxPath is the longest path that a call may name, in bytes.
const maxPath = 4096

// The home folders that ~ stands for: root's for uid 0, else the ordinary
// user's.
const (
	rootHome = "/root"
	userHome = "/home/ubuntu"
)

// guestPath checks and cleans a path in a guest. A leading ~ is the home of
// the user with the given id.
func guestPath(name string, uid *uint32) (string, error) {
	switch {
	case name == "":
		return "", refuse(http.StatusBadRequest, "path is required")
	case len(name) > maxPath:
		return "", refuse(http.StatusBadRequest, "path is longer than %d bytes", maxPath)
	case strings.ContainsRune(name, 0):
		return "", refuse(http.StatusBadRequest, "path has a NUL byte")
	}
	if rest, ok := strings.CutPrefix(name, "~"); ok && (rest == "" || rest[0] == '/') {
		home := userHome
		if uid != nil && *uid == 0 {
			home = rootHome
		}
		name = home + rest
	}
	if name[0] != '/' {
		return "", refuse(http.StatusBadRequest, "path must be absolute or begin with ~/, not %q", name)
	}
	return path.Clean(name), nil
}

// fileError turns an error of a FileTree into a refusal that names the file.
func fileError(name string, err error) error {
	var refused *apiError
	switch {
	case err == nil, errors.As(err, &refused), errors.Is(err, ErrEnded):
		return err
	case errors.Is(err, syscall.ENOTDIR):
		return refuse(http.StatusBadRequest, "%s: not a directory", name)
	case errors.Is(err, syscall.ENOTEMPTY):
		return refuse(http.StatusBadRequest, "%s: the directory is not empty; use recursive=true", name)
	case errors.Is(err, syscall.EISDIR):
		return refuse(http.StatusBadRequest, "%s: is a directory", name)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return refuse(http.StatusBadRequest, "%s: file name too long", name)
	case errors.Is(err, syscall.ELOOP):
		return refuse(http.StatusBadRequest, "%s: too many levels of symbolic links", name)
	case errors.Is(err, syscall.EIO):
		return refuse(http.StatusBadRequest, "%s: can't be read as a file: input/output error", name)
	case errors.Is(err, syscall.EFBIG):
		return refuse(http.StatusBadRequest, "%s: file too large", name)
	case errors.Is(err, fs.ErrNotExist):
		return refuse(http.StatusNotFound, "%s: no such file or directory", name)
	case errors.Is(err, fs.ErrExist):
		return refuse(http.StatusConflict, "%s: file exists", name)
	case errors.Is(err, fs.ErrPermission):
		return refuse(http.StatusForbidden, "%s: permission denied", name)
	case errors.Is(err, fs.ErrInvalid):
		return refuse(http.StatusBadRequest, "%s: invalid path", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}
