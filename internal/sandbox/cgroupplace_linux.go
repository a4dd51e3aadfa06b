package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// addV2 makes the server's group in cgroup v2, where it can have the wanted
// controllers. A group of v2 that hands controllers on has no processes of its
// own, and this server's group has one at least: the server. So the group is made
//   - below the server's own, where that is the tree's root, which is exempt;
//   - below it as well where the server is alone in it, after the server has
//     moved to another group below it, as in a scope or container of its own;
//   - else below the nearest group above that hands on the most and that this
//     user may use. No process but the server is ever moved.
//
// Where none of these goes, the group has no controllers, and is of use for
// killing and freezing alone.
func (c *cgroups) addV2(h hierarchy, name string, wanted []string, log *slog.Logger) {
	var p *cgroupParent
	var err error
	places := []string{h.own}
	offered := intersect(wanted, words(h.own, "cgroup.controllers"))
	switch {
	case len(offered) == 0:
	case isTreeRoot(h.own):
		enable(h.own, offered) // what isn't there after it is missing
	case aloneIn(h.own):
		p, err = splitOwn(h.own, name, offered, log)
	default:
		if above := placeAbove(h, wanted); above != "" {
			places = []string{above, h.own}
		}
	}
	for _, dir := range places {
		if p != nil {
			break
		}
		sweepCgroups(dir, log)
		p, err = makeParent(dir, name)
	}
	if p == nil {
		c.missV2(wanted, err)
		return
	}
	p.v2 = true
	enable(p.dir, intersect(wanted, words(p.dir, "cgroup.controllers")))
	p.controllers = intersect(wanted, words(p.dir, "cgroup.subtree_control"))
	c.parents = append(c.parents, p)
	c.missV2(wanted, errors.New("its own isn't empty, and no group above hands the controller on"))
}

// missV2 notes why controllers can't be had. Those that can be had are left out
// by the reader.
func (c *cgroups) missV2(names []string, err error) {
	user := "--user "
	if os.Geteuid() == 0 {
		user = ""
	}
	for _, name := range names {
		c.missing[name] = fmt.Sprintf("no %s cgroup that this server may divide (%v); give it one of its own: systemd-run %s--scope -p Delegate=yes slicervm-mcp …", name, err, user)
	}
}

// isTreeRoot says whether dir is the root of the whole tree, not of a part.
func isTreeRoot(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// aloneIn says whether this process is the only one in a group that it may
// divide, and that it hasn't made itself for an earlier server's sake.
func aloneIn(dir string) bool {
	return !strings.HasPrefix(filepath.Base(dir), runPrefix) &&
		unix.Access(dir, unix.W_OK) == nil &&
		unix.Access(filepath.Join(dir, "cgroup.subtree_control"), unix.W_OK) == nil &&
		slices.Equal(words(dir, "cgroup.procs"), []string{strconv.Itoa(os.Getpid())})
}

// splitOwn moves this process to a group below its own and makes the server's
// group beside that.
func splitOwn(own, name string, offered []string, log *slog.Logger) (*cgroupParent, error) {
	sweepCgroups(own, log)
	leaf, err := makeParent(own, name+"-server")
	if err != nil {
		return nil, err
	}
	self := strconv.Itoa(os.Getpid())
	before := words(own, "cgroup.subtree_control")
	undo := func() error {
		for _, controller := range offered {
			if slices.Contains(before, controller) {
				continue
			}
			if err := writeKnob(own, "cgroup.subtree_control", "-"+controller); err != nil {
				stayIn(leaf)
				return nil //nolint:nilerr // the next server sweeps
			}
		}
		if err := writeKnob(own, "cgroup.procs", self); err != nil {
			stayIn(leaf)
			return nil //nolint:nilerr // as above
		}
		defer leaf.lock.Close()
		return removeCgroup(leaf.dir)
	}
	if err := writeKnob(leaf.dir, "cgroup.procs", self); err != nil {
		return nil, errors.Join(err, undo())
	}
	enable(own, offered)
	p, err := makeParent(own, name)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	p.leave = undo
	return p, nil
}

// stayIn is for a process that can't leave a group that it has made for itself:
// another server's group is below the one it came from, say. As long as it lives
// the lock says so, on a descriptor that nothing closes: the lock's own goes with
// the file, and the next sweep would kill this process.
func stayIn(leaf *cgroupParent) {
	_, _ = unix.FcntlInt(leaf.lock.Fd(), unix.F_DUPFD_CLOEXEC, 0) // fails only without descriptors
}

// placeAbove finds the nearest group above this process's own that hands on the
// most of the wanted controllers and that this user may use; "" is none.
func placeAbove(h hierarchy, wanted []string) string {
	best, most := "", 0
	for dir := h.own; dir != h.mount && most < len(wanted); {
		dir = filepath.Dir(dir)
		// A process moves between groups by leave of the one above both.
		if unix.Access(dir, unix.W_OK) != nil || unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) != nil {
			break
		}
		if n := len(intersect(wanted, words(dir, "cgroup.subtree_control"))); n > most {
			best, most = dir, n
		}
	}
	return best
}

// enable hands controllers on to the groups below dir, each as far as it goes:
// subtree_control says afterwards what went.
func enable(dir string, controllers []string) {
	on := words(dir, "cgroup.subtree_control")
	for _, name := range controllers {
		if !slices.Contains(on, name) {
			_ = writeKnob(dir, "cgroup.subtree_control", "+"+name) // the caller reads what went
		}
	}
}

// words are those of a group's file; none when it can't be read.
func words(dir, file string) []string {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// intersect are those of a that are in b.
func intersect(a, b []string) []string {
	var both []string
	for _, s := range a {
		if slices.Contains(b, s) {
			both = append(both, s)
		}
	}
	return both
}
