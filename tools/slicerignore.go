package tools

import (
	"errors"
	"io"
	"io/fs"
	"strings"
)

// ignoreFile, in the root of a host folder that is copied into a VM, names what
// stays behind, in the manner of a .gitignore: a glob a line; # begins a
// comment; white space at a line's end doesn't count. * and ? match in one name,
// [a-z] one character, ** across folders. A line with a slash at its beginning
// or in its middle is matched from the root of the folder, any other at every
// depth; one with a slash at its end matches folders only. What is in a folder
// that stays behind stays behind too, and a backslash takes the next character
// as it is. There is no !line that takes back another one, and a .slicerignore
// in a folder further down counts for nothing.
const ignoreFile = ".slicerignore"

const (
	longestIgnoreFile = 64 << 10
	mostIgnored       = 1000 // lines
)

// readIgnoreFile reads the globs of the .slicerignore in a folder; there are
// none without one. One that can't be read or understood is an error: what it
// names might be the very files that must not be copied.
func readIgnoreFile(folder *hostEntry) ([]string, error) {
	if _, err := folder.dir.Lstat(ignoreFile); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	file, info, err := openNow(folder.dir, ignoreFile)
	if err == nil {
		defer file.Close()
	}
	if err != nil || !info.Mode().IsRegular() {
		return nil, refuse("nothing was copied: the folder has a %s that can't be read, so it isn't known what is to stay behind. Mend or remove it, then retry.", ignoreFile)
	}
	text, err := io.ReadAll(io.LimitReader(file, longestIgnoreFile+1))
	if err != nil || len(text) > longestIgnoreFile {
		return nil, refuse("nothing was copied: the folder's %s can't be read, or is larger than %s. Shorten it, then retry.", ignoreFile, size(longestIgnoreFile))
	}
	return parseIgnoreFile(string(text))
}

func parseIgnoreFile(text string) ([]string, error) {
	var globs []string
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		glob := trimIgnored(line)
		if glob == "" || strings.HasPrefix(glob, "#") {
			continue
		}
		if fault := globFault(glob); fault != "" {
			return nil, refuse("nothing was copied: line %d of the folder's %s, %s, %s Change that line, then retry.", n, ignoreFile, quote(glob), fault)
		}
		if len(globs) == mostIgnored {
			return nil, refuse("nothing was copied: the folder's %s has more than %s. Shorten it, then retry.", ignoreFile, count(mostIgnored, "glob"))
		}
		globs = append(globs, glob)
	}
	return globs, nil
}

// trimIgnored drops a line's end and the white space before it, but not a space
// after a backslash.
func trimIgnored(line string) string {
	trimmed := strings.TrimRight(line, " \t\r\n")
	if strings.HasSuffix(trimmed, `\`) && strings.HasPrefix(line[len(trimmed):], " ") {
		return trimmed + " "
	}
	return trimmed
}
