package daemon

import (
	"io/fs"
	"os"
	"strings"
)

// withoutPaths is err's text without the machine's own paths, which are in the
// log and no client's business.
func withoutPaths(err error) string {
	text := err.Error()
	for _, name := range pathsOf(err) {
		text = strings.ReplaceAll(text, " "+name, "")
	}
	return text
}

// pathsOf lists the paths that the errors of a chain name. Those of a guest's
// files are in their answer's text once more, beside the chain.
func pathsOf(err error) []string {
	var names []string
	switch e := err.(type) { //nolint:errorlint // each error of the chain is looked at by itself
	case *fs.PathError:
		names = append(names, e.Path)
	case *os.LinkError:
		names = append(names, e.Old, e.New)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if next := e.Unwrap(); next != nil {
			names = append(names, pathsOf(next)...)
		}
	case interface{ Unwrap() []error }:
		for _, next := range e.Unwrap() {
			names = append(names, pathsOf(next)...)
		}
	}
	return names
}
