package slicer_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// vmWithFiles starts a daemon with one VM, whose files are returned too.
func vmWithFiles(t *testing.T) (client *slicer.SlicerClient, hostname string, files *slicertest.Files) {
	t.Helper()
	server := slicertest.NewServer(t)
	vm, err := server.Client().CreateVM(t.Context(), "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return server.Client(), vm.Hostname, server.Files(vm.Hostname)
}

func TestFolders(t *testing.T) {
	client, vm, files := vmWithFiles(t)
	ctx := t.Context()
	if err := client.MkdirAll(ctx, vm, "/srv/a/b", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := client.MkdirAll(ctx, vm, "/srv/a/b", 0); err != nil {
		t.Errorf("MkdirAll of a folder that is there = %v, want nil", err)
	}
	if err := client.Mkdir(ctx, vm, "/srv/a", 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Mkdir of a folder that is there = %v, want fs.ErrExist", err)
	}
	if err := client.Mkdir(ctx, vm, "/none/a", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Mkdir in a folder that isn't there = %v, want fs.ErrNotExist", err)
	}
	if err := client.WriteFile(ctx, vm, "/srv/a/file", []byte("12345"), 0o640, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := files.Symlink("file", "/srv/a/link"); err != nil {
		t.Fatal(err)
	}

	list, err := client.ReadDir(ctx, vm, "/srv/a")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range list {
		got = append(got, info.Name+" "+info.Type+" "+info.FileMode().String())
		if age := time.Since(info.ModTime); age < -time.Minute || age > time.Minute {
			t.Errorf("%s was changed %s ago, want now", info.Name, age)
		}
	}
	want := []string{"b directory drwxr-x---", "file file -rw-r-----", "link symlink Lrwxrwxrwx"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadDir differs (-want +got):\n%s", diff)
	}
	if _, err := client.ReadDir(ctx, vm, "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadDir of nothing = %v, want fs.ErrNotExist", err)
	}

	info, err := client.Stat(ctx, vm, "/srv/a/file")
	if err != nil || info.Size != 5 || info.IsDir() || info.FileInfo().Sys() != info {
		t.Errorf("Stat = %+v, %v, want a file of 5 bytes", info, err)
	}
	for name, want := range map[string]bool{"/srv/a": true, "/srv/a/file": true, "/srv/none": false} {
		if got, err := client.Exists(ctx, vm, name); got != want || err != nil {
			t.Errorf("Exists(%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	if exists, err := client.Exists(ctx, "none", "/srv"); err == nil {
		t.Errorf("Exists in a missing VM = %v, nil, want an error", exists)
	}

	if err := client.Remove(ctx, vm, "/srv/a"); err == nil {
		t.Error("Remove of a folder that isn't empty = nil, want an error")
	}
	if err := client.RemoveAll(ctx, vm, "/srv/a"); err != nil {
		t.Errorf("RemoveAll = %v, want nil", err)
	}
	if err := client.Remove(ctx, vm, "/srv/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Remove of nothing = %v, want fs.ErrNotExist", err)
	}

	if err := client.PauseVM(ctx, vm); err != nil {
		t.Fatal(err)
	}
	if err := client.Mkdir(ctx, vm, "/x", 0); !slicer.IsAPIStatus(err, http.StatusConflict) || errors.Is(err, fs.ErrExist) {
		t.Errorf("Mkdir in a paused VM = %v, want the status 409 and not fs.ErrExist", err)
	}
}

func TestImpossibleNamesInFolders(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b"} {
		entry, err := json.Marshal([]slicer.SlicerFSInfo{{Name: "ok"}, {Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		client := serve(t, answer(http.StatusOK, "application/json", string(entry)))
		if list, err := client.ReadDir(t.Context(), "vm-1", "/"); err == nil {
			t.Errorf("ReadDir with the name %q = %v, want an error", name, list)
		}
	}
}

func TestFSInfo(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, json string
		mode       fs.FileMode
		modTime    time.Time
	}{
		{"RFC 3339", `{"type":"file","mode":"0600","mtime":"2026-01-02T03:04:05Z"}`, 0o600, at},
		{"seconds", `{"type":"file","mode":"600","mtime":1767323045}`, 0o600, at},
		{"fractions", `{"type":"file","mode":"0600","mtime":1767323045.5}`, 0o600, at.Add(time.Second / 2)},
		{"exponent", `{"type":"file","mode":"0600","mtime":1.767323045e9}`, 0o600, at},
		{"before 1970", `{"type":"file","mode":"0600","mtime":-1}`, 0o600, time.Unix(-1, 0)},
		{"no time", `{"type":"file","mode":"0600"}`, 0o600, time.Time{}},
		{"null", `{"type":"file","mode":"0600","mtime":null}`, 0o600, time.Time{}},
		{"empty", `{"type":"file","mode":"0600","mtime":""}`, 0o600, time.Time{}},
		{"no mode", `{"type":"file"}`, 0o644, time.Time{}},
		{"folder", `{"type":"directory","mode":"0700"}`, fs.ModeDir | 0o700, time.Time{}},
		{"folder without a mode", `{"type":"directory"}`, fs.ModeDir | 0o755, time.Time{}},
		{"symlink", `{"type":"symlink","mode":"0777"}`, fs.ModeSymlink | 0o777, time.Time{}},
		{"as ls writes it", `{"type":"file","mode":"-rwxr-x--x"}`, 0o751, time.Time{}},
		{"nonsense", `{"type":"file","mode":"-rwxr?x--x"}`, 0o644, time.Time{}},
		{"setuid is dropped", `{"type":"file","mode":"4755"}`, 0o755, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var info slicer.SlicerFSInfo
			if err := json.Unmarshal([]byte(tt.json), &info); err != nil {
				t.Fatal(err)
			}
			if got := info.FileMode(); got != tt.mode {
				t.Errorf("FileMode() = %v, want %v", got, tt.mode)
			}
			if !info.ModTime.Equal(tt.modTime) {
				t.Errorf("ModTime = %v, want %v", info.ModTime, tt.modTime)
			}
			data, err := json.Marshal(info)
			if err != nil {
				t.Fatal(err)
			}
			var again slicer.SlicerFSInfo
			if err := json.Unmarshal(data, &again); err != nil || !again.ModTime.Equal(info.ModTime) {
				t.Errorf("%s reads as %v, %v, want %v", data, again.ModTime, err, info.ModTime)
			}
		})
	}
	for _, text := range []string{`"yesterday"`, `true`, `{}`, `1e300`, `-1e300`, `9999999999999999`} {
		var info slicer.SlicerFSInfo
		if err := json.Unmarshal([]byte(`{"mtime":`+text+`}`), &info); err == nil {
			t.Errorf("the mtime %s = %v, want an error", text, info.ModTime)
		}
	}
}

func TestFileErrors(t *testing.T) {
	for _, tt := range []struct {
		status  int
		message string
		want    error
		not     error
	}{
		{http.StatusNotFound, "/tmp/x: no such file or directory", fs.ErrNotExist, nil},
		{http.StatusNotFound, `VM "vm-1" not found`, nil, fs.ErrNotExist},
		{http.StatusNotFound, "404 page not found", nil, fs.ErrNotExist},
		{http.StatusForbidden, "/tmp/x: permission denied", fs.ErrPermission, nil},
		{http.StatusForbidden, "trial mode", nil, fs.ErrPermission},
		{http.StatusConflict, "/tmp/x: file exists", fs.ErrExist, nil},
		{http.StatusConflict, "VM is paused", nil, fs.ErrExist},
		{http.StatusBadRequest, "/tmp/x: is a directory", slicer.ErrIsDirectory, nil},
	} {
		client := serve(t, answer(tt.status, "text/plain", tt.message))
		err := client.Remove(t.Context(), "vm-1", "/tmp/x")
		if !slicer.IsAPIStatus(err, tt.status) {
			t.Errorf("Remove refused with %q = %v, want the status %d", tt.message, err, tt.status)
		}
		if tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("Remove refused with %q = %v, want %v", tt.message, err, tt.want)
		}
		if tt.not != nil && errors.Is(err, tt.not) {
			t.Errorf("Remove refused with %q = %v, which is %v", tt.message, err, tt.not)
		}
	}
}

func TestBadExcludePattern(t *testing.T) {
	daemon := &recorder{}
	client := serve(t, daemon.ServeHTTP)
	for _, pattern := range []string{"[", "!keep", "../x"} {
		for name, err := range map[string]error{
			"CpToVM":           client.CpToVM(t.Context(), "vm-1", t.TempDir(), "/x", 0, 0, "", "tar", pattern),
			"CpFromVM":         client.CpFromVM(t.Context(), "vm-1", "/x", t.TempDir(), "", "tar", pattern),
			"ExtractTarStream": slicer.ExtractTarStream(t.Context(), strings.NewReader(""), t.TempDir(), 0, 0, pattern),
			"ExtractTarToPath": slicer.ExtractTarToPath(t.Context(), strings.NewReader(""), t.TempDir(), 0, 0, pattern),
			"StreamTarArchive": slicer.StreamTarArchive(t.Context(), io.Discard, t.TempDir(), "", pattern),
		} {
			if !errors.Is(err, slicer.ErrBadPattern) {
				t.Errorf("%s with the exclude pattern %q = %v, want ErrBadPattern", name, pattern, err)
			}
		}
	}
	if sent := daemon.take(); len(sent) > 0 {
		t.Errorf("a bad exclude pattern sent %q, want nothing", sent)
	}
}
