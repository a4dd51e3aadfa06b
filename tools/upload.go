package tools

import (
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
)

// errChanged is a host file that is no longer what it was a moment ago.
var errChanged = errors.New("the file changed while it was read")

// tally is what has been read of an upload.
type tally struct {
	files    int
	bytes    int64
	symlinks int
	skipped  int // entries of folders that are neither files, folders nor symlinks
}

// meter keeps the tally of an upload, and the hash of its bytes where there is
// one. It is safe for concurrent use: a transport may read on for a moment
// after a call has failed.
type meter struct {
	mu    sync.Mutex
	total tally
	hash  hash.Hash
}

func (m *meter) add(t tally, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.files += t.files
	m.total.bytes += int64(len(p))
	m.total.symlinks += t.symlinks
	m.total.skipped += t.skipped
	if m.hash != nil {
		m.hash.Write(p)
	}
}

func (m *meter) sent() tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// sum is the hash of what was read.
func (m *meter) sum() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hash.Sum(nil)
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
		return meteredFolder{file, f.meter}, nil
	case info.Mode().IsRegular():
		f.meter.add(tally{files: 1}, nil)
		return meteredFile{file, f.meter}, nil
	}
	file.Close()
	return nil, &fs.PathError{Op: "open", Path: name, Err: errChanged}
}

// Lstat implements fs.ReadLinkFS.
func (f folderFS) Lstat(name string) (fs.FileInfo, error) { return f.dir.Lstat(name) }

// ReadLink implements fs.ReadLinkFS.
func (f folderFS) ReadLink(name string) (string, error) {
	target, err := f.dir.Readlink(name)
	if err == nil {
		f.meter.add(tally{symlinks: 1}, nil)
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
			d.meter.add(tally{skipped: 1}, nil)
		}
	}
	return entries, err
}

// meteredFile counts the bytes that are read of it.
type meteredFile struct {
	fs.File
	meter *meter
}

// Read implements fs.File.
func (f meteredFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.meter.add(tally{}, p[:n])
	return n, err
}

// fileFS holds one file, open already, under a name.
type fileFS struct {
	entry *hostEntry
	name  string
	meter *meter
}

// Open implements fs.FS. What it returns reads the file from its beginning,
// and leaves it open when closed.
func (f fileFS) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	body := io.NewSectionReader(f.entry.file, 0, f.entry.info.Size())
	return meteredFile{section{body, f.entry.info}, f.meter}, nil
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
