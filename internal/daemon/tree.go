package daemon

import (
	"context"
	"io"
)

// files is v's file tree. While v is paused an operation waits until v is
// resumed, or ends with its context.
func (v *vm) files() FileTree { return gatedTree{v.guest.Files(), &v.gate} }

// gatedTree is a FileTree whose operations keep out of a frozen guest.
type gatedTree struct {
	tree FileTree
	gate *gate
}

func (t gatedTree) Stat(ctx context.Context, name string) (FileInfo, error) {
	if err := t.gate.enter(ctx); err != nil {
		return FileInfo{}, err
	}
	defer t.gate.leave()
	return t.tree.Stat(ctx, name)
}

func (t gatedTree) Lstat(ctx context.Context, name string) (FileInfo, error) {
	if err := t.gate.enter(ctx); err != nil {
		return FileInfo{}, err
	}
	defer t.gate.leave()
	return t.tree.Lstat(ctx, name)
}

func (t gatedTree) ReadDir(ctx context.Context, name string, limit int) ([]FileInfo, error) {
	if err := t.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer t.gate.leave()
	return t.tree.ReadDir(ctx, name, limit)
}

func (t gatedTree) Open(ctx context.Context, name string) (io.ReadCloser, FileInfo, error) {
	if err := t.gate.enter(ctx); err != nil {
		return nil, FileInfo{}, err
	}
	defer t.gate.leave()
	f, info, err := t.tree.Open(ctx, name)
	if err != nil {
		return nil, info, err
	}
	return &gatedReader{f, t.gate, ctx}, info, nil
}

func (t gatedTree) Create(ctx context.Context, name string, attr FileAttr) (FileWriter, error) {
	if err := t.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer t.gate.leave()
	f, err := t.tree.Create(ctx, name, attr)
	if err != nil {
		return nil, err
	}
	return &gatedWriter{f, t.gate, ctx}, nil
}

func (t gatedTree) Mkdir(ctx context.Context, name string, attr FileAttr, parents bool) error {
	if err := t.gate.enter(ctx); err != nil {
		return err
	}
	defer t.gate.leave()
	return t.tree.Mkdir(ctx, name, attr, parents)
}

func (t gatedTree) Symlink(ctx context.Context, name, target string, attr FileAttr) error {
	if err := t.gate.enter(ctx); err != nil {
		return err
	}
	defer t.gate.leave()
	return t.tree.Symlink(ctx, name, target, attr)
}

func (t gatedTree) Remove(ctx context.Context, name string, recursive bool) error {
	if err := t.gate.enter(ctx); err != nil {
		return err
	}
	defer t.gate.leave()
	return t.tree.Remove(ctx, name, recursive)
}

// gatedReader reads an open file of a gatedTree. Like the writer it keeps the
// context of the call that opened it, since io.Reader has no room for one.
type gatedReader struct {
	f    io.ReadCloser
	gate *gate
	ctx  context.Context
}

func (r *gatedReader) Read(p []byte) (int, error) {
	if err := r.gate.enter(r.ctx); err != nil {
		return 0, err
	}
	defer r.gate.leave()
	return r.f.Read(p)
}

// Close gives the file back at once, whatever the guest's state: it only
// releases what the reader holds.
func (r *gatedReader) Close() error { return r.f.Close() }

type gatedWriter struct {
	f    FileWriter
	gate *gate
	ctx  context.Context
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	if err := w.gate.enter(w.ctx); err != nil {
		return 0, err
	}
	defer w.gate.leave()
	return w.f.Write(p)
}

func (w *gatedWriter) Commit() error {
	if err := w.gate.enter(w.ctx); err != nil {
		return err
	}
	defer w.gate.leave()
	return w.f.Commit()
}

// Abort gives the file up at once, whatever the guest's state.
func (w *gatedWriter) Abort() { w.f.Abort() }
