package daemon

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// cpParams are the query parameters of both cp calls. The last line's belong
// to modes that this daemon doesn't know: they are there so that such a mode
// is what is refused.
const cpParams = "path mode uid gid permissions exclude* " +
	"copy_semantics source_name source_type copy_contents"

const (
	modeBinary = "binary"
	modeTar    = "tar"

	typeBinary = "application/octet-stream"
	typeTar    = "application/x-tar"
)

// cpCall is a checked cp call.
type cpCall struct {
	path    string // absolute and clean
	folder  bool   // path was given with a slash at its end
	mode    string
	attr    FileAttr // Mode 0 and nil ids are left to the default
	exclude excludes
}

// parseCp reads a cp call. medium is what the call's headers say of its mode.
func parseCp(q query, medium string) (*cpCall, error) {
	c := &cpCall{mode: q.text("mode")}
	switch c.mode {
	case modeBinary, modeTar:
	case "":
		c.mode = modeBinary
		if kind, _, err := mime.ParseMediaType(medium); err == nil && kind == typeTar {
			c.mode = modeTar
		}
	default:
		return nil, &invalidMode{c.mode}
	}
	for _, name := range []string{"copy_semantics", "source_name", "source_type", "copy_contents"} {
		if q.has(name) {
			return nil, refuse(http.StatusBadRequest, "unknown query parameter %q", name)
		}
	}
	var err error
	if c.attr.UID, err = q.id("uid"); err != nil {
		return nil, err
	}
	if c.attr.GID, err = q.id("gid"); err != nil {
		return nil, err
	}
	if c.attr.Mode, err = parsePermissions("permissions", q.text("permissions")); err != nil {
		return nil, err
	}
	if c.exclude, err = parseExcludes(q.list("exclude")); err != nil {
		return nil, err
	}
	c.folder = strings.HasSuffix(q.text("path"), "/")
	c.path, err = guestPath(q.text("path"), c.attr.UID)
	return c, err
}

// invalidMode is a copy mode that this daemon doesn't know. Its answer is
// plain text, by which newer clients know that they must use an older mode.
type invalidMode struct{ mode string }

func (e *invalidMode) Error() string { return "invalid mode: " + e.mode }

// copyOut serves GET /vm/{vm}/cp.
func (d *Daemon) copyOut(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	c, err := parseCp(q, r.Header.Get("Accept"))
	if err != nil {
		return err
	}
	info, err := v.files().Stat(r.Context(), c.path)
	if err != nil {
		return fileError(c.path, err)
	}
	switch {
	case info.Mode.IsDir() && c.mode == modeBinary:
		return refuse(http.StatusBadRequest, "must specify a file not a directory")
	case !info.Mode.IsDir() && !info.Mode.IsRegular():
		return refuse(http.StatusBadRequest, "%s: not a regular file", c.path)
	case !info.Mode.IsDir() && c.folder:
		return refuse(http.StatusBadRequest, "%s: not a directory", c.path)
	case c.mode == modeTar:
		return v.sendTar(w, r, c, info)
	}
	return v.sendFile(w, r, c)
}

// sendFile answers with one file's bytes.
func (v *vm) sendFile(w http.ResponseWriter, r *http.Request, c *cpCall) error {
	f, info, err := v.files().Open(r.Context(), c.path)
	if err != nil {
		return fileError(c.path, err)
	}
	defer f.Close()
	w.Header().Set("Content-Type", typeBinary)
	w.Header().Set("X-Slicer-File-Mode", octal(info.Mode))
	if info.Size == 0 {
		// Files that the kernel makes up, as in /proc, say that they are empty.
		w.WriteHeader(http.StatusOK)
		if _, err := io.Copy(w, f); err != nil {
			return fmt.Errorf("send %s: %w", c.path, err)
		}
		return nil
	}
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.CopyN(w, f, info.Size); err != nil {
		return fmt.Errorf("send %s: %w", c.path, err)
	}
	return nil
}

// copyIn serves POST /vm/{vm}/cp.
func (d *Daemon) copyIn(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	c, err := parseCp(q, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if c.mode == modeTar {
		err = v.receiveTar(r, c)
	} else {
		err = v.receiveFile(r, c)
	}
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "copied\n")
}

// receiveFile writes a call's body to one file. A file that is there already
// keeps its mode and owner unless the call gives others.
func (v *vm) receiveFile(r *http.Request, c *cpCall) error {
	files, attr := v.files(), c.attr
	info, err := files.Stat(r.Context(), c.path)
	switch {
	case err == nil && info.Mode.IsDir():
		return refuse(http.StatusBadRequest, "%s is a directory; name a file in it", c.path)
	case c.folder:
		return refuse(http.StatusBadRequest, "%s/ names a directory; name a file", c.path)
	case err == nil && !info.Mode.IsRegular():
		return refuse(http.StatusBadRequest, "%s: not a regular file", c.path)
	case err == nil:
		if attr.Mode == 0 {
			attr.Mode = info.Mode.Perm()
		}
		if attr.UID == nil {
			attr.UID = &info.UID
		}
		if attr.GID == nil {
			attr.GID = &info.GID
		}
	}
	f, err := files.Create(r.Context(), c.path, attr)
	if err != nil {
		return fileError(path.Dir(c.path), err)
	}
	defer f.Abort()
	body := &uploadReader{r: r.Body}
	if _, err := io.Copy(f, body); err != nil {
		if body.err != nil {
			return cutUpload(body.err)
		}
		return fileError(c.path, err)
	}
	if err := f.Commit(); err != nil {
		return fileError(c.path, err)
	}
	return nil
}

// uploadReader remembers the error of reading a body, apart from the errors
// of writing it elsewhere, and counts the zeros at the end of what was read.
type uploadReader struct {
	r     io.Reader
	err   error // other than io.EOF
	zeros int64
}

// Read implements io.Reader.
func (u *uploadReader) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	tail := n
	for tail > 0 && p[tail-1] == 0 {
		tail--
	}
	if tail > 0 {
		u.zeros = 0
	}
	u.zeros += int64(n - tail)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

func cutUpload(err error) error {
	return refuse(http.StatusBadRequest, "the upload ended early: %v", err)
}
