package slicer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

const (
	modeTar    = "tar"
	modeBinary = "binary"

	typeTar    = "application/x-tar"
	typeBinary = "application/octet-stream"
)

// SlicerCpRequest names a path in a VM.
type SlicerCpRequest struct {
	VM   string // hostname of the VM
	Path string // path in the VM
}

// CpToVM copies a file or folder into a VM (POST /vm/{vm}/cp), streaming.
//
// With the mode "tar" localPath may be a folder, whose content is put into the
// folder vmPath; or a file, which is put into the folder vmPath under its own
// name. With the mode "binary" localPath is a file and vmPath the file to write.
// If localPath itself is a symlink it is followed.
//
// A folder is archived as StreamTarArchive does it, with its symlinks: they are
// sent as symlinks with the targets that they have here, and never followed. A
// daemon that takes only files and folders from an archive skips them. Of a file
// with several names each is sent as a file of its own.
//
// The copies belong to uid and gid; 0 is root, NonRootUser leaves the choice to
// the agent. permissions is octal ("0644") and for all files; "" keeps each
// file's own. excludePatterns are gitignore-like globs with **, matched against
// names relative to the folder that is copied; they need the mode "tar".
//
// An error leaves what had arrived by then in the VM; a file that was on its way
// is cut off in a manner that the daemon notices.
func (c *SlicerClient) CpToVM(ctx context.Context, vmName, localPath, vmPath string, uid, gid uint32, permissions, mode string, excludePatterns ...string) error {
	real, err := filepath.EvalSymlinks(localPath)
	if err != nil {
		return fmt.Errorf("copy to VM %q: %w", vmName, err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("copy to VM %q: %w", vmName, err)
	}
	dir, name := real, "."
	if !info.IsDir() {
		dir, name = filepath.Dir(real), filepath.Base(real)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("copy to VM %q: %w", vmName, err)
	}
	defer root.Close()
	return c.CpFSToVM(ctx, vmName, root.FS(), name, vmPath, uid, gid, permissions, mode, excludePatterns...)
}

// CpFSToVM is CpToVM for name, a file or folder of fsys. With the FS of an
// os.Root it copies nothing from outside that root, whatever changes meanwhile.
// The symlinks of an fsys that is no fs.ReadLinkFS are skipped.
func (c *SlicerClient) CpFSToVM(ctx context.Context, vmName string, fsys fs.FS, name, vmPath string, uid, gid uint32, permissions, mode string, excludePatterns ...string) error {
	err := c.cpToVM(ctx, vmName, fsys, name, vmPath, uid, gid, permissions, mode, excludePatterns)
	if err != nil {
		return fmt.Errorf("copy to VM %q: %w", vmName, fileError(err, vmName, vmPath))
	}
	return nil
}

func (c *SlicerClient) cpToVM(ctx context.Context, vmName string, fsys fs.FS, name, vmPath string, uid, gid uint32, permissions, mode string, excludePatterns []string) error {
	if mode != modeTar && mode != modeBinary {
		return fmt.Errorf("the mode must be tar or binary, not %q", mode)
	}
	if _, err := parsePermissions(permissions); err != nil {
		return err
	}
	if mode == modeBinary && len(excludePatterns) > 0 {
		return errors.New("exclude patterns need the mode tar")
	}
	if _, err := newExcluder(excludePatterns); err != nil {
		return err
	}
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a folder", name)
	}
	query := url.Values{"mode": {mode}}
	setID(query, "uid", uid)
	setID(query, "gid", gid)
	setText(query, "permissions", permissions)
	if mode == modeBinary {
		return c.uploadFile(ctx, vmName, fsys, name, vmPath, query)
	}
	if info.IsDir() {
		if fsys, err = fs.Sub(fsys, name); err != nil {
			return err
		}
		name = "."
	} else if dir := path.Dir(name); dir != "." {
		if fsys, err = fs.Sub(fsys, dir); err != nil {
			return err
		}
		name = path.Base(name)
	}
	return c.uploadTar(ctx, vmName, fsys, name, vmPath, query, excludePatterns)
}

