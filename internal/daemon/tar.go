package daemon

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

const (
	// tarEnd is the length of the zeros that end an archive.
	tarEnd = 1024
	// maxTarRest is how much padding may follow them.
	maxTarRest = 1 << 20
	// maxTarName is the longest name in an archive, in bytes.
	maxTarName = maxPath
)

// receiveTar unpacks a call's body into a folder, which is made when it isn't
// there. Files, folders, symlinks and hard links are taken; entries of other
// types are skipped.
func (v *vm) receiveTar(r *http.Request, c *cpCall) error {
	u := &unpacking{call: c, files: v.files(), req: r, made: newMadeNames()}
	if err := u.mkdir(c.path, FileAttr{UID: c.attr.UID, GID: c.attr.GID}); err != nil {
		return err
	}
	body := &uploadReader{r: r.Body}
	archive := tar.NewReader(body)
	for {
		body.zeros = 0
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) && body.zeros >= tarEnd {
			// What pads the archive is read, so that the connection can be used again.
			_, _ = io.CopyN(io.Discard, body, maxTarRest)
			return nil
		}
		if err == nil {
			err = u.entry(hdr, archive)
		}
		if err == nil {
			continue
		}
		switch {
		case body.err != nil:
			return cutUpload(body.err)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return cutUpload(errors.New("the archive has no end"))
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
			return refuse(http.StatusBadRequest, "the body is no tar archive: %v", err)
		}
		return err
	}
}

// unpacking is one archive on its way into a guest.
type unpacking struct {
	call  *cpCall
	files FileTree
	req   *http.Request
	made  *madeNames
}

// entry takes one entry. It leaves nothing of its content unread.
func (u *unpacking) entry(hdr *tar.Header, content io.Reader) error {
	name, err := entryName(hdr.Name)
	if err != nil {
		return err
	}
	if isSparse(hdr) {
		return refuse(http.StatusBadRequest, "archive entry %q is sparse, which is not supported", hdr.Name)
	}
	dir := hdr.Typeflag == tar.TypeDir
	if name == "." || !taken(hdr.Typeflag) || u.call.exclude.match(name, dir) {
		_, err := io.Copy(io.Discard, content)
		return err
	}
	if err := u.checkWay(name, dir); err != nil {
		return err
	}
	attr := FileAttr{UID: u.call.attr.UID, GID: u.call.attr.GID, Mode: hdr.FileInfo().Mode().Perm(), ModTime: hdr.ModTime}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return u.mkdir(path.Join(u.call.path, name), attr)
	case tar.TypeSymlink:
		return u.symlink(name, hdr.Linkname, attr)
	case tar.TypeLink:
		return u.hardLink(name, hdr.Linkname, attr)
	}
	if u.call.attr.Mode != 0 {
		attr.Mode = u.call.attr.Mode
	}
	return u.file(name, attr, content)
}

// taken tells the types of entries that are unpacked.
func taken(kind byte) bool {
	switch kind {
	case tar.TypeDir, tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		return true
	}
	return false
}

// file writes the file that the archive calls name. It takes the place of a
// symlink that the archive made, which is never written through.
func (u *unpacking) file(name string, attr FileAttr, content io.Reader) error {
	target := path.Join(u.call.path, name)
	if u.made.isSymlink(name) {
		err := u.files.Remove(u.req.Context(), target, false)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fileError(target, err)
		}
	}
	if err := u.write(target, attr, content); err != nil {
		return err
	}
	u.made.file(name)
	return nil
}

func (u *unpacking) mkdir(target string, attr FileAttr) error {
	return fileError(target, u.files.Mkdir(u.req.Context(), target, attr, true))
}

func (u *unpacking) write(target string, attr FileAttr, content io.Reader) error {
	var f FileWriter
	err := u.inFolder(target, attr, func() (err error) {
		f, err = u.files.Create(u.req.Context(), target, attr)
		return err
	})
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(fileErrors{f, target}, content); err != nil {
		return err
	}
	return fileError(target, f.Commit())
}

// inFolder makes something called target. Where the archive has no entry for
// the folder of it, that is made first.
func (u *unpacking) inFolder(target string, attr FileAttr, create func() error) error {
	err := create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.mkdir(path.Dir(target), FileAttr{UID: attr.UID, GID: attr.GID}); err != nil {
			return err
		}
		err = create()
	}
	return fileError(target, err)
}

