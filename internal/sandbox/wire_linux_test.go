package sandbox

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFramesCarryFiles(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	peer, err := connOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := &request{ID: 7, Op: "open", Name: strings.Repeat("long", 1<<18)}
	sent := make(chan error, 1)
	go func() {
		err := writeFrame(peer, want, f)
		sent <- errors.Join(err, writeFrame(peer, &request{ID: 8}))
	}()
	got := &request{}
	files, err := readFrame(ours, got)
	if err != nil || len(files) != 1 {
		t.Fatalf("readFrame() = %d files, %v, want one", len(files), err)
	}
	defer closeAll(files)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frame differs (-want +got):\n%s", diff)
	}
	if b, err := io.ReadAll(files[0]); string(b) != "content" || err != nil {
		t.Errorf("the file reads %q, %v", b, err)
	}
	if files, err := readFrame(ours, got); err != nil || len(files) != 0 {
		t.Errorf("the next frame = %d files, %v, want none", len(files), err)
	}
	if err := <-sent; err != nil {
		t.Errorf("writeFrame() = %v", err)
	}
}

func TestRepliesKeepErrnos(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"a path error's text is left out", &os.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, "no such file or directory"},
		{"other text is kept once", errors.Join(syscall.ENOSPC), "no space left on device"},
		{"an error without errno is its text", errors.New("odd"), "odd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &reply{}
			r.failed(tt.err)
			got := r.err()
			if !strings.Contains(got.Error(), tt.want) || strings.Count(got.Error(), tt.want) > 2 {
				t.Errorf("err() = %q, want %q", got, tt.want)
			}
			var errno syscall.Errno
			if errors.As(tt.err, &errno) && !errors.Is(got, errno) {
				t.Errorf("err() = %v, want one that is %v", got, errno)
			}
		})
	}
}

// FuzzReadFrame holds that whatever a guest sends ends in a frame or an error.
func FuzzReadFrame(f *testing.F) {
	frame := func(body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	f.Add(frame(`{"id":1,"pid":2}`))
	f.Add(frame(`{"exit":{"handle":1,"code":137,"signal":9}}`))
	f.Add(frame(`{"id":"x"}`))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return // more than the socket takes without a reader
		}
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		if _, err := theirs.Write(data); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		if err := ours.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		r := &reply{}
		files, err := readFrame(ours, r)
		if len(files) > 0 {
			t.Errorf("readFrame() = %d files, want none", len(files))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("readFrame() waits after the end")
		}
		if err == nil && (len(data) < 4 || int(binary.BigEndian.Uint32(data)) > len(data)-4) {
			t.Errorf("readFrame(%q) succeeds with a part of a frame", data)
		}
	})
}