// uploadFile sends one file as it is.
func (c *SlicerClient) uploadFile(ctx context.Context, vmName string, fsys fs.FS, name, vmPath string, query url.Values) error {
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
		return fmt.Errorf("%s: the mode binary needs a regular file", name)
	}
	if query.Get("permissions") == "" && runtime.GOOS != "windows" {
		query.Set("permissions", formatPermissions(info.Mode()))
	}
	body := &heldBody{r: io.LimitReader(ctxReader{ctx, file}, info.Size())}
	defer body.Close()
	return c.upload(ctx, vmName, vmPath, query, body, info.Size(), typeBinary)
}

// uploadTar archives name and sends the archive while it grows.
func (c *SlicerClient) uploadTar(ctx context.Context, vmName string, fsys fs.FS, name, vmPath string, query url.Values, excludePatterns []string) error {
	archiveCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	archived := make(chan error, 1)
	go func() {
		err := writeTar(archiveCtx, writer, fsys, name, excludePatterns, true)
		writer.CloseWithError(err) // nil is the end
		archived <- err
	}()
	err := c.upload(ctx, vmName, vmPath, query, reader, -1, typeTar)
	cancel()
	reader.Close()
	archiveErr := <-archived
	stopped := errors.Is(archiveErr, io.ErrClosedPipe) || errors.Is(archiveErr, context.Canceled)
	switch {
	case archiveErr != nil && !stopped:
		return archiveErr // what broke the upload too
	case archiveErr != nil && err == nil:
		return errors.New("the daemon answered before it had read the archive")
	}
	return err
}

// upload sends a body to vmPath.
func (c *SlicerClient) upload(ctx context.Context, vmName, vmPath string, query url.Values, body io.Reader, length int64, contentType string) error {
	if vmPath == "" {
		return errNoVMPath
	}
	query.Set("path", vmPath)
	return c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", vmName, "cp"}, query: query,
		body: body, length: length, contentType: contentType,
	}, nil)
}

// heldBody is a request body that is let go of by Close: net/http may read on
// after a call has returned, but what is behind the body is then the caller's
// again.
type heldBody struct {
	mu     sync.Mutex
	r      io.Reader
	closed bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	return b.r.Read(p)
}

func (b *heldBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// CpFromVM copies a file or folder from a VM (GET /vm/{vm}/cp), streaming, as
// the current user.
//
// With the mode "binary" vmPath is a file. It is written to localPath, or into
// it under its own name if that is a folder. With the mode "tar" vmPath may be a
// folder, whose content is put into localPath, a folder that is created if it
// isn't there; or a file, which is treated as with "binary". The folder that
// holds localPath must exist.
//
// Archives are extracted as ExtractTarStream does it, but with the symlinks that
// stay in localPath: those with a relative target that has ".." at its beginning
// only and not more often than there are folders above the link. Other symlinks
// are skipped, and on Windows all. None is followed; an archive with a name that
// leads through one is an error.
//
// permissions is octal ("0644") and for all files; "" keeps those that each
// file has in the VM, under the umask. excludePatterns are gitignore-like globs
// with **, matched against names relative to vmPath; they need the mode "tar".
//
// What is copied appears under its name when it is complete: after an error
// there is no partial file, and nothing at all at a localPath that was new. If
// vmPath is missing, errors.Is(err, fs.ErrNotExist) holds; if it is a folder in
// the mode "binary", ErrIsDirectory.
func (c *SlicerClient) CpFromVM(ctx context.Context, vmName, vmPath, localPath string, permissions, mode string, excludePatterns ...string) error {
	perm, err := parsePermissions(permissions)
	if err == nil {
		switch mode {
		case modeBinary:
			if len(excludePatterns) > 0 {
				err = errors.New("exclude patterns need the mode tar")
				break
			}
			err = c.downloadFile(ctx, vmName, vmPath, localPath, perm)
		case modeTar:
			err = c.downloadTar(ctx, vmName, vmPath, localPath, perm, excludePatterns)
		default:
			err = fmt.Errorf("the mode must be tar or binary, not %q", mode)
		}
	}
	if err != nil {
		return fmt.Errorf("copy from VM %q: %w", vmName, err)
	}
	return nil
}

// download opens the stream of a copy out of a VM.
func (c *SlicerClient) download(ctx context.Context, vmName, vmPath, mode, accept string) (*http.Response, error) {
	if vmPath == "" {
		return nil, errNoVMPath
	}
	resp, err := c.send(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", vmName, "cp"},
		query: url.Values{"path": {vmPath}, "mode": {mode}}, accept: accept, begins: true,
	})
	if err != nil {
		return nil, fileError(err, vmName, vmPath)
	}
	if isHTML(resp.Header.Get("Content-Type"), nil) && resp.Header.Get("X-Slicer-File-Mode") == "" {
		resp.Body.Close()
		return nil, errHTML
	}
	return resp, nil
}

