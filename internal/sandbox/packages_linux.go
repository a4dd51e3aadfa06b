package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// With the machine's network guests can install Debian packages: they have
// apt's configuration, and dpkg's database below a layer of their own, so that
// it says what their /usr has.

// etcPackages are shown below /etc besides etcShown.
const etcPackages = "apt"

// packageDatabase is dpkg's, on the host and in guests.
const packageDatabase = "var/lib/dpkg"

// packageLayer is the folder below layers of the guest's part of the database.
const packageLayer = "dpkg"

// packageFolders are what apt needs besides, empty.
var packageFolders = []string{
	"var/cache/apt/archives/partial",
	"var/cache/debconf",
	"var/lib/apt/lists/partial",
	"var/log/apt",
}

// maxDatabaseFile bounds the files of the database that are copied.
const maxDatabaseFile = 64 << 20

// telltale is what a file with something secret has: an address with a name or
// a password, or a private key.
var telltale = regexp.MustCompile(`://[^/\s"']*@|PRIVATE KEY|(?i:passw|proxylogin)`)

// tellsSecret says whether a file of apt's may hold what lets somebody in. One
// that can't be read tells nothing.
func tellsSecret(name string) bool {
	text, err := readBounded(name, maxEtcFileBytes)
	return err == nil && telltale.Match(text)
}

// foldersDir is the folder with folderLayer; "" where guests need none.
func (h *Hypervisor) foldersDir() string {
	if !h.hostNetwork || !h.idmap.disowns() {
		return ""
	}
	return filepath.Join(h.run.path, folderLayer)
}

// foldersFrom is foldersDir, relative to dir.
func (h *Hypervisor) foldersFrom(dir string) (string, error) {
	folders := h.foldersDir()
	if folders == "" {
		return "", nil
	}
	return filepath.Rel(dir, folders)
}

// copyEtc copies what guests see of /etc, and makes what packages need.
func (h *Hypervisor) copyEtc(ctx context.Context) error {
	if !h.hostNetwork {
		return copyEtc(ctx, "/etc", h.etcDir())
	}
	if dir := h.foldersDir(); dir != "" {
		if err := mkdirMode(dir, 0o755); err != nil {
			return err
		}
		for _, name := range h.hostDirs {
			if err := writeFolderLayer(ctx, dir, name); err != nil {
				return fmt.Errorf("make the guests' system folders: %w", err)
			}
		}
	}
	if err := copyEtc(ctx, "/etc", h.etcDir(), etcPackages); err != nil {
		return err
	}
	return writePackageSettings(h.etcDir(), h.idmap.Kind)
}

// writePackageSettings adds, to the copy of /etc, what apt must know of guests.
func writePackageSettings(etcDir string, kind idmapKind) error {
	dir := filepath.Join(etcDir, "apt", "apt.conf.d")
	if _, err := os.Stat(dir); err != nil || kind != idmapSingle {
		return nil //nolint:nilerr // there is no apt, or it can be another user
	}
	const setting = "// There is no other user here that could fetch files.\nAPT::Sandbox::User \"root\";\n"
	return os.WriteFile(filepath.Join(dir, "99slicer"), []byte(setting), 0o644)
}

// mountPackages shows the package database. A guest that can't have it is
// without packages, and runs.
func mountPackages(cfg *bootConfig) {
	info, err := os.Stat("/" + packageDatabase)
	if !cfg.HostNetwork || err != nil || !info.IsDir() {
		return
	}
	if err := showDatabase(cfg); err != nil {
		fmt.Fprintln(os.Stderr, agentName+": packages can't be installed: "+err.Error())
	}
}

func showDatabase(cfg *bootConfig) error {
	folders := packageFolders
	if cfg.Idmap.Kind == idmapSingle {
		folders = append(slices.Clone(folders), "var/cache/man") // man-db would make it another user's
	}
	for _, name := range folders {
		dir, err := makeFolders(name)
		if err != nil {
			return err
		}
		dir.Close()
	}
	target, err := makeFolders(packageDatabase)
	if err != nil {
		return err
	}
	defer target.Close()
	layer := filepath.Join("layers", packageLayer)
	if _, err := os.Lstat(filepath.Join(layer, "upper")); errors.Is(err, fs.ErrNotExist) {
		if err := fillDatabase(layer); err != nil {
			return fmt.Errorf("make the package database: %w", err)
		}
	}
	return mountLayers(cfg, packageLayer, fmt.Sprintf("/proc/self/fd/%d", target.Fd()), "/"+packageDatabase)
}

