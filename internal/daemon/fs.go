package daemon

import (
	"io/fs"
	"net/http"
	"time"
)

// maxEntries is the most entries of one folder that a call lists.
const maxEntries = 100_000

type fileJSON struct {
	Name  string    `json:"name"`
	Type  string    `json:"type"`
	Size  int64     `json:"size"`
	MTime time.Time `json:"mtime"`
	Mode  string    `json:"mode"`
}

func (i FileInfo) json() fileJSON {
	kind := "file"
	switch {
	case i.Mode.IsDir():
		kind = "directory"
	case i.Mode&fs.ModeSymlink != 0:
		kind = "symlink"
	}
	return fileJSON{Name: i.Name, Type: kind, Size: i.Size, MTime: i.ModTime.UTC(), Mode: octal(i.Mode)}
}

// fsStat serves GET /vm/{vm}/fs/stat. It follows symlinks.
func (d *Daemon) fsStat(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	name, err := guestPath(q.text("path"), nil)
	if err != nil {
		return err
	}
	info, err := v.files().Stat(r.Context(), name)
	if err != nil {
		return fileError(name, err)
	}
	return writeJSON(w, http.StatusOK, info.json())
}

// fsReadDir serves GET /vm/{vm}/fs/readdir.
func (d *Daemon) fsReadDir(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	name, err := guestPath(q.text("path"), nil)
	if err != nil {
		return err
	}
	infos, err := v.files().ReadDir(r.Context(), name, maxEntries+1)
	if err != nil {
		return fileError(name, err)
	}
	if len(infos) > maxEntries {
		return tooManyEntries(name)
	}
	list := make([]fileJSON, 0, len(infos))
	for _, info := range infos {
		list = append(list, info.json())
	}
	return writeJSON(w, http.StatusOK, list)
}

func tooManyEntries(name string) error {
	return refuse(http.StatusBadRequest, "%s: more than %d entries", name, maxEntries)
}

// fsMkdir serves POST /vm/{vm}/fs/mkdir.
func (d *Daemon) fsMkdir(w http.ResponseWriter, r *http.Request, _ query, v *vm) error {
	var body struct {
		Path      string `json:"path"`
		Recursive bool   `json:"recursive"`
		Mode      string `json:"mode"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	name, err := guestPath(body.Path, nil)
	if err != nil {
		return err
	}
	mode, err := parsePermissions("mode", body.Mode)
	if err != nil {
		return err
	}
	if err := v.files().Mkdir(r.Context(), name, FileAttr{Mode: mode}, body.Recursive); err != nil {
		return fileError(name, err)
	}
	return writeText(w, http.StatusOK, "made\n")
}

// fsRemove serves DELETE /vm/{vm}/fs/remove.
func (d *Daemon) fsRemove(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	name, err := guestPath(q.text("path"), nil)
	if err != nil {
		return err
	}
	if name == "/" {
		return refuse(http.StatusBadRequest, "the root directory can't be removed")
	}
	recursive, err := q.flag("recursive", false)
	if err != nil {
		return err
	}
	if err := v.files().Remove(r.Context(), name, recursive); err != nil {
		return fileError(name, err)
	}
	return writeText(w, http.StatusOK, "removed\n")
}