// downloadFile copies one file to a temporary name and then renames it.
func (c *SlicerClient) downloadFile(ctx context.Context, vmName, vmPath, localPath string, perm *fs.FileMode) (err error) {
	if info, err := os.Stat(localPath); err == nil && info.IsDir() {
		localPath = filepath.Join(localPath, path.Base(path.Clean(vmPath)))
	}
	file, err := c.OpenFile(ctx, vmName, vmPath)
	if err != nil {
		return err
	}
	defer file.Close()

	parentDir, base := filepath.Split(filepath.Clean(localPath))
	parent, err := os.OpenRoot(filepath.Clean(parentDir))
	if err != nil {
		return err
	}
	defer parent.Close()
	temp := tempName(base)
	local, err := parent.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, parent.Remove(temp))
		}
	}()
	_, err = io.CopyBuffer(onlyWriter{local}, file, make([]byte, copyBuffer))
	if err == nil && perm != nil {
		err = local.Chmod(*perm)
	}
	if closeErr := local.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return parent.Rename(temp, base)
}

// downloadTar extracts what is at vmPath. The archive of a folder and that of a
// file look alike where the folder holds one file of the name that vmPath ends in;
// then the daemon is asked what vmPath is, and it is taken for a file if the
// daemon doesn't say.
func (c *SlicerClient) downloadTar(ctx context.Context, vmName, vmPath, localPath string, perm *fs.FileMode, excludePatterns []string) error {
	x, err := newExtractor(0, 0, excludePatterns)
	if err != nil {
		return err
	}
	x.perm, x.toEnd, x.links = perm, true, true
	resp, err := c.download(ctx, vmName, vmPath, modeTar, typeTar)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &responseReader{ctx: ctx, r: resp.Body}
	isFile := func(x *extractor) bool {
		if x.tops != 1 || !x.topIsFile || x.top != path.Base(path.Clean(vmPath)) {
			return false
		}
		info, err := c.Stat(ctx, vmName, vmPath)
		return err != nil || !info.IsDir()
	}
	return x.extractTo(ctx, body, localPath, isFile)
}

// responseReader reads a response's body with the errors of its context.
type responseReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *responseReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = transportError(r.ctx, err)
	}
	return n, err
}

// parsePermissions reads octal permission bits; "" is none.
func parsePermissions(text string) (*fs.FileMode, error) {
	if text == "" {
		return nil, nil
	}
	bits, err := strconv.ParseUint(text, 8, 32)
	if err != nil || bits > 0o7777 {
		return nil, fmt.Errorf("permissions %q are not octal, such as 0644", text)
	}
	perm := fs.FileMode(bits) & fs.ModePerm
	return &perm, nil
}

func formatPermissions(mode fs.FileMode) string {
	return fmt.Sprintf("%04o", mode.Perm())
}
