package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// fileCall is a tool's work on one path in a VM, as far as its errors tell it.
type fileCall struct {
	vm   slicer.SlicerNode
	path string // in the VM

	// instead says what else there is to do when the path may not be used.
	instead string

	// brokeOff says in a sentence that the connection broke, if there is more
	// to say than that.
	brokeOff string
}

// fileFailed says why a call on a path in a VM went wrong. What only one tool
// can tell goes before it.
func (t *Toolset) fileFailed(ctx context.Context, err error, c fileCall) error {
	name, machine := quote(c.path), quote(handle(c.vm))
	var api *slicer.APIError
	if !errors.As(err, &api) {
		if !brokenOff(err) {
			return onVM(handle(c.vm), err)
		}
		if s := t.standingAfter(ctx, c.vm); s.text != "" {
			return &refusal{text: s.text}
		}
		if c.brokeOff != "" {
			return &refusal{text: c.brokeOff}
		}
		return onVM(handle(c.vm), err)
	}
	said := daemonSaid(api)
	switch {
	case api.StatusCode == http.StatusForbidden:
		// The SDK's fs.ErrPermission wants these words; a refusal that hasn't
		// got them is about this path all the same.
		return refuse("permission denied on %s in VM %s%s. %s", name, machine, said, c.instead)
	case outOfSpace(api):
		return refuse("there is no room for %s in VM %s%s. See what takes it with exec(vm=%s, command=%s), remove what isn't needed, then retry.",
			name, machine, said, machine, quote("df -h; du -xsh /home /root /tmp /var"))
	case errors.Is(err, fs.ErrNotExist):
		return refuse("VM %s has no %s%s. List the folder above it with list_files(vm=%s, path=%s).",
			machine, name, said, machine, quote(folderOf(c.path)))
	case api.StatusCode == http.StatusNotFound:
		if s := t.standingOf(ctx, c.vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("the daemon can't find %s in VM %s%s, though the VM is there. List the folder above it with list_files(vm=%s, path=%s).",
			name, machine, said, machine, quote(folderOf(c.path)))
	case says(api, "read-only file system"):
		return refuse("%s in VM %s can't be changed: its file system is read-only%s. Use another path.", name, machine, said)
	case says(api, "too many levels of symbolic links"):
		return refuse("%s in VM %s leads in a circle of symlinks%s. Use another path, or remove one of them with remove_file.", name, machine, said)
	case api.StatusCode == http.StatusBadRequest && says(api, "not a regular file"):
		return refuse("%s in VM %s is a device, a pipe or a socket, not a regular file. Use exec for it, or another path.", name, machine)
	case api.StatusCode == http.StatusBadRequest && says(api, "not a directory"):
		return refuse("%s in VM %s can't be: it, or a part of that path, is a file and not a folder%s. Use another path.", name, machine, said)
	}
	return onVM(handle(c.vm), err)
}

// saidIn is daemonSaid of the refusal that is in err.
func saidIn(err error) string {
	var api *slicer.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return daemonSaid(api)
}

// isFileCall says whether a refused request was about a file in a VM.
func isFileCall(api *slicer.APIError) bool {
	parts := strings.Split(api.Path, "/")
	return len(parts) > 3 && parts[1] == "vm" && (parts[3] == "cp" || parts[3] == "fs")
}

// outOfSpace says whether the daemon, or a VM's disk, is full.
func outOfSpace(api *slicer.APIError) bool {
	return api.StatusCode == http.StatusInsufficientStorage || says(api, "no space left") || says(api, "disk quota exceeded")
}

// says tells whether the daemon's message has some words, which are given in
// lower case.
func says(api *slicer.APIError, words string) bool {
	return strings.Contains(strings.ToLower(api.Message), words)
}

// brokenOff says whether err is a connection that ended before the answer did.
func brokenOff(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "dial"
}

// otherUser advises another owner where that isn't root yet.
func otherUser(uid uint32) string {
	if uid == 0 {
		return "Use another path."
	}
	return fmt.Sprintf("Use another path, or user=%q.", "root")
}

// unknownRoute says whether a daemon refused a call because it has no such
// route, as older ones do.
func unknownRoute(err error) bool {
	var api *slicer.APIError
	return errors.As(err, &api) && (api.StatusCode == http.StatusMethodNotAllowed || api.StatusCode == http.StatusNotFound && says(api, "no such path"))
}
