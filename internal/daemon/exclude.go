package daemon

import (
	"net/http"
	"path"
	"strings"
)

const (
	maxExcludes     = 256
	maxExcludeBytes = 1024
)

// exclude is one pattern in the manner of gitignore, without negation: * and ?
// stay within a name, ** is any number of folders, a pattern without an inner
// slash fits at every depth, and one with a slash at its end fits folders only.
type exclude struct {
	parts   []string
	dirOnly bool
}

// excludes are the patterns of one copy. The zero value excludes nothing.
type excludes []exclude

func parseExcludes(patterns []string) (excludes, error) {
	if len(patterns) > maxExcludes {
		return nil, refuse(http.StatusBadRequest, "%d exclude patterns are more than the limit, which is %d", len(patterns), maxExcludes)
	}
	var list excludes
	for _, pattern := range patterns {
		trimmed := strings.Trim(pattern, "/")
		if trimmed == "" || len(pattern) > maxExcludeBytes {
			return nil, refuse(http.StatusBadRequest, "exclude pattern %q is empty or too long", pattern[:min(len(pattern), 100)])
		}
		e := exclude{parts: strings.Split(trimmed, "/"), dirOnly: strings.HasSuffix(pattern, "/")}
		for _, part := range e.parts {
			if _, err := path.Match(part, ""); err != nil {
				return nil, refuse(http.StatusBadRequest, "exclude pattern %q is malformed", pattern)
			}
		}
		if len(e.parts) == 1 && pattern[0] != '/' {
			e.parts = append([]string{"**"}, e.parts...)
		}
		if last := len(e.parts) - 1; last > 0 && e.parts[last] == "**" {
			e.parts = append(e.parts, "*") // what is in the folder, not the folder
		}
		list = append(list, e)
	}
	return list, nil
}

// match reports whether name, relative to the folder that is copied, or a
// folder above it is excluded.
func (x excludes) match(name string, dir bool) bool {
	if len(x) == 0 {
		return false
	}
	parts := strings.Split(name, "/")
	for n := 1; n <= len(parts); n++ {
		for _, e := range x {
			if (dir || n < len(parts) || !e.dirOnly) && e.fits(parts[:n]) {
				return true
			}
		}
	}
	return false
}

// fits reports whether the pattern fits all of name. It takes time in
// proportion to the product of both lengths, whatever the pattern.
func (e exclude) fits(name []string) bool {
	// reached[i] says that the pattern so far fits name[:i].
	reached := make([]bool, len(name)+1)
	reached[0] = true
	for _, part := range e.parts {
		next := make([]bool, len(name)+1)
		for i := range reached {
			switch {
			case part == "**":
				next[i] = reached[i] || i > 0 && next[i-1]
			case i > 0 && reached[i-1]:
				next[i], _ = path.Match(part, name[i-1]) // the pattern was checked
			}
		}
		reached = next
	}
	return reached[len(name)]
}