// fileErrors names the file in a writer's errors, which tells them from those
// of the reader beside it.
type fileErrors struct {
	w    io.Writer
	name string
}

func (f fileErrors) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	return n, fileError(f.name, err)
}

// fileReads is fileErrors for a file that is read.
type fileReads struct {
	r    io.Reader
	name string
}

func (f fileReads) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, fileError(f.name, err)
}

// entryName cleans an entry's name, and refuses one that leads out of the
// folder.
func entryName(name string) (string, error) {
	clean := path.Clean(name)
	bad := name == "" || len(name) > maxTarName || path.IsAbs(name) || strings.ContainsRune(name, 0)
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || part == ".."
	}
	if bad {
		return "", refuse(http.StatusBadRequest, "archive entry %q is not a path inside the folder", name[:min(len(name), 200)])
	}
	return clean, nil
}

// isSparse tells files whose archive is smaller than they are.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// sendTar answers with an archive of a folder's content, or of one file.
func (v *vm) sendTar(w http.ResponseWriter, r *http.Request, c *cpCall, info FileInfo) error {
	p := &packing{call: c, files: v.files(), req: r, w: tar.NewWriter(w)}
	var entries []FileInfo
	if info.Mode.IsDir() {
		var err error
		if entries, err = p.list(c.path); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", typeTar)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	var err error
	if info.Mode.IsDir() {
		err = p.entries("", entries)
	} else {
		err = p.file(path.Base(c.path), c.path)
	}
	if err != nil {
		return err
	}
	if err := p.w.Close(); err != nil {
		return fmt.Errorf("send the archive of %s: %w", c.path, err)
	}
	return nil
}

// packing is one archive on its way out of a guest.
type packing struct {
	call  *cpCall
	files FileTree
	req   *http.Request
	w     *tar.Writer
}

func (p *packing) list(name string) ([]FileInfo, error) {
	entries, err := p.files.ReadDir(p.req.Context(), name, maxEntries+1)
	if err != nil {
		return nil, fileError(name, err)
	}
	if len(entries) > maxEntries {
		return nil, tooManyEntries(name)
	}
	return entries, nil
}

// entries sends the files, folders and symlinks among entries, which lie in
// the folder dir of the archive. A file with several names is sent once for each.
func (p *packing) entries(dir string, entries []FileInfo) error {
	for _, info := range entries {
		name := path.Join(dir, info.Name)
		isDir, isLink := info.Mode.IsDir(), info.Mode&fs.ModeSymlink != 0
		if !isDir && !isLink && !info.Mode.IsRegular() || p.call.exclude.match(name, isDir) {
			continue
		}
		if isLink {
			if err := p.symlink(name, info); err != nil {
				return err
			}
			continue
		}
		source := path.Join(p.call.path, name)
		if !isDir {
			if err := p.file(name, source); err != nil {
				return err
			}
			continue
		}
		if err := p.header(name+"/", tar.TypeDir, info); err != nil {
			return err
		}
		below, err := p.list(source)
		if err != nil {
			return err
		}
		if err := p.entries(name, below); err != nil {
			return err
		}
	}
	return nil
}

// file sends the file source under name.
func (p *packing) file(name, source string) error {
	f, info, err := p.files.Open(p.req.Context(), source)
	if err != nil {
		return fileError(source, err)
	}
	defer f.Close()
	if err := p.header(name, tar.TypeReg, info); err != nil {
		return err
	}
	if _, err := io.CopyN(p.w, f, info.Size); err != nil {
		return fmt.Errorf("send %s: %w", source, err)
	}
	return nil
}

func (p *packing) header(name string, kind byte, info FileInfo) error {
	hdr := &tar.Header{
		Typeflag: kind, Name: name, Mode: int64(info.Mode.Perm()),
		Uid: int(info.UID), Gid: int(info.GID), ModTime: info.ModTime,
	}
	switch kind {
	case tar.TypeReg:
		hdr.Size = info.Size
	case tar.TypeSymlink:
		hdr.Linkname = info.Target
	}
	if err := p.w.WriteHeader(hdr); err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	return nil
}
