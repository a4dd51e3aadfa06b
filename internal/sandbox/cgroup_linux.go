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
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups are one server's control groups: in each hierarchy one, named like
// the server's run folder, with the guests' below it. A lock held on its folder
// says that the server lives.
type cgroups struct {
	parents []*cgroupParent
	missing map[string]string // why a controller can't be had, by its name
	noClone atomic.Bool       // a process can't be started inside a group here
}

// cgroupParent is a server's group in one hierarchy.
type cgroupParent struct {
	dir         string
	lock        *os.File
	v2          bool
	controllers []string     // those that guests can be held with
	leave       func() error // undoes what making it took; nil for nothing
}

// groupsFile, in a server's run folder, lists its groups' folders for the server
// that finds it dead, which may be in other groups itself.
const groupsFile = "cgroups"

// newCgroups makes this server's groups, as far as it may, and removes those of
// dead servers beside them. runDir is the server's run folder. What it can't
// have it logs.
func newCgroups(runDir string, log *slog.Logger) *cgroups {
	c := &cgroups{missing: map[string]string{}}
	name := filepath.Base(runDir)
	mountinfo, err1 := os.ReadFile("/proc/self/mountinfo")
	membership, err2 := os.ReadFile("/proc/self/cgroup")
	if err := errors.Join(err1, err2); err != nil {
		log.Warn("can't look for control groups", "error", err)
	}
	wanted := slices.Clone(sizeControllers)
	var unified *hierarchy
	for _, h := range findHierarchies(string(mountinfo), string(membership)) {
		if h.isV2() {
			unified = &h
			continue
		}
		wanted = slices.DeleteFunc(wanted, func(name string) bool { return slices.Contains(h.controllers, name) })
		c.addV1(h, name, log)
	}
	if unified != nil {
		c.addV2(*unified, name, wanted, log)
	}
	var list strings.Builder
	for _, p := range c.parents {
		list.WriteString(p.dir + "\n")
	}
	if err := os.WriteFile(filepath.Join(runDir, groupsFile), []byte(list.String()), 0o600); err != nil {
		log.Warn("can't note this server's control groups", "error", err)
	}
	for _, name := range sizeControllers {
		if c.parentOf(name) != nil {
			continue
		}
		if c.missing[name] == "" {
			c.missing[name] = "this system has no cgroup with the " + name + " controller"
		}
		log.Warn("guests aren't held to a limit", "controller", name, "reason", c.missing[name])
	}
	return c
}

func (c *cgroups) parentOf(controller string) *cgroupParent {
	for _, p := range c.parents {
		if slices.Contains(p.controllers, controller) {
			return p
		}
	}
	return nil
}

func (c *cgroups) addV1(h hierarchy, name string, log *slog.Logger) {
	sweepCgroups(h.own, log)
	p, err := makeParent(h.own, name)
	if err != nil {
		for _, controller := range h.controllers {
			c.missing[controller] = fmt.Sprintf("no %s cgroup that this user may divide (%v); start the server as root or have one delegated to it", controller, err)
		}
		return
	}
	p.controllers = h.controllers
	c.parents = append(c.parents, p)
}

// makeParent makes a server's group below dir and takes its lock.
func makeParent(dir, name string) (*cgroupParent, error) {
	for try := range 10 {
		path := filepath.Join(dir, name)
		if try > 0 {
			path += "-" + strconv.Itoa(try) // another server takes the one before for a dead one's
		}
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if lock, err := lockDir(path); err == nil {
			return &cgroupParent{dir: path, lock: lock}, nil
		}
	}
	return nil, fmt.Errorf("make cgroup under %s: too many servers start at once", dir)
}

// sweepCgroups removes the groups of this user's dead servers below dir.
func sweepCgroups(dir string, log *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Warn("can't look for dead servers' control groups", "error", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			sweepCgroup(filepath.Join(dir, e.Name()), log)
		}
	}
}

// sweepListed removes the groups that a dead server's run folder lists.
func sweepListed(runDir string, log *slog.Logger) {
	for _, dir := range words(runDir, groupsFile) {
		sweepCgroup(dir, log)
	}
}

// sweepCgroup removes a group if it is that of a dead server of this user's.
func sweepCgroup(dir string, log *slog.Logger) {
	var st unix.Stat_t
	if !strings.HasPrefix(filepath.Base(dir), runPrefix) || unix.Stat(dir, &st) != nil || int(st.Uid) != os.Geteuid() {
		return // it isn't a server's, has just gone or is another user's
	}
	lock, err := lockDir(dir)
	if err != nil {
		return // its server lives, or another one is removing it
	}
	defer lock.Close()
	if err := removeCgroup(dir); err != nil {
		log.Warn("can't remove a dead server's control group", "path", dir, "error", err)
	}
}

// cgroupGoneLimit bounds how long the end of a group's processes is waited for.
const cgroupGoneLimit = 2 * time.Second

// removeCgroup ends what is in a group, where the kernel has a way, and removes
// it with those below. One that isn't there is no error.
func removeCgroup(dir string) error {
	killCgroup(dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() {
			errs = append(errs, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	deadline := time.Now().Add(cgroupGoneLimit)
	for {
		err := unix.Rmdir(dir)
		if errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond) // a process that has been reaped may still be leaving it
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, &fs.PathError{Op: "remove cgroup", Path: dir, Err: err})
		}
		return errors.Join(errs...)
	}
}

// killCgroup kills every process in a group of cgroup v2 and below. Elsewhere
// the end of the pid namespace has to do.
func killCgroup(dir string) {
	_ = writeKnob(dir, "cgroup.kill", "1") // v1 and kernels before 5.14 have none
}

// writeKnob writes a group's file, which must be there.
func writeKnob(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// close removes the groups. Every guest must have ended.
func (c *cgroups) close() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, p := range c.parents {
		errs = append(errs, removeCgroup(p.dir))
		p.lock.Close()
		if p.leave != nil {
			errs = append(errs, p.leave())
		}
	}
	return errors.Join(errs...)
}
