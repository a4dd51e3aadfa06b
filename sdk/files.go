package slicer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
)

const (
	// maxReadFile bounds ReadFile, in bytes.
	maxReadFile = 64 << 20

	defaultFileMode = fs.FileMode(0o644)
)

// VMFile is a file of a VM, open for reading from its beginning. It must be
// closed; the context that it was opened with ends it too.
type VMFile struct {
	Mode fs.FileMode // permission bits; 0644 if the daemon doesn't say
	Size int64       // in bytes; -1 if the daemon doesn't say

	body io.ReadCloser
	data responseReader
}

// Read reads the file's content. A stream that ends before the file does is
// io.ErrUnexpectedEOF.
func (f *VMFile) Read(p []byte) (int, error) {
	return f.data.Read(p)
}

// Close ends the stream, read to its end or not.
func (f *VMFile) Close() error {
	return f.body.Close()
}

// OpenFile opens a file of a VM for reading (GET /vm/{vm}/cp in the mode
// "binary"). If vmPath is missing, errors.Is(err, fs.ErrNotExist) holds; if it
// is a folder, ErrIsDirectory. The caller closes the file.
func (c *SlicerClient) OpenFile(ctx context.Context, vmName, vmPath string) (*VMFile, error) {
	resp, err := c.download(ctx, vmName, vmPath, modeBinary, typeBinary) //nolint:bodyclose // VMFile closes it
	if err != nil {
		return nil, fmt.Errorf("open %s in VM %q: %w", vmPath, vmName, err)
	}
	return &VMFile{
		Mode: fileMode(resp.Header), Size: resp.ContentLength,
		body: resp.Body, data: responseReader{ctx: ctx, r: resp.Body},
	}, nil
}

// fileMode reads the permission bits of a file from the header of its copy.
func fileMode(header http.Header) fs.FileMode {
	bits, err := strconv.ParseUint(header.Get("X-Slicer-File-Mode"), 8, 32)
	if err != nil {
		return defaultFileMode
	}
	return fs.FileMode(bits) & fs.ModePerm
}

// ReadFile returns the content of a file of a VM, of at most 64 MiB; OpenFile
// streams larger ones. Its errors are those of OpenFile.
func (c *SlicerClient) ReadFile(ctx context.Context, vmName, vmPath string) ([]byte, error) {
	file, err := c.OpenFile(ctx, vmName, vmPath)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	if file.Size > 0 && file.Size <= maxReadFile {
		content.Grow(int(file.Size) + bytes.MinRead)
	}
	n, err := content.ReadFrom(io.LimitReader(file, maxReadFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s in VM %q: %w", vmPath, vmName, err)
	}
	if n > maxReadFile {
		return nil, fmt.Errorf("read %s in VM %q: it is larger than %d MiB", vmPath, vmName, maxReadFile>>20)
	}
	return content.Bytes(), nil
}

// WriteFile writes a file of a VM, in place of one that is there (POST
// /vm/{vm}/cp in the mode "binary"). It gets perm's permission bits; with a perm
// of 0 the agent picks them. It belongs to uid and gid: 0 is root, NonRootUser
// leaves the choice to the agent.
func (c *SlicerClient) WriteFile(ctx context.Context, vmName, vmPath string, data []byte, perm fs.FileMode, uid, gid uint32) error {
	query := url.Values{"mode": {modeBinary}}
	setID(query, "uid", uid)
	setID(query, "gid", gid)
	if perm.Perm() != 0 {
		query.Set("permissions", formatPermissions(perm))
	}
	body := &heldBody{r: bytes.NewReader(data)}
	defer body.Close()
	err := c.upload(ctx, vmName, vmPath, query, body, int64(len(data)), typeBinary)
	if err != nil {
		return fmt.Errorf("write %s in VM %q: %w", vmPath, vmName, fileError(err, vmName, vmPath))
	}
	return nil
}
