package tools

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// largestCopyOut bounds a copy out of a VM, whose guest decides how much it sends.
const largestCopyOut = 16 << 30

// download is one copy out of a VM. Everything is written under another name
// beside its own, and gets its own at the end.
type download struct {
	in    cpFromVMInput
	vm    slicer.SlicerNode
	place *hostPlace
	meter *meter

	replaced int
	merging  bool // files have begun to take their places
	last     *fileSum
}

// fileSum is the checksum of a file that is being written.
type fileSum struct {
	name string
	hash hash.Hash
}

func (d *download) sofar() tally { return d.meter.sofar() }

// run copies to the end. Whether vm_path is a file or a folder shows when it is
// opened.
func (d *download) run(ctx context.Context, t *Toolset) (copiedRecord, error) {
	rec := copiedRecord{VM: d.vm.Hostname, VMPath: d.in.VMPath, Name: tagValue(d.vm, tagName), fromVM: true}
	file, err := t.client.OpenFile(ctx, d.vm.Hostname, d.in.VMPath)
	switch {
	case errors.Is(err, slicer.ErrIsDirectory):
		rec.Folder = true
		rec.SHA256, err = d.copyFolder(ctx, t.client)
	case err == nil:
		rec.SHA256, err = d.copyFile(ctx, file)
		file.Close()
	}
	rec.HostPath = d.in.HostPath
	if err != nil {
		return rec, t.copyOutFailed(ctx, err, d)
	}
	done := d.sofar()
	rec.Files, rec.Bytes, rec.Skipped, rec.Replaced = done.files, done.bytes, done.skipped, d.replaced
	return rec, nil
}

// copyFile copies one file.
func (d *download) copyFile(ctx context.Context, file *slicer.VMFile) (sum string, err error) {
	if len(d.in.Exclude) > 0 {
		return "", refuse("exclude is for folders, and vm_path %s is a file. Leave it out.", quote(d.in.VMPath))
	}
	if strings.HasSuffix(d.in.HostPath, "/") {
		name := baseOf(d.in.VMPath)
		place, err := d.place.in(name)
		if err != nil {
			return "", refuse("host_path %s is not a folder that can take %s. Use another path.", quote(d.in.HostPath), quote(name))
		}
		d.place, d.in.HostPath = place, filepath.Join(d.in.HostPath, name)
	}
	if d.place.folder() {
		return "", refuse("host_path %s is a folder. Give the file's own path there, such as %s.", quote(d.in.HostPath), quote(filepath.Join(d.in.HostPath, baseOf(d.in.VMPath))))
	}
	d.meter.add(tally{files: 1})
	temp := d.place.tempPath()
	local, err := d.place.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode&0o777)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.place.root.Remove(temp))
		}
	}()
	all := sha256.New()
	// A host that has no room says so; a guest that never ends is cut off.
	n, err := io.Copy(io.MultiWriter(local, all, counted{d.meter}), io.LimitReader(file, largestCopyOut+1))
	if n > largestCopyOut {
		err = errBigCopy
	}
	if closeErr := local.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", err
	}
	if err := d.place.settle(temp); err != nil {
		return "", err
	}
	if d.place.info != nil {
		d.replaced = 1
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// counted counts what is written.
type counted struct{ meter *meter }

func (c counted) Write(p []byte) (int, error) {
	c.meter.add(tally{bytes: int64(len(p))})
	return len(p), nil
}

// copyFolder copies what is in a folder.
func (d *download) copyFolder(ctx context.Context, client *slicer.SlicerClient) (sum string, err error) {
	if d.place.info != nil && !d.place.folder() {
		return "", refuse("host_path %s is a file, and vm_path %s is a folder. Give the path of a folder, which may be new.", quote(d.in.HostPath), quote(d.in.VMPath))
	}
	temp := d.place.tempPath()
	if err := d.place.root.Mkdir(temp, 0o755); err != nil {
		return "", err
	}
	defer func() {
		// After a merge the empty folders are left, after a failure all of it.
		if rest := d.place.root.RemoveAll(temp); err == nil {
			err = rest
		}
	}()
	staging, err := d.place.root.OpenRoot(temp)
	if err != nil {
		return "", err
	}
	defer staging.Close()
	err = client.CpFromVMToRoot(ctx, d.vm.Hostname, d.in.VMPath, staging, slicer.CpRootOptions{Exclude: d.in.Exclude, Entry: d.entry})
	d.sumUp()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", err
	}
	if d.place.folder() {
		err = d.merge(staging, temp)
	} else {
		staging.Close() // Windows doesn't rename an open folder
		err = d.place.settle(temp)
	}
	if err != nil {
		return "", err
	}
	return d.meter.digest.sum(), nil
}

