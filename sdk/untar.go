package slicer

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	// maxFolderTimes bounds how many folders of an archive get their time of
	// modification back.
	maxFolderTimes = 1 << 16

	// maxEntryName bounds the names in an archive, in bytes.
	maxEntryName = 4096
)

// ExtractTarStream extracts a tar archive from r into the folder extractDir,
// which is created if it is missing.
//
// Regular files and folders are extracted, with their time of modification and
// their permission bits under the umask (never setuid, setgid or sticky); all
// other entries are skipped. Entries take the place of files that are there
// already and join folders. A name that is absolute or has a ".." segment is an
// error, and so is one that leads through a symlink. Names that match one of
// excludePatterns are skipped. A uid or gid that is neither 0 nor NonRootUser is
// given to what was extracted, but not on Windows.
//
// A file appears under its name once it is complete. An archive without its end
// marker is cut, and an error that wraps io.ErrUnexpectedEOF.
func ExtractTarStream(ctx context.Context, r io.Reader, extractDir string, uid, gid uint32, excludePatterns ...string) error {
	x, err := newExtractor(uid, gid, excludePatterns)
	if err != nil {
		return err
	}
	return x.extractInto(ctx, r, extractDir)
}

// ExtractTarToPath extracts a tar archive from r as `cp -r` would copy its
// content to dest: into dest if that is a folder; else under the name dest. An
// archive whose entries are all below one name has that name replaced by dest; one
// of several becomes the content of a new folder dest. The folder that holds
// dest must exist; nothing else in it is touched.
//
// Entries, uid, gid and excludePatterns are treated as by ExtractTarStream. What
// is extracted to a new dest appears there at the end, whole, or not at all.
func ExtractTarToPath(ctx context.Context, r io.Reader, dest string, uid, gid uint32, excludePatterns ...string) error {
	x, err := newExtractor(uid, gid, excludePatterns)
	if err != nil {
		return err
	}
	return x.extractTo(ctx, r, dest, func(x *extractor) bool { return x.tops == 1 })
}

// extractor extracts one archive.
type extractor struct {
	uid, gid int // -1 leaves it as it is
	excluded *excluder
	perm     *fs.FileMode // of every file, instead of the archive's
	toEnd    bool         // the archive is all that there is to read
	links    bool         // symlinks that stay inside are made too

	// told, unless nil, is CpRootOptions.Entry.
	told func(*tar.Header) (io.Writer, error)

	root    *os.Root
	buf     []byte
	madeDir string // the last folder that was found or made
	folders []folderTime

	top       string // first name at the root of the archive
	tops      int    // how many names there are at the root; 2 stands for more too
	topIsFile bool   // the entry called top is a file, and was never anything else
}

type folderTime struct {
	name string
	time time.Time
}

func newExtractor(uid, gid uint32, excludePatterns []string) (*extractor, error) {
	excluded, err := newExcluder(excludePatterns)
	if err != nil {
		return nil, err
	}
	return &extractor{
		uid: chownID(uid), gid: chownID(gid), excluded: excluded,
		buf: make([]byte, copyBuffer),
	}, nil
}

// chownID returns id as chown wants it, -1 for one that isn't to be set.
func chownID(id uint32) int {
	if id == 0 || id == NonRootUser || runtime.GOOS == "windows" {
		return -1
	}
	return int(id)
}

// extractInto extracts into a folder that is made if need be.
func (x *extractor) extractInto(ctx context.Context, r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	defer root.Close()
	if err := x.run(ctx, r, root); err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	return nil
}

// extractTo extracts into dest if it is a folder, else to the new name dest. In
// that case unwrap is asked at the end whether the archive's only name is what
// dest is to be, rather than a folder that holds it.
func (x *extractor) extractTo(ctx context.Context, r io.Reader, dest string, unwrap func(*extractor) bool) (err error) {
	info, err := os.Stat(dest)
	switch {
	case err == nil && info.IsDir():
		return x.extractInto(ctx, r, dest)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("extract to %s: %w", dest, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("extract to %s: %w", dest, err)
		}
	}()
	parentDir, base := filepath.Split(filepath.Clean(dest))
	parent, err := os.OpenRoot(filepath.Clean(parentDir))
	if err != nil {
		return err
	}
	defer parent.Close()

	staging := tempName(base)
	if err := parent.Mkdir(staging, 0o755); err != nil {
		return err
	}
	defer func() {
		// What is left here is a failed extraction, or the folder that
		// held the one name.
		err = errors.Join(err, parent.RemoveAll(staging))
	}()
	root, err := parent.OpenRoot(staging)
	if err != nil {
		return err
	}
	err = x.run(ctx, r, root)
	root.Close() // Windows doesn't rename an open folder
	if err != nil {
		return err
	}
	result := staging
	if unwrap(x) {
		result = filepath.Join(staging, filepath.FromSlash(x.top))
	}
	return parent.Rename(result, base)
}

// tempName is a name beside base that nothing else has.
func tempName(base string) string {
	if len(base) > 64 {
		base = ""
	}
	return "." + base + "." + strings.ToLower(rand.Text()) + ".tmp"
}

