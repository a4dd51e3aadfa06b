package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// inBubble runs test with a VM whose daemon is reached through memory.
func inBubble(t *testing.T, test func(t *testing.T, a *api, vm string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		test(t, a, a.create(`{}`))
	})
}

// do fails the test when one of the steps failed.
func do(t *testing.T, steps ...error) {
	t.Helper()
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
	}
}

func TestWatchTellsOfEachKindOfChange(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		r := a.watch(t.Context(), vm, "paths", "/tmp", "recursive", "true", "timeout", "10s")
		files := a.srv.Files(vm)
		do(
			t,
			files.Mkdir("/tmp/d"),
			files.WriteFile("/tmp/d/f", []byte("12345"), 0o644),
			files.Chmod("/tmp/d/f", 0o600),
			files.Rename("/tmp/d/f", "/tmp/g"),
			files.Remove("/tmp/g"),
			files.Remove("/tmp/d"),
			files.WriteFile("/var/else", nil, 0o644),
		)
		got, err := r.rest()
		want := []string{
			"1 create /tmp/d 0 true",
			"2 create /tmp/d/f 5 false",
			"3 write /tmp/d/f 5 false",
			"4 chmod /tmp/d/f 5 false",
			"5 rename /tmp/d/f 0 false",
			"6 create /tmp/g 5 false",
			"7 remove /tmp/g 0 false",
			"8 remove /tmp/d 0 true",
		}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, io.EOF) {
			t.Errorf("events, then %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestWatchOfACopy(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		r := a.watch(t.Context(), vm, "paths", "/tmp", "paths", "/tmp", "max_events", "3")
		a.want(200, "POST", cpPath(vm, "path", "/tmp/x"), "123")
		time.Sleep(time.Second)
		a.want(200, "POST", cpPath(vm, "path", "/tmp/x"), "1234")
		got, err := r.rest()
		want := []string{"1 create /tmp/x 3 false", "2 write /tmp/x 3 false", "3 write /tmp/x 4 false"}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, io.EOF) {
			t.Errorf("events, then %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestWatchOptions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params []string
		want   []string
	}{
		{"not recursive", []string{"paths", "/tmp"}, []string{
			"1 create /tmp/d 0 true", "2 create /tmp/a.go 1 false", "3 write /tmp/a.go 1 false", "4 remove /tmp/a.go 0 false",
		}},
		{"one kind", []string{"paths", "/tmp", "recursive", "1", "events", "remove"}, []string{"1 remove /tmp/a.go 0 false"}},
		{"two kinds", []string{"paths", "/tmp", "events", "remove", "events", "write"}, []string{
			"1 write /tmp/a.go 1 false", "2 remove /tmp/a.go 0 false",
		}},
		{"all kinds", []string{"paths", "/var/d", "events", "remove", "events", "all"}, []string{
			"1 create /var/d/b 2 false", "2 write /var/d/b 2 false",
		}},
		{"pattern of the base name", []string{"paths", "/tmp", "recursive", "1", "events", "create", "patterns", "*.go"}, []string{
			"1 create /tmp/a.go 1 false", "2 create /tmp/d/b.go 2 false",
		}},
		{"pattern of the path", []string{"paths", "/tmp", "recursive", "1", "events", "create", "patterns", "/tmp/d/*"}, []string{
			"1 create /tmp/d/b.go 2 false",
		}},
		{"one of two patterns", []string{"paths", "/tmp", "events", "create", "patterns", "x", "patterns", "d"}, []string{"1 create /tmp/d 0 true"}},
		{"one shot", []string{"paths", "/tmp", "one_shot", "true", "max_events", "3"}, []string{"1 create /tmp/d 0 true"}},
		{"two events", []string{"paths", "/tmp", "max_events", "2"}, []string{"1 create /tmp/d 0 true", "2 create /tmp/a.go 1 false"}},
		{"no limit", []string{"paths", "/tmp", "max_events", "0", "events", "remove"}, []string{"1 remove /tmp/a.go 0 false"}},
		{"a home", []string{"paths", "~", "uid", "0"}, []string{"1 create /root/r 0 false", "2 write /root/r 0 false"}},
		{"a file", []string{"paths", "/var/old"}, []string{"1 write /var/old 3 false"}},
		{"a symlink", []string{"paths", "/link", "events", "remove"}, []string{"1 remove /link/a.go 0 false"}},
		{"the root", []string{"paths", "/", "recursive", "true", "patterns", "r", "events", "create"}, []string{"1 create /root/r 0 false"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *api, vm string) {
				files := a.srv.Files(vm)
				do(t, files.WriteFile("/var/old", nil, 0o644), files.Mkdir("/var/d"), files.Symlink("/tmp", "/link"))
				r := a.watch(t.Context(), vm, append(tt.params, "timeout", "1s", "debounce", "0s")...)
				do(
					t,
					files.Mkdir("/tmp/d"),
					files.WriteFile("/tmp/a.go", []byte("1"), 0o644),
					files.WriteFile("/tmp/d/b.go", []byte("12"), 0o644),
					files.Remove("/tmp/a.go"),
					files.WriteFile("/root/r", nil, 0o644),
					files.WriteFile("/var/old", []byte("123"), 0o644),
					files.WriteFile("/var/d/b", []byte("12"), 0o644),
				)
				got, err := r.rest()
				if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, io.EOF) {
					t.Errorf("events, then %v (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

func TestWatchJoinsBursts(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		files := a.srv.Files(vm)
		do(t, files.WriteFile("/tmp/log", nil, 0o644), files.WriteFile("/tmp/other", nil, 0o644))
		r := a.watch(t.Context(), vm, "paths", "/tmp")
		begin := time.Now()
		for n := range 15 { // a write every 20 ms, for longer than the debounce time
			do(t, files.WriteFile("/tmp/log", make([]byte, n), 0o644))
			if n == 5 {
				do(t, files.WriteFile("/tmp/other", []byte("x"), 0o644))
			}
			time.Sleep(20 * time.Millisecond)
		}
		e, err := r.next()
		if err != nil || e.String() != "1 write /tmp/log 10 false" && e.String() != "1 write /tmp/log 9 false" {
			t.Errorf("first event = %s, %v, want the writes of 200 ms as one", e, err)
		}
		if at := e.Timestamp.Sub(begin); at < 180*time.Millisecond || at > 200*time.Millisecond {
			t.Errorf("the joined writes are of %s, want the last one's time", at)
		}
		want := []string{"2 write /tmp/other 1 false", "3 write /tmp/log 14 false"}
		if diff := cmp.Diff(want, r.take(2)); diff != "" {
			t.Errorf("further events (-want +got):\n%s", diff)
		}
	})
}

func TestWatchKeepsComingAndGoingInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		r := a.watch(t.Context(), vm, "paths", "/tmp", "debounce", "1s", "timeout", "500ms")
		files := a.srv.Files(vm)
		do(
			t, files.WriteFile("/tmp/f", []byte("1"), 0o644), files.WriteFile("/tmp/f", []byte("12"), 0o644), files.Remove("/tmp/f"),
			files.WriteFile("/tmp/f", []byte("123"), 0o644),
		)
		got, err := r.rest() // the time-out comes first; what was held back is told then
		want := []string{
			"1 create /tmp/f 1 false", "2 write /tmp/f 2 false", "3 remove /tmp/f 0 false",
			"4 create /tmp/f 3 false", "5 write /tmp/f 3 false",
		}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, io.EOF) {
			t.Errorf("events, then %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestWatchSaysThatItIsAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		begin := time.Now()
		r := a.watch(t.Context(), vm, "paths", "/tmp")
		for n := 1; n <= 3; n++ {
			e, err := r.next()
			if took, want := time.Since(begin), time.Duration(n)*15*time.Second; err != nil || e.Type != "" || took != want {
				t.Errorf("idle watch says %s, %v after %s, want a comment after %s", e, err, took, want)
			}
		}
	})
}

func TestWatchTellsOfLostChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		r := a.watch(t.Context(), vm, "paths", "/tmp", "debounce", "0s", "events", "create")
		files := a.srv.Files(vm)
		do(t, files.WriteFile("/tmp/first", nil, 0o644))
		synctest.Wait() // the client doesn't read, so that the daemon's next write blocks
		for n := range 5000 {
			do(t, files.WriteFile(fmt.Sprint("/tmp/", n), nil, 0o644))
			if n == 100 {
				synctest.Wait()
			}
		}
		last := uint64(0)
		for {
			e, err := r.next()
			if err != nil {
				t.Fatalf("watch ended after event %d: %v", last, err)
			}
			if e.ID != last+1 {
				t.Fatalf("event %d follows %d", e.ID, last)
			}
			last = e.ID
			if e.Type == "overflow" {
				if !strings.Contains(e.Message, "lost") {
					t.Errorf("message = %q, want that changes were lost", e.Message)
				}
				return
			}
		}
	})
}

