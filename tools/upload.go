package tools

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
)

// errChanged is a host file that is no longer what it was a moment ago.
var errChanged = errors.New("the file changed while it was read")

// tally is how much of a copy has been done.
type tally struct {
	files    int
	folders  int
	bytes    int64
	symlinks int
	skipped  int // entries that are none of these
}

// meter keeps the tally of a copy, and the checksums of its files. It is safe
// for concurrent use: a transport may read on for a moment after a call has
// failed, and others look at the tally meanwhile.
type meter struct {
	digest digest

	mu    sync.Mutex
	total tally
}

func (m *meter) add(t tally) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.files += t.files
	m.total.folders += t.folders
	m.total.bytes += t.bytes
	m.total.symlinks += t.symlinks
	m.total.skipped += t.skipped
}

// sofar is the tally up to now.
func (m *meter) sofar() tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// entry counts one file or folder, unless there are too many.
func (m *meter) entry(name string, t tally) error {
	m.add(t)
	if all := m.sofar(); all.files+all.folders+all.skipped > mostCopied {
		return errManyFiles
	}
	return m.digest.room(name)
}

// folderFS is the inside of an allowed folder. Everything is opened through
// its os.Root, files without waiting, and nothing but files and folders.
type folderFS struct {
	dir   *os.Root
	meter *meter
}

// Open implements fs.FS.
func (f folderFS) Open(name string) (fs.File, error) {
	file, info, err := openNow(f.dir, name)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		err = f.meter.entry(name, tally{folders: 1})
	case info.Mode().IsRegular():
		err = f.meter.entry(name, tally{files: 1})
	default:
		err = errChanged
	}
	if err != nil {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if info.IsDir() {
		return meteredFolder{file, f.meter}, nil
	}
	return meteredFile{file, name, f.meter, sha256.New()}, nil
}

// Lstat implements fs.ReadLinkFS.
func (f folderFS) Lstat(name string) (fs.FileInfo, error) { return f.dir.Lstat(name) }

// ReadLink implements fs.ReadLinkFS.
func (f folderFS) ReadLink(name string) (string, error) {
	target, err := f.dir.Readlink(name)
	if err == nil {
		f.meter.add(tally{symlinks: 1})
	}
	return target, err
}

// meteredFolder counts the entries that a copy passes over.
type meteredFolder struct {
	fs.ReadDirFile
	meter *meter
}

// ReadDir implements fs.ReadDirFile.
func (d meteredFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := d.ReadDirFile.ReadDir(n)
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() && e.Type() != fs.ModeSymlink {
			d.meter.add(tally{skipped: 1})
		}
	}
	return entries, err
}

// meteredFile counts the bytes that are read of it, and gives their checksum to
// the meter when it is closed.
type meteredFile struct {
	fs.File
	name  string
	meter *meter
	hash  hash.Hash
}

// Read implements fs.File.
func (f meteredFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.meter.add(tally{bytes: int64(n)})
	f.hash.Write(p[:n])
	return n, err
}

// Close implements fs.File.
func (f meteredFile) Close() error {
	f.meter.digest.file(f.name, f.hash)
	return f.File.Close()
}

// fileFS holds one file, open already, under a name. The checksum of what is read
// of it is hash's.
type fileFS struct {
	entry *hostEntry
	name  string
	meter *meter
	hash  hash.Hash
}

// Open implements fs.FS. What it returns reads the file from its beginning,
// and leaves it open when closed.
func (f fileFS) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	body := io.NewSectionReader(f.entry.file, 0, f.entry.info.Size())
	return meteredFile{section{body, f.entry.info}, name, f.meter, f.hash}, nil
}

// section is a file that ends at the size it had when it was opened.
type section struct {
	io.Reader
	info fs.FileInfo
}

// Stat implements fs.File.
func (s section) Stat() (fs.FileInfo, error) { return s.info, nil }

// Close implements fs.File.
func (s section) Close() error { return nil }
