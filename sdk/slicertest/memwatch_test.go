package slicertest

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestWatchPaths(t *testing.T) {
	for _, tt := range []struct {
		name      string
		paths     []string
		recursive bool
		want      []string
	}{
		{"a folder", []string{"/dir"}, false, []string{"write /dir/file"}},
		{"a folder and below", []string{"/dir"}, true, []string{"create /dir/sub/new", "write /dir/sub/new", "write /dir/file"}},
		{"a folder through a symlink", []string{"/abs/dots"}, false, []string{"write /abs/dots/file"}},
		{"a file", []string{"/dir/file"}, false, []string{"write /dir/file"}},
		{"a file through a symlink", []string{"/dir/up"}, false, []string{"write /dir/up"}},
		{"the root", []string{"/"}, false, []string{"remove /private"}},
		{"overlapping ones tell once", []string{"/dir", "/"}, true, []string{
			"create /dir/sub/new", "write /dir/sub/new", "write /dir/file", "remove /private",
		}},
		{"elsewhere", []string{"/dir/sub", "/private"}, false, []string{"create /dir/sub/new", "write /dir/sub/new", "remove /private"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := sampleTree(t)
			w, err := tree.watch(t.Context(), daemon.WatchSpec{Paths: tt.paths, Recursive: tt.recursive}, nil)
			if err != nil {
				t.Fatalf("watch(%q) = %v", tt.paths, err)
			}
			root := &Files{tree: tree, dir: "/"}
			for _, err := range []error{
				root.WriteFile("/abs/sub/new", nil, 0o644),
				root.WriteFile("/dir/link", []byte("other"), 0o644),
				root.Remove("/private"),
				w.Close(),
				root.WriteFile("/dir/file", []byte("after the end"), 0o644),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for range tt.want {
				c, err := w.Next()
				if err != nil {
					t.Fatalf("Next after %q = %v", got, err)
				}
				got = append(got, string(c.Op)+" "+c.Path)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if c, err := w.Next(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("Next after Close = %v, %v, want ErrClosed", c, err)
			}
			if err := w.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second Close = %v, want ErrClosed", err)
			}
			if len(tree.watches) != 0 {
				t.Error("the tree still holds the watch")
			}
		})
	}
}

func TestWatchEnds(t *testing.T) {
	tree := sampleTree(t)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancelled, err := tree.watch(ctx, daemon.WatchSpec{Paths: []string{"/"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel(gone)
	if _, err := cancelled.Next(); !errors.Is(err, gone) {
		t.Errorf("Next after the context's end = %v, want its cause", err)
	}
	over := make(chan struct{})
	close(over)
	ended, err := tree.watch(t.Context(), daemon.WatchSpec{Paths: []string{"/"}}, over)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ended.Next(); !errors.Is(err, errGuestEnded) {
		t.Errorf("Next after the guest's end = %v, want %v", err, errGuestEnded)
	}
	if _, err := tree.watch(t.Context(), daemon.WatchSpec{Paths: []string{"/dir", "/nope"}}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("watch of a missing file = %v, want ErrNotExist", err)
	}
}

func TestChmodAndRename(t *testing.T) {
	user := &owner{ordinaryUser, ordinaryUser}
	for _, tt := range []struct {
		name string
		user *owner
		do   func(f *Files) error
		want error
	}{
		{"chmod through a symlink", nil, func(f *Files) error { return f.Chmod("/dir/link", 0o600) }, nil},
		{"chmod of another's file", user, func(f *Files) error { return f.Chmod("/private", 0o666) }, fs.ErrPermission},
		{"chmod of nothing", nil, func(f *Files) error { return f.Chmod("/nope", 0o666) }, fs.ErrNotExist},
		{"rename a file", nil, func(f *Files) error { return f.Rename("/private", "/dir/new") }, nil},
		{"rename a folder", nil, func(f *Files) error { return f.Rename("/dir/sub", "/sub") }, nil},
		{"rename over a file", nil, func(f *Files) error { return f.Rename("/private", "/dir/file") }, nil},
		{"rename onto itself", nil, func(f *Files) error { return f.Rename("/private", "/private") }, nil},
		{"rename over a folder", nil, func(f *Files) error { return f.Rename("/private", "/dir") }, fs.ErrExist},
		{"rename a folder into itself", nil, func(f *Files) error { return f.Rename("/dir", "/dir/sub/dir") }, fs.ErrInvalid},
		{"rename the root", nil, func(f *Files) error { return f.Rename("/", "/dir/root") }, fs.ErrInvalid},
		{"rename nothing", nil, func(f *Files) error { return f.Rename("/nope", "/x") }, fs.ErrNotExist},
		{"rename into nothing", nil, func(f *Files) error { return f.Rename("/private", "/nope/x") }, fs.ErrNotExist},
		{"rename in another's folder", user, func(f *Files) error { return f.Rename("/dir/file", "/dir/x") }, fs.ErrPermission},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := sampleTree(t)
			before := tree.root.bytes()
			err := tt.do(&Files{tree: tree, dir: "/", user: tt.user})
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if tt.want != nil && tree.root.bytes() != before {
				t.Errorf("the tree holds %d bytes after a refusal, want %d", tree.root.bytes(), before)
			}
			if tree.used != tree.root.bytes() {
				t.Errorf("the tree counts %d bytes and holds %d", tree.used, tree.root.bytes())
			}
		})
	}
	tree := sampleTree(t)
	root := &Files{tree: tree, dir: "/"}
	if err := root.Rename("/private", "/dir/file"); err != nil {
		t.Fatal(err)
	}
	if err := root.Chmod("/abs/file", 0o640); err != nil {
		t.Fatal(err)
	}
	info, err := root.Stat("/dir/file")
	if err != nil || info.Mode() != 0o640 || info.Size() != int64(len("root's")) {
		t.Errorf("moved file = %v, %v, want root's of mode 0640", info, err)
	}
	if _, err := root.Stat("/private"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the old name = %v, want ErrNotExist", err)
	}
}