// run extracts the archive into root.
func (x *extractor) run(ctx context.Context, r io.Reader, root *os.Root) error {
	x.root = root
	source := &tailReader{r: ctxReader{ctx, r}}
	archive := tar.NewReader(source)
	for {
		// With the content of the entry before read to its end, what
		// follows is its padding and then a header.
		headerAt := (source.read + 511) / 512 * 512
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if source.zeros < endMarker || source.read < headerAt+endMarker {
				return fmt.Errorf("the archive has no end: %w", io.ErrUnexpectedEOF)
			}
			if x.toEnd {
				if err := drainTrailer(source); err != nil {
					return err
				}
			}
			return x.finishFolders()
		}
		if err != nil {
			return err
		}
		if err := x.entry(archive, header); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(io.Discard, archive, x.buf); err != nil {
			return err
		}
	}
}

// entry extracts one entry.
func (x *extractor) entry(archive *tar.Reader, header *tar.Header) error {
	if isSparse(header) {
		// A few bytes could fill the disk, or take for ever to skip.
		return fmt.Errorf("the archive has the sparse file %.200q", header.Name)
	}
	isDir, isLink := header.Typeflag == tar.TypeDir, header.Typeflag == tar.TypeSymlink
	if !isDir && header.Typeflag != tar.TypeReg && (!isLink || !x.links) {
		_, err := x.tell(header)
		return err
	}
	if len(header.Name) > maxEntryName {
		return fmt.Errorf("the archive has a name of %d bytes", len(header.Name))
	}
	if !ValidRelPath(header.Name) {
		return fmt.Errorf("the archive has the unsafe name %.200q", header.Name)
	}
	name := path.Clean(header.Name)
	if name == "." {
		if !isDir {
			return fmt.Errorf("the archive has the unsafe name %.200q", header.Name)
		}
		return nil
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("the archive has the name %.200q, which this system can't have", header.Name)
	}
	if x.excluded.match(name, isDir) {
		return nil
	}
	if isLink && !linkStaysInside(name, header.Linkname) {
		return nil
	}
	also, err := x.tell(header)
	if err != nil {
		return err
	}
	x.countTop(name, isDir || isLink)
	switch {
	case isDir:
		return x.makeDir(name, header)
	case isLink:
		return x.makeLink(name, header.Linkname)
	}
	var content io.Reader = archive
	if also != nil {
		content = io.TeeReader(archive, also)
	}
	return x.makeFile(content, name, header)
}

// tell tells of an entry whoever wants to know.
func (x *extractor) tell(header *tar.Header) (also io.Writer, err error) {
	if x.told == nil {
		return nil, nil
	}
	return x.told(header)
}

// countTop keeps account of the names at the root of the archive.
func (x *extractor) countTop(name string, noFile bool) {
	top, _, below := strings.Cut(name, "/")
	switch {
	case x.tops == 0:
		x.top, x.tops = top, 1
		x.topIsFile = !below && !noFile
	case top != x.top:
		x.tops = 2
	case noFile:
		// A symlink in the file's place would lead elsewhere once it is renamed.
		x.topIsFile = false
	}
}

// makeDir makes a folder of the archive, or joins the one that is there.
func (x *extractor) makeDir(name string, header *tar.Header) error {
	if err := x.ensureDir(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := x.ensureDir(name, fs.FileMode(header.Mode)&0o777|0o700); err != nil {
		return err
	}
	if len(x.folders) < maxFolderTimes && !header.ModTime.IsZero() {
		x.folders = append(x.folders, folderTime{name, header.ModTime})
	}
	return nil
}

// ensureDir makes the folder name and the ones above it. A symlink on the way
// is refused, even one that stays within the root.
func (x *extractor) ensureDir(name string, perm fs.FileMode) error {
	if name == "." || name == x.madeDir {
		return nil
	}
	if err := x.ensureDir(path.Dir(name), 0o755); err != nil {
		return err
	}
	local := filepath.FromSlash(name)
	info, err := x.root.Lstat(local)
	if errors.Is(err, fs.ErrNotExist) {
		if err := x.root.Mkdir(local, perm); err != nil {
			return err
		}
		if err := x.chown(local); err != nil {
			return err
		}
		x.madeDir = name
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: name, Err: errors.New("not a directory")}
	}
	x.madeDir = name
	return nil
}

// makeFile writes a file under a temporary name beside its own, which it then
// takes.
func (x *extractor) makeFile(content io.Reader, name string, header *tar.Header) (err error) {
	dir := path.Dir(name)
	if err := x.ensureDir(dir, 0o755); err != nil {
		return err
	}
	final := filepath.FromSlash(name)
	temp := filepath.Join(filepath.FromSlash(dir), tempName(path.Base(name)))
	perm := fs.FileMode(header.Mode) & 0o777
	file, err := x.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.root.Remove(temp))
		}
	}()
	_, err = io.CopyBuffer(onlyWriter{file}, content, x.buf)
	if err == nil && x.perm != nil {
		err = file.Chmod(*x.perm)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := x.chown(temp); err != nil {
		return err
	}
	if !header.ModTime.IsZero() {
		if err := x.root.Chtimes(temp, header.ModTime, header.ModTime); err != nil {
			return err
		}
	}
	return x.root.Rename(temp, final)
}

func (x *extractor) chown(local string) error {
	if x.uid < 0 && x.gid < 0 {
		return nil
	}
	return x.root.Lchown(local, x.uid, x.gid)
}

// finishFolders sets the folders' times, which writing into them had changed.
func (x *extractor) finishFolders() error {
	for i := len(x.folders) - 1; i >= 0; i-- {
		folder := x.folders[i]
		if err := x.root.Chtimes(filepath.FromSlash(folder.name), folder.time, folder.time); err != nil {
			return err
		}
	}
	return nil
}

// onlyWriter hides a file's ReadFrom, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }
