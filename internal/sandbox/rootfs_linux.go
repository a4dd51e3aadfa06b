package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runSetup builds the guest's root as its mount namespace's first process,
// enters it, gives up what the guest's root must not have and becomes the
// agent. It returns only when one of these fails.
func runSetup(control *net.UnixConn) error {
	var cfg bootConfig
	if _, err := readFrame(control, &cfg); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := confine(&cfg); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := buildRoot(&cfg); err != nil {
		return err
	}
	if err := enterRoot(&cfg); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := setUpNetwork(&cfg); err != nil {
		return err
	}
	// The server's session keyring is not the guest's.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("leave the session keyring: %w", err)
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := filterCalls(cfg.Idmap.Kind); err != nil {
		return err
	}
	return reexec(agentProgram, stageAgent, string(cfg.Idmap.Kind))
}

// rootFolders are the folders of a guest that aren't the host's.
var rootFolders = []struct {
	name string
	mode fs.FileMode
}{
	{"dev", 0o755},
	{"home", 0o755},
	{"media", 0o755},
	{"mnt", 0o755},
	{"proc", 0o555},
	{"root", 0o700},
	{"run", 0o755},
	{"srv", 0o755},
	{"sys", 0o555},
	{"tmp", 0o777 | fs.ModeSticky},
	{"var", 0o755},
	{"var/cache", 0o755},
	{"var/lib", 0o755},
	{"var/log", 0o755},
	{"var/mail", 0o755},
	{"var/opt", 0o755},
	{"var/spool", 0o755},
	{"var/tmp", 0o777 | fs.ModeSticky},
}

// buildRoot mounts everything below cfg.Dir/root. The working folder is
// cfg.Dir, so that no path of the host goes into an overlay's options.
func buildRoot(cfg *bootConfig) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.Chdir(cfg.Dir); err != nil {
		return err
	}
	if err := mkdirMode("root", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", "root", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root folder: %w", err)
	}
	if !cfg.Used {
		if err := fillRoot(cfg); err != nil {
			return err
		}
	}
	for _, name := range []string{"dev", "proc", "run"} {
		if err := makeMountPoint(name); err != nil {
			return err
		}
	}
	for _, dir := range cfg.HostDirs {
		if err := mountOverlay(cfg, dir, hostLayers(cfg, dir)...); err != nil {
			return err
		}
	}
	if err := mountOverlay(cfg, "etc", cfg.EtcDir); err != nil {
		return err
	}
	mountPackages(cfg)
	if err := mountTmpfs("root/run", "mode=755,"+tmpfsSize(cfg.RAMBytes), unix.MS_NOSUID|unix.MS_NODEV); err != nil {
		return err
	}
	for _, dir := range []string{"lock", "slicer", "slicer/secrets"} {
		if err := mkdirMode(filepath.Join("root/run", dir), 0o755); err != nil {
			return err
		}
	}
	if err := mountAgent(cfg); err != nil {
		return err
	}
	return mountDevices(cfg)
}

