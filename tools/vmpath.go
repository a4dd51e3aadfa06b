package tools

import (
	"context"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// The home folders that ~ stands for in a VM.
const (
	ordinaryHome = "/home/" + ordinaryUser
	rootsHome    = "/root"
)

// checkVMPath refuses a path in a VM that isn't absolute or under a home.
func checkVMPath(param, path string) error {
	if strings.HasPrefix(path, "/") || path == "~" || strings.HasPrefix(path, "~/") {
		return nil
	}
	return refuse("%s %s can't be used: a path in a VM is absolute, such as /tmp/x, or begins with ~/ for the home of ubuntu.", param, quote(path))
}

// expandHome puts a home folder in place of a leading ~.
func expandHome(p, home string) string {
	if p == "~" || strings.HasPrefix(p, "~/") {
		return home + p[1:]
	}
	return p
}

// fileName writes a path from a guest as it is where that can't mislead, else in
// quotes with what is odd spelt out.
func fileName(s string) string {
	const most = 1000
	odd := func(r rune) bool {
		return r == utf8.RuneError || r == '"' || !unicode.IsPrint(r) || deceptive(r)
	}
	if s != "" && !strings.ContainsFunc(s, odd) && strings.TrimSpace(s) == s {
		return cut(s, most)
	}
	return quoteASCII(s, most)
}

// folderOf is the folder that a path's last part lies in.
func folderOf(p string) string {
	dir, _ := splitVMPath(p)
	return dir
}

// splitVMPath splits a path before its last part. What leads up, or is a home
// or the root, has no last part.
func splitVMPath(p string) (dir, base string) {
	trimmed := strings.TrimRight(p, "/")
	i := strings.LastIndexByte(trimmed, '/')
	if i < 0 {
		return p, "" // ~ or /
	}
	base = trimmed[i+1:]
	if base == "." || base == ".." {
		return p, ""
	}
	return orElse(strings.TrimRight(trimmed[:i], "/"), "/"), base
}

// isSymlink says whether a path itself is a symlink, which a Stat doesn't tell:
// it follows them. When that can't be found out it is none; what is wrong then
// comes to light in the call that the question was for.
func (t *Toolset) isSymlink(ctx context.Context, vm slicer.SlicerNode, p string) bool {
	dir, base := splitVMPath(p)
	if base == "" {
		return false
	}
	list, err := t.client.ReadDir(ctx, vm.Hostname, dir)
	return err == nil && slices.ContainsFunc(list, func(e slicer.SlicerFSInfo) bool {
		return e.Name == base && e.Type == "symlink"
	})
}

// plainPath is p without a home, . and .., as far as text tells.
func plainPath(p string) string {
	return path.Clean(expandHome(p, ordinaryHome))
}