// makeFolders opens root/name after making what is missing of it. A guest may
// have put links on the disk: none is followed.
func makeFolders(name string) (*os.File, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	at, err := unix.Open("root", flags, 0)
	for part := range strings.SplitSeq(name, "/") {
		if err != nil {
			break
		}
		above := at
		at, err = unix.Openat(above, part, flags, 0)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(above, part, 0o755); err == nil {
				at, err = unix.Openat(above, part, flags, 0)
			}
		}
		unix.Close(above)
	}
	if err != nil {
		return nil, fmt.Errorf("make /%s: %w", name, err)
	}
	return os.NewFile(uintptr(at), name), nil
}

// fillDatabase makes a new guest's part of the database: its folders, which in
// a user namespace would be nobody's, and the files that dpkg changes in place
// or that nobody but the host's root may read. Overrides of files' owners name
// users that guests don't have.
func fillDatabase(layer string) error {
	if err := os.MkdirAll(layer, 0o755); err != nil {
		return err
	}
	made, err := os.MkdirTemp(layer, "new-")
	if err != nil {
		return err
	}
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir("/" + packageDatabase)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join(made, e.Name())
		switch {
		case e.IsDir():
			err = mkdirMode(target, 0o755)
		case e.Type().IsRegular():
			err = copyDatabaseFile(e.Name(), target)
		}
		if err != nil {
			return err
		}
	}
	for _, lock := range []string{"lock", "lock-frontend", "triggers/Lock"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(made, lock)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(made, lock), nil, 0o640); err != nil {
			return err
		}
	}
	return os.Rename(made, filepath.Join(layer, "upper"))
}

func copyDatabaseFile(name, target string) error {
	source := filepath.Join("/"+packageDatabase, name)
	info, err := os.Stat(source)
	if err != nil {
		return nil //nolint:nilerr // it went away while we looked
	}
	var text []byte
	if name != "statoverride" && name != "statoverride-old" && info.Mode().Perm()&0o004 != 0 {
		if text, err = readBounded(source, maxDatabaseFile); err != nil {
			return err
		}
	}
	return os.WriteFile(target, text, info.Mode().Perm()&0o755)
}

// folderLayer is the folder in a run folder with the folders of the host's
// system folders, which packages put their files into. In a user namespace the
// host's own belong to nobody; these are the guest's root's.
const folderLayer = "folders"

// Folders deeper than that, and those after that many, stay nobody's: they are
// one package's own.
const (
	maxFolderDepth = 5
	maxFolders     = 20_000
)

// hostLayers are what guests have of the host's folder name, the first above
// the others.
func hostLayers(cfg *bootConfig, name string) []string {
	layers := []string{"/" + name}
	if cfg.FoldersDir != "" {
		layers = append([]string{filepath.Join(cfg.FoldersDir, name)}, layers...)
	}
	if name == "usr" && cfg.SudoDir != "" {
		layers = append([]string{cfg.SudoDir}, layers...)
	}
	return layers
}

// writeFolderLayer makes the folders of the host's folder name in dir.
func writeFolderLayer(ctx context.Context, dir, name string) error {
	source, made := "/"+name, 0
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // what can't be read is left as it is
		}
		if path == "/usr/local" {
			return fs.SkipDir // no package's
		}
		info, err := entry.Info()
		if err != nil || info.Mode().Perm()&0o005 != 0o005 {
			return fs.SkipDir
		}
		if made++; made > maxFolders {
			return fs.SkipAll
		}
		if err := mkdirMode(filepath.Join(dir, path), 0o755); err != nil {
			return err
		}
		if strings.Count(path, "/") > maxFolderDepth {
			return fs.SkipDir
		}
		return nil
	})
}
