package tools

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"net/http"
	"path"
	"slices"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	// mostWaiting bounds how many folders a walk still has before it.
	mostWaiting = 100_000

	// longestVMPath is the longest path that a daemon takes, in bytes.
	longestVMPath = 4096
)

// walk goes through the folders of a VM below one of them. It follows no
// symlink, and passes over folders that are large and seldom meant.
type walk struct {
	client *slicer.SlicerClient
	vm     string // hostname
	root   string
	depth  int  // how many levels it goes down; 0 is all
	deep   bool // what is in a folder comes before the folder's neighbours

	passed     someNames // folders that it didn't look into
	unreadable someNames // folders that couldn't be read
	unfinished bool      // there were too many folders
}

// folder is one folder of a walk.
type folder struct {
	path    string // in the VM
	rel     string // from the walk's root on; "" is the root
	level   int    // 1 is the root
	entries []slicer.SlicerFSInfo
}

// below is the path of an entry in the VM.
func (f folder) below(name string) string { return joinVM(f.path, name) }

// from is the path of an entry from the walk's root on.
func (f folder) from(name string) string { return path.Join(f.rel, name) }

// folders yields the root and the folders below it, each with its entries:
// folders first, by name. An error ends the walk.
func (w *walk) folders(ctx context.Context) iter.Seq2[folder, error] {
	return func(yield func(folder, error) bool) {
		waiting := []folder{{path: w.root, level: 1}}
		for len(waiting) > 0 {
			var f folder
			if w.deep {
				f, waiting = waiting[len(waiting)-1], waiting[:len(waiting)-1]
			} else {
				f, waiting = waiting[0], waiting[1:]
			}
			var err error
			f.entries, err = w.client.ReadDir(ctx, w.vm, f.path)
			if err != nil && f.level > 1 && (aboutOnePath(err) || isFault(err)) {
				w.unreadable.add(f.path)
				continue
			}
			if err != nil {
				yield(folder{}, err)
				return
			}
			slices.SortStableFunc(f.entries, foldersFirst)
			if !yield(f, nil) {
				return
			}
			next := w.next(f)
			if len(waiting)+len(next) > mostWaiting {
				w.unfinished = true
				continue
			}
			if w.deep {
				slices.Reverse(next)
			}
			waiting = append(waiting, next...)
		}
	}
}

// next lists the folders in f that are to be looked into.
func (w *walk) next(f folder) []folder {
	var list []folder
	for _, e := range f.entries {
		if !e.IsDir() {
			break
		}
		if w.depth > 0 && f.level >= w.depth {
			break
		}
		sub := folder{path: f.below(e.Name), rel: f.from(e.Name), level: f.level + 1}
		switch {
		case w.passesOver(sub.path, e.Name):
			w.passed.add(sub.path)
		case len(sub.path) > longestVMPath:
			w.unreadable.add(sub.path)
		default:
			list = append(list, sub)
		}
	}
	return list
}

// passesOver says whether a folder isn't looked into unless the walk's root is
// it, or in such a one.
func (w *walk) passesOver(p, name string) bool {
	switch path.Clean(p) {
	case "/proc", "/sys", "/dev":
		return true
	}
	switch name {
	case ".git", "node_modules":
		return !slices.Contains(strings.Split(w.root, "/"), name)
	}
	return false
}

// foldersFirst orders entries that are sorted by name.
func foldersFirst(a, b slicer.SlicerFSInfo) int {
	switch {
	case a.IsDir() == b.IsDir():
		return 0
	case a.IsDir():
		return -1
	}
	return 1
}

// aboutOnePath says whether the daemon refused a call because of the path that
// it names, and not because of the VM.
func aboutOnePath(err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, slicer.ErrIsDirectory) {
		return true
	}
	var api *slicer.APIError
	return errors.As(err, &api) && (api.StatusCode == http.StatusBadRequest || api.StatusCode == http.StatusForbidden)
}

// isFault says whether the daemon ran into an error of its own over a call, as
// it does on a path that its system can't read.
func isFault(err error) bool { return slicer.IsAPIStatus(err, http.StatusInternalServerError) }

// joinVM is the path of name in a folder.
func joinVM(folder, name string) string {
	return strings.TrimRight(folder, "/") + "/" + name
}

// someNames counts names and keeps the first few.
type someNames struct {
	n     int64
	first []string
}

func (s *someNames) add(name string) {
	const most = 5
	s.n++
	if len(s.first) < most {
		s.first = append(s.first, fileName(name))
	}
}

// String lists the names that are kept, and how many more there are.
func (s *someNames) String() string {
	text := strings.Join(s.first, ", ")
	if more := s.n - int64(len(s.first)); more > 0 {
		text += " and " + thousands(more) + " more"
	}
	return text
}
