package slicer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// errNoVMPath is why a call without a path isn't made.
var errNoVMPath = errors.New("a path in the VM is required")

// ReadDir lists a folder of a VM, sorted by name (GET /vm/{vm}/fs/readdir). The
// entries are the folder's own: a symlink is described, not what it points to.
// If vmPath is missing, errors.Is(err, fs.ErrNotExist) holds. An entry whose name
// isn't one, such as "../x", is an error: names are safe to join to a path.
func (c *SlicerClient) ReadDir(ctx context.Context, vmName, vmPath string) ([]SlicerFSInfo, error) {
	var list []SlicerFSInfo
	err := c.callFile(ctx, vmName, vmPath, apiRequest{method: http.MethodGet, path: []string{"vm", vmName, "fs", "readdir"}}, &list)
	if err != nil {
		return nil, fmt.Errorf("list %s in VM %q: %w", vmPath, vmName, err)
	}
	for _, entry := range list {
		if !isEntryName(entry.Name) {
			return nil, fmt.Errorf("list %s in VM %q: the daemon lists the impossible name %.200q", vmPath, vmName, entry.Name)
		}
	}
	slices.SortFunc(list, func(a, b SlicerFSInfo) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// isEntryName reports whether name can be that of a file in a folder.
func isEntryName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// Stat describes a file or folder of a VM (GET /vm/{vm}/fs/stat). Daemons follow
// a symlink to what it points to. If vmPath is missing, errors.Is(err,
// fs.ErrNotExist) holds.
func (c *SlicerClient) Stat(ctx context.Context, vmName, vmPath string) (*SlicerFSInfo, error) {
	var info SlicerFSInfo
	err := c.callFile(ctx, vmName, vmPath, apiRequest{method: http.MethodGet, path: []string{"vm", vmName, "fs", "stat"}}, &info)
	// Only a root may go without a name.
	if err == nil && info.Name == "" && (info.Type == "" || strings.Trim(vmPath, "/.") != "") {
		err = errors.New("the daemon's answer describes no file")
	}
	if err != nil {
		return nil, fmt.Errorf("stat %s in VM %q: %w", vmPath, vmName, err)
	}
	return &info, nil
}

// Exists reports whether a VM has something at vmPath. It is Stat with
// fs.ErrNotExist turned into false; every other error, that of a missing VM too,
// is returned.
func (c *SlicerClient) Exists(ctx context.Context, vmName, vmPath string) (bool, error) {
	_, err := c.Stat(ctx, vmName, vmPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Mkdir makes a folder in a VM (POST /vm/{vm}/fs/mkdir) with perm's permission
// bits; with a perm of 0 the agent picks them. The folder above it must exist. If
// there is something at vmPath already, errors.Is(err, fs.ErrExist) holds.
func (c *SlicerClient) Mkdir(ctx context.Context, vmName, vmPath string, perm fs.FileMode) error {
	return c.mkdir(ctx, vmName, vmPath, perm, false)
}

// MkdirAll is Mkdir that makes the missing folders above vmPath too and takes a
// folder that is there for success.
func (c *SlicerClient) MkdirAll(ctx context.Context, vmName, vmPath string, perm fs.FileMode) error {
	return c.mkdir(ctx, vmName, vmPath, perm, true)
}

// mkdirBody is what a mkdir call sends.
type mkdirBody struct {
	Path      string `json:"path"`
	Recursive bool   `json:"recursive,omitempty"`
	Mode      string `json:"mode,omitempty"`
}

func (c *SlicerClient) mkdir(ctx context.Context, vmName, vmPath string, perm fs.FileMode, recursive bool) error {
	body := mkdirBody{Path: vmPath, Recursive: recursive}
	if perm.Perm() != 0 {
		body.Mode = formatPermissions(perm)
	}
	err := errNoVMPath
	if vmPath != "" {
		err = c.call(ctx, apiRequest{
			method: http.MethodPost, path: []string{"vm", vmName, "fs", "mkdir"}, json: body, prompt: true,
		}, nil)
	}
	if err != nil {
		return fmt.Errorf("make folder %s in VM %q: %w", vmPath, vmName, fileError(err, vmName, vmPath))
	}
	return nil
}

// Remove removes a file, a symlink or an empty folder of a VM (DELETE
// /vm/{vm}/fs/remove). If vmPath is missing, errors.Is(err, fs.ErrNotExist)
// holds.
func (c *SlicerClient) Remove(ctx context.Context, vmName, vmPath string) error {
	return c.remove(ctx, vmName, vmPath, nil)
}

// RemoveAll removes what is at vmPath in a VM, a folder with all that is in it.
// Unlike os.RemoveAll it takes a missing vmPath for an error, as Remove does.
func (c *SlicerClient) RemoveAll(ctx context.Context, vmName, vmPath string) error {
	return c.remove(ctx, vmName, vmPath, url.Values{"recursive": {"true"}})
}

func (c *SlicerClient) remove(ctx context.Context, vmName, vmPath string, query url.Values) error {
	err := c.callFile(ctx, vmName, vmPath, apiRequest{
		method: http.MethodDelete, path: []string{"vm", vmName, "fs", "remove"}, query: query,
	}, nil)
	if err != nil {
		return fmt.Errorf("remove %s in VM %q: %w", vmPath, vmName, err)
	}
	return nil
}

// callFile makes a call whose query names a path in the VM.
func (c *SlicerClient) callFile(ctx context.Context, vmName, vmPath string, r apiRequest, out any) error {
	if vmPath == "" {
		return errNoVMPath
	}
	if r.query == nil {
		r.query = url.Values{}
	}
	r.query.Set("path", vmPath)
	return fileError(c.call(ctx, r, out), vmName, vmPath)
}
