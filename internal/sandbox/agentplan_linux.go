package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is where commands are looked up.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// plan is what a command's execution takes, but for its streams.
type plan struct {
	path string
	argv []string
	attr *syscall.ProcAttr
	uid  uint32

	exited chan<- exitEvent // takes the command's end, which then isn't the daemon's; nil where it is
}

// plan resolves a command's user, folder, environment and program.
func (a *agent) plan(e *execRequest) (*plan, error) {
	if len(e.Argv) == 0 {
		return nil, syscall.EINVAL
	}
	uid := uint32(ubuntuID)
	if e.UID != nil {
		uid = *e.UID
	}
	user := lookupAccount(uid)
	gid := user.gid
	if e.GID != nil {
		gid = *e.GID
	}
	env := environment(user, e.Env)
	dir := workingDir(user, e.Dir)
	var folder unix.Stat_t
	err := unix.Stat(dir, &folder)
	if err == nil && folder.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = syscall.ENOTDIR
	}
	if err != nil {
		if e.Dir != "" {
			return nil, fmt.Errorf("working folder %s: %w", dir, err)
		}
		dir = "/"
	}
	path, err := lookPath(e.Argv[0], dir, env)
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	a.kind.credential(attr.Sys, uid, gid)
	if c := attr.Sys.Credential; c != nil && e.GID == nil {
		c.Groups = supplementaryGroups(user.name)
	}
	return &plan{path: path, argv: e.Argv, attr: attr, uid: uid}, nil
}

// environment is a login's ordinary environment for user with extra on top.
func environment(user account, extra []string) []string {
	env := []string{
		"HOME=" + user.home,
		"LANG=C.UTF-8",
		"LOGNAME=" + user.name,
		"PATH=" + defaultPath,
		"SHELL=" + user.shell,
		"USER=" + user.name,
	}
	set := map[string]int{}
	for i, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		set[key] = i
	}
	for _, kv := range extra {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := set[key]; ok {
			env[i] = kv
			continue
		}
		set[key] = len(env)
		env = append(env, kv)
	}
	return env
}

// workingDir resolves a command's folder: "" and a leading ~ are the home,
// and a relative name starts there.
func workingDir(user account, dir string) string {
	switch {
	case dir == "" || dir == "~":
		return user.home
	case strings.HasPrefix(dir, "~/"):
		return filepath.Join(user.home, dir[2:])
	case !filepath.IsAbs(dir):
		return filepath.Join(user.home, dir)
	}
	return filepath.Clean(dir)
}

// lookPath finds a program as execvp would with env's PATH.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		file := filepath.Join(folder, name)
		info, err := os.Stat(file)
		if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH: %w", name, syscall.ENOENT)
}
