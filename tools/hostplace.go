package tools

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hostPlace is where a copy to the host goes: a path under a root, at which
// there may be something. All is reached through the root.
type hostPlace struct {
	root *os.Root
	rel  string      // in root
	info fs.FileInfo // of what is there; nil when nothing is

	// above is the folder in root nearest to rel that is there: rel itself, if
	// it is a folder.
	above string
}

// place finds where path, absolute or relative to a root, leads. param names the
// argument in the refusal, which is the same for a path outside the roots, one
// behind a symlink that leads out and one behind a file.
func (h *hostRoots) place(param, path string) (*hostPlace, error) {
	if len(h.roots) == 0 {
		return nil, refuse("%s can't be used: this server may not use any host folder. Ask the user to allow one by starting it with --root FOLDER.", param)
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		return nil, h.placeRefusal(param, path) // it would make a folder of that name
	}
	for _, r := range h.roots {
		for _, rel := range r.relative(path) {
			if p, err := r.place(rel); err == nil {
				return p, nil
			}
		}
	}
	return nil, h.placeRefusal(param, path)
}

func (h *hostRoots) placeRefusal(param, path string) error {
	var allowed []string
	for _, r := range h.roots {
		allowed = append(allowed, quote(r.path))
	}
	return refuse("%s %s can't be used: it is no place to copy to under an allowed host folder. Allowed: %s. Check the spelling; a folder outside needs the user to add --root FOLDER.",
		param, quote(path), strings.Join(allowed, ", "))
}

var errNoPlace = errors.New("neither a file nor a folder")

func (r hostRoot) place(rel string) (*hostPlace, error) {
	p := &hostPlace{root: r.dir, rel: rel, above: rel}
	info, err := r.dir.Stat(rel)
	switch {
	case err == nil && info.IsDir():
		p.info = info
		return p, nil
	case err == nil && info.Mode().IsRegular():
		p.info = info
	case err == nil:
		return nil, errNoPlace
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		if _, err := r.dir.Lstat(rel); err == nil {
			return nil, errNoPlace // a symlink to nowhere
		}
	}
	for {
		p.above = filepath.Dir(p.above)
		info, err := r.dir.Stat(p.above)
		switch {
		case err == nil && info.IsDir():
			return p, nil
		case err == nil:
			return nil, errNoPlace
		case !errors.Is(err, fs.ErrNotExist), p.above == ".":
			return nil, err
		}
	}
}

// folder says whether there is a folder.
func (p *hostPlace) folder() bool { return p.info != nil && p.info.IsDir() }

// in is the place called name in the folder p, which may have to be made.
func (p *hostPlace) in(name string) (*hostPlace, error) {
	return hostRoot{dir: p.root}.place(filepath.Join(p.rel, name))
}

// tempPath is a new name in the folder above, which no other process uses.
func (p *hostPlace) tempPath() string {
	return filepath.Join(p.above, ".slicervm-mcp-"+strings.ToLower(rand.Text())+".tmp")
}

// settle gives what was copied to temp its name. The missing folders above are
// made now, and go again when it can't be done.
func (p *hostPlace) settle(temp string) error {
	var made []string
	for dir := filepath.Dir(p.rel); dir != p.above && dir != "."; dir = filepath.Dir(dir) {
		made = append(made, dir)
	}
	slices.Reverse(made)
	for i, dir := range made {
		if err := p.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			p.unmake(made[:i])
			return err
		}
	}
	if err := p.root.Rename(temp, p.rel); err != nil {
		p.unmake(made)
		return err
	}
	return nil
}

// unmake removes folders again, unless somebody has put something there.
func (p *hostPlace) unmake(made []string) {
	for _, dir := range slices.Backward(made) {
		_ = p.root.Remove(dir) // one that isn't empty stays
	}
}
