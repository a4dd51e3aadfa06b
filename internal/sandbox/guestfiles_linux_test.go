package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestFiles(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	ctx, tree := t.Context(), g.Files()

	write := func(name, text string, at daemon.FileAttr) error {
		w, err := tree.Create(ctx, name, at)
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		return w.Commit()
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := write("/home/ubuntu/a", "hello", daemon.FileAttr{Mode: 0o750, ModTime: when}); err != nil {
		t.Fatalf("write = %v", err)
	}
	if got := run(t, g, false, "cat ~/a; stat -c '%a %U %Y' ~/a").stdout; got != fmt.Sprintf("hello750 ubuntu %d\n", when.Unix()) {
		t.Errorf("the guest sees %q", got)
	}
	r, info, err := tree.Open(ctx, "/home/ubuntu/a")
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if string(b) != "hello" || err != nil || info.Size != 5 || info.Mode.Perm() != 0o750 {
		t.Errorf("Open reads %q, %v with %+v", b, err, info)
	}

	t.Run("an aborted write leaves nothing", func(t *testing.T) {
		w, err := tree.Create(ctx, "/home/ubuntu/b", daemon.FileAttr{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "half"); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if got := run(t, g, false, "ls -A ~ | grep -v -e bash -e profile").stdout; got != "a\n" {
			t.Errorf("the folder has %q, want only a", got)
		}
	})
	t.Run("a link is followed inside the guest", func(t *testing.T) {
		run(t, g, true, "ln -sf /etc/shadow /tmp/link; ln -sf ../home/ubuntu/a /tmp/rel")
		r, _, err := tree.Open(ctx, "/tmp/link")
		if err != nil {
			t.Fatalf("Open = %v", err)
		}
		defer r.Close()
		b, _ := io.ReadAll(r)
		if !bytes.HasPrefix(b, []byte("root:*:")) || bytes.Count(b, []byte("\n")) != 2 {
			t.Errorf("read %q, want the guest's own shadow file", b)
		}
		if err := write("/tmp/rel", "through", daemon.FileAttr{}); err != nil {
			t.Fatal(err)
		}
		if got := run(t, g, true, "cat /home/ubuntu/a; test -L /tmp/rel && echo link").stdout; got != "throughlink\n" {
			t.Errorf("after a write through a link: %q", got)
		}
	})
	refusals := []struct {
		name string
		call func() error
		want error
	}{
		{"open of a missing file", func() error { _, _, err := tree.Open(ctx, "/no"); return err }, fs.ErrNotExist},
		{"create in a missing folder", func() error { return write("/no/file", "", daemon.FileAttr{}) }, fs.ErrNotExist},
		{"stat of a missing file", func() error { _, err := tree.Stat(ctx, "/no"); return err }, fs.ErrNotExist},
		{"remove of a missing file", func() error { return tree.Remove(ctx, "/no", true) }, fs.ErrNotExist},
		{"mkdir of an existing folder", func() error { return tree.Mkdir(ctx, "/tmp", daemon.FileAttr{}, false) }, fs.ErrExist},
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	for _, name := range []string{"/tmp", "/dev/null", "/dev/zero"} {
		t.Run("open refuses "+name, func(t *testing.T) {
			if r, _, err := tree.Open(ctx, name); err == nil {
				r.Close()
				t.Errorf("Open(%q) succeeds, want an error", name)
			}
		})
	}
	t.Run("a fifo doesn't block", func(t *testing.T) {
		run(t, g, true, "mkfifo /tmp/fifo")
		if _, _, err := tree.Open(ctx, "/tmp/fifo"); err == nil {
			t.Error("Open of a fifo succeeds, want an error")
		}
	})
	t.Run("folders are made and removed", func(t *testing.T) {
		if err := tree.Mkdir(ctx, "/home/ubuntu/d/e/f", daemon.FileAttr{}, true); err != nil {
			t.Fatal(err)
		}
		if got := run(t, g, false, "stat -c '%U %a' ~/d ~/d/e/f").stdout; got != "ubuntu 755\nubuntu 755\n" {
			t.Errorf("folders are %q", got)
		}
		if err := tree.Remove(ctx, "/home/ubuntu/d", true); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Lstat(ctx, "/home/ubuntu/d"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat after Remove = %v", err)
		}
	})
}

func TestSecrets(t *testing.T) {
	h := newHypervisor(t)
	owner := uint32(1000)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1", Secrets: []daemon.SecretFile{{Name: "token", Data: []byte("s3cret"), Mode: 0o400, UID: owner, GID: owner}}})
	if got := run(t, g, false, "cat /run/slicer/secrets/token; stat -c ' %a %U' /run/slicer/secrets/token").stdout; got != "s3cret 400 ubuntu\n" {
		t.Errorf("the guest sees %q", got)
	}
	if err := g.PutSecret(t.Context(), daemon.SecretFile{Name: "token", Data: []byte("new"), Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if got := run(t, g, true, "cat /run/slicer/secrets/token").stdout; got != "new" {
		t.Errorf("after a change the guest sees %q", got)
	}
	for range 2 {
		if err := g.RemoveSecret(t.Context(), "token"); err != nil {
			t.Errorf("RemoveSecret = %v", err)
		}
	}
	if got := run(t, g, true, "ls -A /run/slicer/secrets").stdout; got != "" {
		t.Errorf("after removal the guest sees %q", got)
	}
}
