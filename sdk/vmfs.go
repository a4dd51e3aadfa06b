package slicer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
)

// vmFS is a VM's files below root.
type vmFS struct {
	client *SlicerClient
	ctx    context.Context
	vmName string
	root   string
}

var (
	_ fs.ReadDirFS  = vmFS{}
	_ fs.StatFS     = vmFS{}
	_ fs.ReadFileFS = vmFS{}
	_ fs.SubFS      = vmFS{}
)

// FS returns the files of a VM below the folder root, such as / or ~/src, as a
// file system for reading, which implements fs.ReadDirFS, fs.StatFS,
// fs.ReadFileFS and fs.SubFS. The functions of package io/fs, template.ParseFS,
// http.FS and the like take it. It isn't an fs.ReadLinkFS: the API has no call
// that tells where a symlink leads.
//
// Every operation is a call of the daemon that ends with ctx; nothing is kept
// between them. Names are those of fs.ValidPath; a symlink in the VM is
// followed wherever it leads, also out of root. ReadFile reads 64 MiB at most.
// Nothing is asked of the daemon before the first operation.
func (c *SlicerClient) FS(ctx context.Context, vmName, root string) fs.FS {
	return vmFS{client: c, ctx: ctx, vmName: vmName, root: root}
}

// path returns the path in the VM of a name.
func (v vmFS) path(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." || v.root == "" {
		return v.root, nil
	}
	return strings.TrimRight(v.root, "/") + "/" + name, nil
}

// Open opens a file or folder.
func (v vmFS) Open(name string) (fs.File, error) {
	info, err := v.stat("open", name)
	if err != nil {
		return nil, err
	}
	file := &vmOpenFile{fsys: v, name: name, info: info}
	if info.Mode()&fs.ModeSymlink != 0 {
		// The daemon doesn't follow it, but a copy does.
		if err := file.follow(); err != nil {
			return nil, err
		}
	}
	if file.info.IsDir() {
		return &vmOpenDir{vmOpenFile: file}, nil
	}
	return file, nil
}

// Stat describes a file or folder.
func (v vmFS) Stat(name string) (fs.FileInfo, error) {
	info, err := v.stat("stat", name)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// stat describes name, under its own name whatever the daemon calls it.
func (v vmFS) stat(op, name string) (vmFileInfo, error) {
	vmPath, err := v.path(op, name)
	if err != nil {
		return vmFileInfo{}, err
	}
	info, err := v.client.Stat(v.ctx, v.vmName, vmPath)
	if err != nil {
		return vmFileInfo{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	info.Name = path.Base(name)
	return vmFileInfo{info}, nil
}

// ReadFile returns a file's content.
func (v vmFS) ReadFile(name string) ([]byte, error) {
	vmPath, err := v.path("open", name)
	if err != nil {
		return nil, err
	}
	data, err := v.client.ReadFile(v.ctx, v.vmName, vmPath)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return data, nil
}

// ReadDir lists a folder, sorted by name.
func (v vmFS) ReadDir(name string) ([]fs.DirEntry, error) {
	vmPath, err := v.path("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := v.client.ReadDir(v.ctx, v.vmName, vmPath)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	entries := make([]fs.DirEntry, len(list))
	for i := range list {
		entries[i] = fs.FileInfoToDirEntry(list[i].FileInfo())
	}
	return entries, nil
}

// Sub returns the files below the folder dir.
func (v vmFS) Sub(dir string) (fs.FS, error) {
	root, err := v.path("sub", dir)
	if err != nil {
		return nil, err
	}
	v.root = root
	return v, nil
}

// vmOpenFile is an open file of a vmFS. Its stream is opened by the first Read.
type vmOpenFile struct {
	fsys   vmFS
	name   string
	info   vmFileInfo
	stream *VMFile
	closed bool
}

// follow replaces the description of a symlink by that of what it leads to.
func (f *vmOpenFile) follow() error {
	err := f.openStream()
	if err != nil && !errors.Is(err, ErrIsDirectory) {
		return err
	}
	target := *f.info.i
	if err != nil {
		target.Type, target.Mode = typeDirectory, ""
	} else {
		target.Type, target.Mode = typeFile, formatPermissions(f.stream.Mode)
		target.Size = max(f.stream.Size, 0)
	}
	f.info = vmFileInfo{&target}
	return nil
}

func (f *vmOpenFile) openStream() error {
	vmPath, err := f.fsys.path("open", f.name)
	if err != nil {
		return err
	}
	f.stream, err = f.fsys.client.OpenFile(f.fsys.ctx, f.fsys.vmName, vmPath)
	if err != nil {
		return &fs.PathError{Op: "open", Path: f.name, Err: err}
	}
	return nil
}

// Stat describes the file as it was when it was opened.
func (f *vmOpenFile) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, &fs.PathError{Op: "stat", Path: f.name, Err: fs.ErrClosed}
	}
	return f.info, nil
}

// Read reads the file's content.
func (f *vmOpenFile) Read(p []byte) (int, error) {
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrClosed}
	}
	if f.stream == nil {
		if err := f.openStream(); err != nil {
			return 0, err
		}
	}
	n, err := f.stream.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &fs.PathError{Op: "read", Path: f.name, Err: err}
	}
	return n, err
}

// Close ends the file's stream.
func (f *vmOpenFile) Close() error {
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	if f.stream == nil {
		return nil
	}
	return f.stream.Close()
}

// vmOpenDir is an open folder of a vmFS. It is listed by the first ReadDir.
type vmOpenDir struct {
	*vmOpenFile
	listed  bool
	entries []fs.DirEntry // what ReadDir has yet to return
}

// Read is refused: a folder has no content.
func (d *vmOpenDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: ErrIsDirectory}
}

// ReadDir returns the next n entries, or all that are left if n is 0 or less.
func (d *vmOpenDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: fs.ErrClosed}
	}
	if !d.listed {
		entries, err := d.fsys.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.listed = entries, true
	}
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	next := d.entries[:n:n]
	d.entries = d.entries[n:]
	return next, nil
}
