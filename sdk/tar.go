package slicer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// copyBuffer is the size of the buffers that file contents pass through.
const copyBuffer = 128 << 10

// ValidRelPath reports whether p, a slash-separated path such as the names in a
// tar archive, is relative and stays below where it starts: it is not empty,
// doesn't begin with a slash, holds no NUL and has no ".." segment. Backslashes
// are ordinary characters.
func ValidRelPath(p string) bool {
	if p == "" || p[0] == '/' || strings.ContainsRune(p, 0) {
		return false
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == ".." {
			return false
		}
	}
	return true
}

// StreamTarArchive writes a tar archive of baseName, a file or folder in
// parentDir, to w. The names in it begin with baseName; an empty baseName or "."
// archives what is in parentDir with names relative to it.
//
// Only regular files and folders are archived, with their permission bits and
// their time of modification to the second; symlinks and special files are
// skipped and symlinks are never followed. Names in the archive that match one
// of excludePatterns, which are gitignore-like globs with **, are left out. A
// file that shrinks while it is read is an error.
func StreamTarArchive(ctx context.Context, w io.Writer, parentDir, baseName string, excludePatterns ...string) error {
	root, err := os.OpenRoot(parentDir)
	if err != nil {
		return fmt.Errorf("archive %s: %w", parentDir, err)
	}
	defer root.Close()
	if baseName == "" {
		baseName = "."
	}
	return writeTar(ctx, w, root.FS(), baseName, excludePatterns, false)
}

// maxLinkTarget bounds the text of a symlink, in bytes.
const maxLinkTarget = 4095

// writeTar archives name, a file or folder of fsys, under its own name. With
// links it archives symlinks too, as symlinks, where fsys is an fs.ReadLinkFS.
func writeTar(ctx context.Context, w io.Writer, fsys fs.FS, name string, excludePatterns []string, links bool) error {
	excluded, err := newExcluder(excludePatterns)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	buf := make([]byte, copyBuffer)
	err = fs.WalkDir(fsys, name, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		if excluded.match(name, entry.IsDir()) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case entry.IsDir():
			return writeTarDir(archive, name, entry)
		case entry.Type().IsRegular():
			return writeTarFile(ctx, archive, fsys, name, buf)
		case links && entry.Type() == fs.ModeSymlink:
			return writeTarLink(archive, fsys, name, entry)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

func writeTarDir(archive *tar.Writer, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	return archive.WriteHeader(tarHeader(tar.TypeDir, name+"/", info))
}

func writeTarFile(ctx context.Context, archive *tar.Writer, fsys fs.FS, name string, buf []byte) error {
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil // it was one when the folder was listed
	}
	header := tarHeader(tar.TypeReg, name, info)
	header.Size = info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.CopyBuffer(archive, io.LimitReader(ctxReader{ctx, file}, header.Size), buf)
	if err != nil {
		return err
	}
	if n < header.Size {
		return fmt.Errorf("%s: shrank while it was read: %w", name, io.ErrUnexpectedEOF)
	}
	return nil
}

// writeTarLink archives a symlink; one of a file system that doesn't tell where
// it leads is skipped.
func writeTarLink(archive *tar.Writer, fsys fs.FS, name string, entry fs.DirEntry) error {
	target, err := fs.ReadLink(fsys, name)
	if errors.Is(err, fs.ErrInvalid) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header := tarHeader(tar.TypeSymlink, name, info)
	header.Linkname = filepath.ToSlash(target)
	if header.Linkname == "" || len(header.Linkname) > maxLinkTarget {
		return &fs.PathError{Op: "readlink", Path: name, Err: fmt.Errorf("the symlink's target has %d bytes, not 1 to %d", len(header.Linkname), maxLinkTarget)}
	}
	return archive.WriteHeader(header)
}

// tarHeader describes an entry without the owner, who means nothing on another
// machine.
func tarHeader(kind byte, name string, info fs.FileInfo) *tar.Header {
	return &tar.Header{
		Typeflag: kind, Name: name,
		Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second),
	}
}

// ctxReader reads until its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