// entry counts an entry of the archive and holds it to the bounds.
func (d *download) entry(header *tar.Header) (io.Writer, error) {
	d.sumUp()
	switch header.Typeflag {
	case tar.TypeDir:
		return nil, d.meter.entry(header.Name, tally{folders: 1})
	case tar.TypeReg:
	default:
		return nil, d.meter.entry(header.Name, tally{skipped: 1})
	}
	if err := d.meter.entry(header.Name, tally{files: 1}); err != nil {
		return nil, err
	}
	if header.Size > largestCopyOut-d.sofar().bytes {
		return nil, errBigCopy
	}
	d.last = &fileSum{header.Name, sha256.New()}
	return io.MultiWriter(d.last.hash, counted{d.meter}), nil
}

// sumUp notes the checksum of the file before.
func (d *download) sumUp() {
	if d.last != nil {
		d.meter.digest.file(d.last.name, d.last.hash)
		d.last = nil
	}
}

// merge moves what is in staging, which is temp under the root, into the folder
// that is there: folders join folders, files take the place of files and of
// symlinks. Nothing is moved if anything can't be.
func (d *download) merge(staging *os.Root, temp string) error {
	target, err := d.place.root.OpenRoot(d.place.rel)
	if err != nil {
		return err
	}
	defer target.Close()
	walk := func(each func(name string, dir bool) error) error {
		return fs.WalkDir(staging.FS(), ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || name == "." {
				return err
			}
			return each(filepath.FromSlash(name), e.IsDir())
		})
	}
	err = walk(func(name string, dir bool) error { return d.fits(target, name, dir) })
	if err != nil {
		return err
	}
	d.merging = true
	return walk(func(name string, dir bool) error {
		if !dir {
			// Both are named from the root, which can't be left.
			return d.place.root.Rename(filepath.Join(temp, name), filepath.Join(d.place.rel, name))
		}
		err := target.Mkdir(name, 0o755)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	})
}

// fits looks whether a file or folder can take its place in target.
func (d *download) fits(target *os.Root, name string, dir bool) error {
	info, err := target.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case dir != info.IsDir():
		was, comes := "a file or symlink", "a folder"
		if info.IsDir() {
			was, comes = "a folder", "a file"
		}
		return refuse("nothing was copied: %s is %s in host_path %s, and %s in vm_path %s. Move it out of the way, leave it out with exclude, or copy to a new folder.",
			quote(filepath.ToSlash(name)), was, quote(d.in.HostPath), comes, quote(d.in.VMPath))
	case !dir:
		d.replaced++
	}
	return nil
}

// copyOutFailed says why a copy out of a VM broke off.
func (t *Toolset) copyOutFailed(ctx context.Context, err error, d *download) error {
	var told *refusal
	var local *fs.PathError
	var link *os.LinkError
	read := d.sofar()
	nothing := fmt.Sprintf("%s (%s) had arrived; nothing of it is left at host_path %s.", count(int64(read.files), "file"), size(read.bytes), quote(d.in.HostPath))
	if d.merging {
		nothing = fmt.Sprintf("A part of the files has taken its place at host_path %s; a retry does the rest.", quote(d.in.HostPath))
	}
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, slicer.ErrBadPattern):
		return refuse("exclude can't be used: %s. * and ? match in one name, ** across folders, [a-z] one character; no glob takes another back.", innermost(err))
	case errors.Is(err, errManyFiles):
		return refuse("the copy was given up: vm_path %s has more files and folders, or longer names, than one copy takes, which is %s. %s Leave out what isn't needed with exclude, or copy subfolders one by one.",
			quote(d.in.VMPath), thousands(mostCopied), nothing)
	case errors.Is(err, errBigCopy):
		return refuse("the copy was given up: vm_path %s has more than %s, which is the most that one copy takes. %s Leave out what isn't needed with exclude, or copy subfolders one by one.",
			quote(d.in.VMPath), gib(largestCopyOut), nothing)
	case errors.As(err, new(*slicer.APIError)):
	case ctx.Err() != nil:
		return refuse("the copy was ended before it was done; %s", nothing)
	case errors.As(err, &local), errors.As(err, &link):
		return refuse("the copy was given up: the host can't write it (%s). %s Free some room or use another host_path, then retry; permissions on the host are the user's to change.", innermost(err), nothing)
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: d.vm, path: d.in.VMPath, instead: "Make it readable with exec, as user=\"root\" if need be, then retry.",
		brokeOff: fmt.Sprintf("the connection to the daemon broke during the copy; %s Call list_vms to see the VM's status, then retry.", nothing),
	})
}