// fillRoot makes the folders and links of a new disk. Of one that has been used
// they are the guest's: it may have put links there that lead elsewhere on the
// host.
func fillRoot(cfg *bootConfig) error {
	for _, f := range rootFolders {
		if err := mkdirMode(filepath.Join("root", f.name), f.mode); err != nil {
			return err
		}
	}
	links := append([]link{{"var/run", "/run"}, {"var/lock", "/run/lock"}}, cfg.Links...)
	for _, l := range links {
		if err := os.Symlink(l.Target, filepath.Join("root", l.Name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if cfg.Idmap.Kind == idmapRoot {
		return nil
	}
	return ownFolders()
}

// makeMountPoint makes root/name, or makes sure that it is a folder and no link
// that a guest has put there.
func makeMountPoint(name string) error {
	target := filepath.Join("root", name)
	if err := mkdirMode(target, 0o755); err != nil {
		return err
	}
	info, err := os.Lstat(target)
	if err == nil && !info.IsDir() {
		err = errors.New("a file on the disk is in its place")
	}
	if err != nil {
		return fmt.Errorf("make /%s: %w", name, err)
	}
	return nil
}

// errOverlay is what a failed overlay mount wraps.
var errOverlay = errors.New("mount overlay")

// mountOverlay is mountLayers at root/name.
func mountOverlay(cfg *bootConfig, name string, lower ...string) error {
	if err := makeMountPoint(name); err != nil {
		return err
	}
	return mountLayers(cfg, name, filepath.Join("root", name), lower...)
}

// mountLayers shows the folders of lower, the first above the others, at
// target with the guest's own layer, which is layers/name, above them.
func mountLayers(cfg *bootConfig, name, target string, lower ...string) error {
	for i := range lower {
		lower[i] = escapeOption(lower[i])
	}
	upper := filepath.Join("layers", name, "upper")
	work := filepath.Join("layers", name, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// An index would tie the layer to this very folder, and it may be a copy.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off", strings.Join(lower, ":"), upper, work)
	if cfg.Idmap.Kind != idmapRoot {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("%w over /%s: %w", errOverlay, name, err)
	}
	return nil
}

// ownFolders makes, in the guest's own layer, the folders of the host's that
// things are installed to. In a user namespace the host's own belong to nobody;
// these are the guest's root's and show what is below them.
func ownFolders() error {
	for _, name := range []string{
		"usr/bin", "usr/include", "usr/lib", "usr/sbin", "usr/share",
		"usr/local/bin", "usr/local/etc", "usr/local/include", "usr/local/lib", "usr/local/sbin", "usr/local/share", "usr/local/src",
	} {
		info, err := os.Stat("/" + name)
		if err != nil || !info.IsDir() {
			continue // this host has none
		}
		folder, rest, _ := strings.Cut(name, "/")
		if err := os.MkdirAll(filepath.Join("layers", folder, "upper", rest), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// escapeOption makes a path safe in an overlay's options.
func escapeOption(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// mountDevices fills /dev with the harmless devices of the host and a
// pseudo-terminal file system of the guest's own.
func mountDevices(cfg *bootConfig) error {
	const dev = "root/dev"
	if err := mountTmpfs(dev, "mode=755,size=1m", unix.MS_NOSUID|unix.MS_NOEXEC); err != nil {
		return err
	}
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		if err := makeDevice(cfg, dev, d.name, unix.Mkdev(d.major, d.minor)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", d.name, err)
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := mkdirMode(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	ptsOptions := "newinstance,ptmxmode=0666,mode=0620"
	if cfg.Idmap.Kind != idmapSingle {
		ptsOptions += ",gid=5"
	}
	if err := unix.Mount("devpts", dev+"/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, ptsOptions); err != nil {
		return fmt.Errorf("mount devpts: %w", err)
	}
	if err := mountTmpfs(dev+"/shm", "mode=1777,"+tmpfsSize(cfg.RAMBytes), unix.MS_NOSUID|unix.MS_NODEV); err != nil {
		return err
	}
	if err := unix.Mount("mqueue", dev+"/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount mqueue: %w", err)
	}
	for _, l := range []link{
		{"ptmx", "pts/ptmx"},
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
	} {
		if err := os.Symlink(l.Target, filepath.Join(dev, l.Name)); err != nil {
			return err
		}
	}
	return nil
}

// makeDevice makes a device of the guest's own, whose mode and owner its root
// may change. In a user namespace only the host's can be shown, which belong to
// nobody there.
func makeDevice(cfg *bootConfig, dev, name string, number uint64) error {
	target := filepath.Join(dev, name)
	if cfg.Idmap.Kind == idmapRoot {
		if err := unix.Mknod(target, unix.S_IFCHR|0o600, int(number)); err != nil {
			return err
		}
		return os.Chmod(target, 0o666)
	}
	if err := os.WriteFile(target, nil, 0o666); err != nil {
		return err
	}
	return unix.Mount("/dev/"+name, target, "", unix.MS_BIND, "")
}

// enterRoot mounts /proc, makes cfg.Dir/root the root and lets go of the
// host's.
func enterRoot(cfg *bootConfig) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "root/proc", "proc", flags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.Chdir("root"); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if cfg.Idmap.Kind != idmapRoot {
		limitInotify()
	}
	if err := maskProc(); err != nil {
		return err
	}
	if !cfg.Used {
		return writeIdentity(cfg)
	}
	// A disk that is full, or strange, must still boot to be mended.
	if err := renewIdentity(cfg.Was, cfg.Hostname); err != nil {
		fmt.Fprintln(os.Stderr, agentName+": renew the disk's identity: "+err.Error())
	}
	return nil
}

// keptCapabilities are what the guest's root may have: enough to own files,
// change users and serve ports, not to mount, trace, load or mknod.
var keptCapabilities = map[int]bool{
	unix.CAP_CHOWN:            true,
	unix.CAP_DAC_OVERRIDE:     true,
	unix.CAP_FOWNER:           true,
	unix.CAP_FSETID:           true,
	unix.CAP_KILL:             true,
	unix.CAP_NET_BIND_SERVICE: true,
	unix.CAP_SETFCAP:          true,
	unix.CAP_SETGID:           true,
	unix.CAP_SETPCAP:          true,
	unix.CAP_SETUID:           true,
	unix.CAP_SYS_CHROOT:       true,
}

// dropPrivileges takes every other capability away from all that this thread
// will execute, for good.
func dropPrivileges() error {
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if keptCapabilities[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// mkdirMode makes a folder with exactly mode; one that is there is left alone.
func mkdirMode(name string, mode fs.FileMode) error {
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
