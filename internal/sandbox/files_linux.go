package sandbox

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// fileTree is a guest's files, reached through its agent.
type fileTree struct{ g *guest }

var _ daemon.FileTree = fileTree{}

func (t fileTree) info(ctx context.Context, op, name string) (daemon.FileInfo, error) {
	a, err := t.g.call(ctx, &request{Op: op, Name: name})
	if err != nil {
		return daemon.FileInfo{}, &os.PathError{Op: op, Path: name, Err: err}
	}
	if a.reply.Info == nil {
		return daemon.FileInfo{}, &os.PathError{Op: op, Path: name, Err: syscall.EPROTO}
	}
	return *a.reply.Info, nil
}

// Stat implements daemon.FileTree.
func (t fileTree) Stat(ctx context.Context, name string) (daemon.FileInfo, error) {
	return t.info(ctx, "stat", name)
}

// Lstat implements daemon.FileTree.
func (t fileTree) Lstat(ctx context.Context, name string) (daemon.FileInfo, error) {
	return t.info(ctx, "lstat", name)
}

// ReadDir implements daemon.FileTree.
func (t fileTree) ReadDir(ctx context.Context, name string, limit int) ([]daemon.FileInfo, error) {
	a, err := t.g.call(ctx, &request{Op: "readdir", Name: name, Limit: limit})
	if err != nil {
		return nil, &os.PathError{Op: "readdir", Path: name, Err: err}
	}
	slices.SortFunc(a.reply.Entries, func(x, y daemon.FileInfo) int { return strings.Compare(x.Name, y.Name) })
	return a.reply.Entries, nil
}

// Open implements daemon.FileTree.
func (t fileTree) Open(ctx context.Context, name string) (io.ReadCloser, daemon.FileInfo, error) {
	a, err := t.g.call(ctx, &request{Op: "open", Name: name})
	if err == nil && (a.file == nil || a.reply.Info == nil) {
		err = syscall.EPROTO
	}
	if err == nil {
		err = checkReceived(a.file)
	}
	if err != nil {
		if a.file != nil {
			a.file.Close()
		}
		return nil, daemon.FileInfo{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return a.file, *a.reply.Info, nil
}

// checkReceived makes sure that a descriptor that a guest sent is a regular
// file: reading another could block for ever.
func checkReceived(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return regular(info)
}

// Create implements daemon.FileTree.
func (t fileTree) Create(ctx context.Context, name string, at daemon.FileAttr) (daemon.FileWriter, error) {
	// Its answer is always waited for: a temporary file must not stay unowned.
	a, err := t.g.call(context.WithoutCancel(ctx), &request{Op: "create", Name: name, Attr: attrOf(at)})
	if err == nil && a.file == nil {
		err = syscall.EPROTO
	}
	if err == nil {
		err = checkReceived(a.file)
	}
	if err != nil {
		if a.file != nil {
			a.file.Close()
		}
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	return &fileWriter{File: a.file, g: t.g, name: name, handle: a.reply.Handle}, nil
}

func attrOf(at daemon.FileAttr) *attr {
	return &attr{Mode: uint32(at.Mode.Perm()), UID: at.UID, GID: at.GID, ModTime: at.ModTime}
}

// fileWriter is a file of a guest under its temporary name. The descriptor is
// the daemon's own; the agent gives the file its name.
type fileWriter struct {
	*os.File
	g      *guest
	name   string
	handle uint64
	ended  bool
}

// Commit implements daemon.FileWriter.
func (w *fileWriter) Commit() error {
	if w.ended {
		return os.ErrClosed
	}
	w.ended = true
	err := w.Close()
	op := "commit"
	if err != nil {
		op = "abort"
	}
	if _, cerr := w.g.call(context.Background(), &request{Op: op, Handle: w.handle}); err == nil {
		err = cerr
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: w.name, Err: err}
	}
	return nil
}

// Abort implements daemon.FileWriter.
func (w *fileWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.Close()
	// A guest that has ended has no temporary file either.
	_, _ = w.g.call(context.Background(), &request{Op: "abort", Handle: w.handle})
}

// Mkdir implements daemon.FileTree.
func (t fileTree) Mkdir(ctx context.Context, name string, at daemon.FileAttr, parents bool) error {
	if _, err := t.g.call(ctx, &request{Op: "mkdir", Name: name, Attr: attrOf(at), Flag: parents}); err != nil {
		return &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

// Symlink implements daemon.FileTree.
func (t fileTree) Symlink(ctx context.Context, name, target string, at daemon.FileAttr) error {
	// The target travels as bytes: it needn't be UTF-8.
	if _, err := t.g.call(ctx, &request{Op: "symlink", Name: name, Data: []byte(target), Attr: attrOf(at)}); err != nil {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// Remove implements daemon.FileTree.
func (t fileTree) Remove(ctx context.Context, name string, recursive bool) error {
	if _, err := t.g.call(ctx, &request{Op: "remove", Name: name, Flag: recursive}); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}