func TestWatchOutlastsAPause(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		r := a.watch(t.Context(), vm, "paths", "/tmp", "events", "create")
		synctest.Wait()
		a.want(200, "POST", "/vm/"+vm+"/pause", "")
		a.want(409, "GET", watchPath(vm, "paths", "/tmp"), "")
		if e, err := r.next(); err != nil || e.Type != "" {
			t.Errorf("watch of a paused VM says %s, %v, want a comment", e, err)
		}
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
		a.want(200, "POST", "/vm/"+vm+"/fs/mkdir", `{"path":"/tmp/d"}`)
		if diff := cmp.Diff([]string{"1 create /tmp/d 0 true"}, r.take(1)); diff != "" {
			t.Errorf("events after the pause (-want +got):\n%s", diff)
		}
	})
}

func TestWatchEndsWithItsVM(t *testing.T) {
	for name, end := range map[string]func(a *api, vm string){
		"deleted":          func(a *api, vm string) { a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "") },
		"shut down":        func(a *api, vm string) { a.want(200, "POST", "/vm/"+vm+"/shutdown", "") },
		"ended by itself":  func(a *api, vm string) { a.srv.End(vm) },
		"daemon is closed": func(a *api, _ string) { a.srv.Close() },
		"deleted while paused": func(a *api, vm string) {
			a.want(200, "POST", "/vm/"+vm+"/pause", "")
			a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *api, vm string) {
				r := a.watch(t.Context(), vm, "paths", "/tmp")
				begin := time.Now()
				end(a, vm)
				got, err := r.rest()
				if len(got) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) || time.Since(begin) > 5*time.Second {
					t.Errorf("watch = %q, %v after %s, want a cut answer soon", got, err, time.Since(begin))
				}
			})
		})
	}
}

