package tools

import "strings"

// checkVMPath refuses a path in a VM that isn't absolute or under a home.
func checkVMPath(param, path string) error {
	if strings.HasPrefix(path, "/") || path == "~" || strings.HasPrefix(path, "~/") {
		return nil
	}
	return refuse("%s %s can't be used: a path in a VM is absolute, such as /tmp/x, or begins with ~/ for the home of ubuntu.", param, quote(path))
}
