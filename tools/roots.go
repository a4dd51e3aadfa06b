package tools

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// hostRoots are the host folders that files may be copied from and to. What lies under
// one is opened through an os.Root, so that neither .. nor a symlink, however
// quickly it is swapped, leads out of it.
type hostRoots struct {
	roots []hostRoot
}

// hostRoot is one allowed folder.
type hostRoot struct {
	path string // absolute, as the operator gave it
	real string // with symlinks resolved
	dir  *os.Root
}

// openRoots opens the folders. The error names the one that can't be opened.
func openRoots(paths []string) (*hostRoots, error) {
	h := &hostRoots{}
	for _, p := range paths {
		r, err := openRoot(p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("root %q can't be used: %w", p, err), h.Close())
		}
		if !slices.ContainsFunc(h.roots, func(o hostRoot) bool { return o.path == r.path }) {
			h.roots = append(h.roots, r)
			continue
		}
		r.dir.Close()
	}
	return h, nil
}

func openRoot(p string) (hostRoot, error) {
	if p == "" {
		return hostRoot{}, errors.New("its path is empty")
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		return hostRoot{}, err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return hostRoot{}, plainPathError(err)
	}
	dir, err := os.OpenRoot(real)
	if err != nil {
		return hostRoot{}, plainPathError(err)
	}
	return hostRoot{path: abs, real: real, dir: dir}, nil
}

// plainPathError drops the operation and the path, which the caller says.
func plainPathError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Close closes every root.
func (h *hostRoots) Close() error {
	var errs []error
	for _, r := range h.roots {
		errs = append(errs, r.dir.Close())
	}
	return errors.Join(errs...)
}

// hostEntry is a file or folder below a root, opened.
type hostEntry struct {
	name string // base name
	file *os.File
	info fs.FileInfo

	// dir is set for a folder; its files are opened through it.
	dir *os.Root
}

// Close closes what the entry holds open.
func (e *hostEntry) Close() {
	e.file.Close()
	if e.dir != nil {
		e.dir.Close()
	}
}

// open opens the host file or folder at path, absolute or relative to a root.
// param names the argument in the refusal, which is the same for a path
// outside the roots, one that is missing and one that can't be read.
func (h *hostRoots) open(param, path string) (*hostEntry, error) {
	if len(h.roots) == 0 {
		return nil, refuse("%s can't be used: this server may not read any host folder. Ask the user to allow one by starting it with --root FOLDER.", param)
	}
	for _, r := range h.roots {
		for _, rel := range r.relative(path) {
			if e, err := r.open(rel); err == nil {
				return e, nil
			}
		}
	}
	return nil, h.refusal(param, path)
}

func (h *hostRoots) refusal(param, path string) error {
	var allowed []string
	for _, r := range h.roots {
		allowed = append(allowed, quote(r.path))
	}
	return refuse("%s %s can't be used: it is not a readable file or folder under an allowed host folder. Allowed: %s. Check the spelling; a folder outside needs the user to add --root FOLDER.",
		param, quote(path), strings.Join(allowed, ", "))
}

// has says whether path names something under a root.
func (h *hostRoots) has(path string) bool {
	for _, r := range h.roots {
		for _, rel := range r.relative(path) {
			if _, err := r.dir.Stat(rel); err == nil {
				return true
			}
		}
	}
	return false
}

// relative lists how path may read from inside the root: not at all when it
// lies elsewhere.
func (r hostRoot) relative(path string) []string {
	path = filepath.Clean(path)
	if !filepath.IsAbs(path) {
		if filepath.IsLocal(path) {
			return []string{path}
		}
		return nil
	}
	var names []string
	for _, base := range []string{r.path, r.real} {
		rel, err := filepath.Rel(base, path)
		if err == nil && filepath.IsLocal(rel) && !slices.Contains(names, rel) {
			names = append(names, rel)
		}
	}
	return names
}

func (r hostRoot) open(rel string) (*hostEntry, error) {
	f, info, err := openNow(r.dir, rel)
	if err != nil {
		return nil, err
	}
	e := &hostEntry{name: filepath.Base(filepath.Join(r.real, rel)), file: f, info: info}
	switch {
	case info.Mode().IsRegular():
		return e, nil
	case info.IsDir():
		e.dir, err = r.dir.OpenRoot(rel)
		if err != nil {
			e.Close()
			return nil, err
		}
		return e, nil
	}
	e.Close()
	return nil, errors.New("neither a file nor a folder")
}

// openNow opens a file for reading without waiting, as opening a named pipe
// would.
func openNow(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
