package slicer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
)

// CpRootOptions are the options of CpFromVMToRoot. The zero value is the
// ordinary copy.
type CpRootOptions struct {
	// Exclude holds gitignore-like globs with **, matched against names
	// relative to the folder that is copied, of what to leave out.
	Exclude []string

	// Entry, unless nil, is told of each entry of the archive that isn't left
	// out, before it is written, those of a kind that a copy skips too. Its
	// error ends the copy. What a file holds is also written to the writer
	// that it returns, unless that is nil.
	Entry func(header *tar.Header) (io.Writer, error)
}

// CpFromVMToRoot is CpFromVM in the mode "tar" for the folder vmPath of a VM,
// whose content is put into root. It writes nothing outside root, whatever
// changes meanwhile. A vmPath that is a file is put into root too.
//
// Entries are treated as by ExtractTarStream. An error leaves in root the files
// that were complete by then.
func (c *SlicerClient) CpFromVMToRoot(ctx context.Context, vmName, vmPath string, root *os.Root, opts CpRootOptions) error {
	err := c.cpToRoot(ctx, vmName, vmPath, root, opts)
	if err != nil {
		return fmt.Errorf("copy from VM %q: %w", vmName, err)
	}
	return nil
}

func (c *SlicerClient) cpToRoot(ctx context.Context, vmName, vmPath string, root *os.Root, opts CpRootOptions) error {
	x, err := newExtractor(NonRootUser, NonRootUser, opts.Exclude)
	if err != nil {
		return err
	}
	x.toEnd, x.told = true, opts.Entry
	resp, err := c.download(ctx, vmName, vmPath, modeTar, typeTar)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return x.run(ctx, &responseReader{ctx: ctx, r: resp.Body}, root)
}