func TestWatchThatNobodyReadsEndsWithItsVM(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		a.watch(t.Context(), vm, "paths", "/tmp", "debounce", "0s")
		for n := range 100 {
			do(t, a.srv.Files(vm).WriteFile(fmt.Sprint("/tmp/", n), nil, 0o644))
		}
		synctest.Wait() // the daemon's write blocks
		begin := time.Now()
		a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
		a.srv.Close()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("Close with an unread watch took %s, want 5 s at most", took)
		}
	})
}

func TestWatchHoldsBackSoManyChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		begin := time.Now()
		r := a.watch(t.Context(), vm, "paths", "/tmp", "debounce", "1m", "events", "create")
		for n := range 10_001 {
			do(t, a.srv.Files(vm).WriteFile(fmt.Sprint("/tmp/", n), nil, 0o644))
			if n%1000 == 0 {
				synctest.Wait()
			}
		}
		if diff := cmp.Diff([]string{"1 create /tmp/0 0 false"}, r.take(1)); diff != "" || time.Since(begin) > 0 {
			t.Errorf("oldest of too many changes after %s (-want +got):\n%s", time.Since(begin), diff)
		}
	})
}

func TestWatchEndsWithItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, a *api, vm string) {
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			r := a.watch(ctx, vm, "paths", "/tmp")
			cancel()
			if _, err := r.rest(); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled watch ended with %v, want the context's error", err)
			}
			r.resp.Body.Close()
		}
		// A goroutine that is left fails the bubble.
	})
}
