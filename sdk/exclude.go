package slicer

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrBadPattern is what errors.Is finds in the error of a call that was given an
// exclude pattern which is malformed, negated, or leads out of the tree.
var ErrBadPattern = errors.New("bad exclude pattern")

// excluder decides which names of a copied tree are left out. Its patterns are
// those of a .gitignore file without negation:
//
//   - * and ? match within one path segment, [a-z] and [!a-z] one character;
//     a backslash takes the next character literally
//   - ** as a whole segment matches any number of segments, none included;
//     at the end it matches everything inside, but not the folder itself
//   - a pattern with a slash at its start or in its middle is matched from
//     the root of the tree; any other matches at every depth
//   - a slash at the end makes the pattern match folders only
//   - what is inside an excluded folder is excluded
type excluder struct {
	patterns []excludePattern
}

type excludePattern struct {
	segments []string
	dirOnly  bool
}

// newExcluder compiles patterns. Empty ones are ignored.
func newExcluder(patterns []string) (*excluder, error) {
	x := &excluder{}
	for _, text := range patterns {
		pattern, err := parseExclude(text)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrBadPattern, text, err)
		}
		if len(pattern.segments) > 0 {
			x.patterns = append(x.patterns, pattern)
		}
	}
	return x, nil
}

func parseExclude(text string) (excludePattern, error) {
	var p excludePattern
	if strings.HasPrefix(text, "!") {
		return p, errors.New("negation is not supported")
	}
	rest := strings.TrimPrefix(text, "./")
	anchored := rest != text
	if trimmed := strings.TrimRight(rest, "/"); trimmed != rest {
		p.dirOnly = true
		rest = trimmed
	}
	anchored = anchored || strings.Contains(rest, "/")
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." {
			continue
		}
		if segment == ".." {
			return p, errors.New("it leads out of the tree")
		}
		segment = classNegation(segment)
		if _, err := path.Match(segment, ""); err != nil {
			return p, errors.New("it is malformed")
		}
		p.segments = append(p.segments, segment)
	}
	if len(p.segments) > 0 && !anchored {
		p.segments = append([]string{"**"}, p.segments...)
	}
	return p, nil
}

// classNegation rewrites [!x] as path.Match's [^x].
func classNegation(segment string) string {
	if !strings.Contains(segment, "[!") {
		return segment
	}
	out := []byte(segment)
	inClass := false
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '\\':
			i++
		case inClass:
			inClass = out[i] != ']'
		case out[i] == '[':
			inClass = true
			if i+1 < len(out) && out[i+1] == '!' {
				out[i+1] = '^'
				i++
			}
		}
	}
	return string(out)
}

// match reports whether name, a clean slash-separated path in the tree, is left
// out, because of itself or of a folder above it.
func (x *excluder) match(name string, isDir bool) bool {
	if len(x.patterns) == 0 || name == "." || name == "" {
		return false
	}
	segments := strings.Split(name, "/")
	for depth := 1; depth <= len(segments); depth++ {
		dir := isDir || depth < len(segments)
		for _, p := range x.patterns {
			if p.dirOnly && !dir {
				continue
			}
			if matchSegments(p.segments, segments[:depth]) {
				return true
			}
		}
	}
	return false
}

// matchSegments matches a whole path against a pattern. On a mismatch it goes
// back to the last ** and lets it take one more segment; an earlier ** need
// never be tried again, so that no pattern takes more than len(pattern) times
// len(name) steps.
func matchSegments(pattern, name []string) bool {
	p, n := 0, 0
	star, starName := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			if p == len(pattern)-1 && p > 0 {
				return true // everything inside, and n < len(name) says there is something
			}
			star, starName = p, n
			p++
		case p < len(pattern) && matchSegment(pattern[p], name[n]):
			p++
			n++
		case star >= 0:
			starName++
			p, n = star+1, starName
		default:
			return false
		}
	}
	return p == len(pattern)
}

func matchSegment(pattern, segment string) bool {
	ok, err := path.Match(pattern, segment)
	return err == nil && ok
}
