package sandbox

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The controllers that a guest's sizes need.
const (
	cpuController    = "cpu"
	memoryController = "memory"
	pidsController   = "pids"
)

// sizeControllers are all of them.
var sizeControllers = []string{cpuController, memoryController, pidsController}

// hierarchy is one mounted tree of control groups as this process sees it.
type hierarchy struct {
	mount       string   // the folder that it is mounted on
	own         string   // the folder of this process's group, mount or below
	controllers []string // of cgroup v1; nil is cgroup v2
}

func (h hierarchy) isV2() bool { return h.controllers == nil }

// findHierarchies lists the trees out of the texts of /proc/self/mountinfo and
// /proc/self/cgroup: that of cgroup v2, and those of v1 that have one of
// sizeControllers. One whose mount doesn't show this process's group is left
// out.
func findHierarchies(mountinfo, membership string) []hierarchy {
	paths := ownPaths(membership)
	var found []hierarchy
	seen := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		mount, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 6 || len(super) < 3 {
			continue
		}
		h := hierarchy{mount: unescapeMount(mount[4])}
		key := ""
		switch super[0] {
		case "cgroup2":
		case "cgroup":
			for _, option := range strings.Split(super[2], ",") {
				if slices.Contains(sizeControllers, option) {
					h.controllers = append(h.controllers, option)
				}
			}
			if len(h.controllers) == 0 {
				continue
			}
			key = h.controllers[0]
		default:
			continue
		}
		path, ok := paths[key]
		if !ok || seen[key] || strings.HasPrefix(path+"/", "/../") || strings.HasPrefix(mount[3]+"/", "/../") {
			continue // a name that begins with /.. is outside of what this process may see
		}
		below, err := filepath.Rel(unescapeMount(mount[3]), path)
		if err != nil || !filepath.IsLocal(below) {
			continue // the mount shows another part of the tree
		}
		h.own = filepath.Join(h.mount, below)
		seen[key] = true
		found = append(found, h)
	}
	return found
}

// ownPaths are the names of this process's groups by v1 controller; that of
// cgroup v2 stands under "".
func ownPaths(membership string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(membership) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case id == "0":
			paths[""] = path
		default:
			for _, c := range strings.Split(controllers, ",") {
				if c != "" {
					paths[c] = path
				}
			}
		}
	}
	return paths
}

// unescapeMount undoes how mountinfo writes blanks and backslashes.
func unescapeMount(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if n, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
