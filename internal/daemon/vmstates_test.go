package daemon_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestPauseAndResume(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for range 2 { // pausing a paused VM changes nothing
		got := a.want(200, "POST", "/vm/"+vm+"/pause", "")
		if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("pause answers %s, want text/plain", kind)
		}
	}
	var nodes []struct{ Status string }
	decode(t, a.want(200, "GET", "/nodes", "").body, &nodes)
	if nodes[0].Status != "Paused" {
		t.Errorf("status = %s, want Paused", nodes[0].Status)
	}
	for _, call := range []struct{ method, path, body string }{
		{"GET", "/vm/sbox-1/health", ""},
		{"POST", "/vm/sbox-1/exec?cmd=true", ""},
		{"POST", "/vm/sbox-1/exec?cmd=true&buffered=true", ""},
		{"GET", "/vm/sbox-1/cp?path=/etc/hostname", ""},
		{"POST", "/vm/sbox-1/cp?path=/tmp/x", "x"},
		{"GET", "/vm/sbox-1/fs/stat?path=/", ""},
		{"GET", "/vm/sbox-1/fs/readdir?path=/", ""},
		{"POST", "/vm/sbox-1/fs/mkdir", `{"path":"/tmp/d"}`},
		{"DELETE", "/vm/sbox-1/fs/remove?path=/tmp/d", ""},
	} {
		if got := a.want(409, call.method, call.path, call.body).message(t); !strings.Contains(got, `"sbox-1" is paused`) {
			t.Errorf("%s %s on a paused VM says %q, want that it is paused", call.method, call.path, got)
		}
	}
	for range 2 {
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
	}
	a.want(200, "GET", "/vm/"+vm+"/health", "")
	a.want(200, "POST", "/vm/"+vm+"/pause", "")
	a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "") // a paused VM can go
}

func TestCopyWaitsWhileItsVMIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		body := newFeed()
		done := make(chan reply, 1)
		go func() { done <- a.send(a.request(t.Context(), "POST", "/vm/"+vm+"/cp?path=/tmp/x", body)) }()
		body.send("before ")
		synctest.Wait()
		a.want(200, "POST", "/vm/"+vm+"/pause", "")
		body.send("after")
		body.end()
		synctest.Wait() // the rest must not reach the frozen guest, which would fail the test
		select {
		case got := <-done:
			t.Fatalf("copy to a paused VM ended with %d %s", got.status, got.body)
		default:
		}
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
		if got := <-done; got.status != 200 {
			t.Fatalf("copy over a pause = %d %s, want 200", got.status, got.body)
		}
		if got := a.want(200, "GET", "/vm/"+vm+"/cp?path=/tmp/x", "").body; got != "before after" {
			t.Errorf("file = %q, want all of it", got)
		}
	})
}

func TestGuestThatEndsByItselfIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		a.srv.End(vm)
		synctest.Wait()
		if got := a.hostnames("/nodes"); len(got) != 0 {
			t.Errorf("VMs after the guest's end = %v, want none", got)
		}
		a.want(404, "GET", "/vm/"+vm+"/health", "")
	})
}

func TestDeleteEndsWhatRuns(t *testing.T) {
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused %t", paused), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
				defer a.srv.Close()
				vm := a.create(`{}`)
				exec, upload := make(chan reply, 1), make(chan reply, 1)
				go func() {
					exec <- a.send(a.request(t.Context(), "POST", execPath(vm, "cmd", "sleep", "args", "1e6"), nil))
				}()
				body := newFeed()
				go func() { upload <- a.send(a.request(t.Context(), "POST", "/vm/"+vm+"/cp?path=/tmp/x", body)) }()
				body.send("x")
				synctest.Wait()
				if paused {
					a.want(200, "POST", "/vm/"+vm+"/pause", "")
				}
				a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
				got := frames(t, (<-exec).body)
				last := got[len(got)-1]
				if last.Type != "exit" || *last.ExitCode != 137 || last.Signal == nil || *last.Signal != "KILL" {
					t.Errorf("last frame of the ended VM's exec = %+v, want exit by KILL", last)
				}
				if got := <-upload; got.status != 404 || !strings.Contains(got.message(t), "gone") {
					t.Errorf("upload to the ended VM = %d %s, want 404 that says it is gone", got.status, got.body)
				}
				body.end()
			})
		})
	}
}

func TestManyVMsAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		a := newAPI(t, slicertest.Options{})
		work := make(chan int)
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for n := range work {
					vm := a.create(fmt.Sprintf(`{"tags":["name=vm%d"]}`, n))
					out := frames(t, a.want(200, "POST", execPath(vm, "cmd", "echo", "args", vm), "").body)
					if len(out) != 3 || out[1].Stdout != vm+"\n" {
						t.Errorf("echo in %s = %+v", vm, out)
					}
					a.want(200, "POST", "/vm/"+vm+"/pause", "")
					a.want(200, "DELETE", "/hostgroup/sbox/nodes/"+vm, "")
				}
			})
		}
		for n := range 50 {
			work <- n
		}
		close(work)
		workers.Wait()
		if got := a.hostnames("/nodes"); len(got) != 0 {
			t.Errorf("VMs left = %v, want none", got)
		}
	})
	waitForGoroutines(t, before)
}

// waitForGoroutines fails the test when more than limit goroutines stay.
func waitForGoroutines(t *testing.T, limit int) {
	t.Helper()
	// Connections' goroutines end shortly after their connection.
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > limit {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, want %d:\n%s", runtime.NumGoroutine(), limit, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

func TestCloseStopsEverything(t *testing.T) {
	var running sync.WaitGroup
	running.Add(20)
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"hang": func(ctx context.Context, _ *slicertest.Proc) int { running.Done(); <-ctx.Done(); return 0 },
	}})
	ends := make(chan string, 20)
	for range 20 {
		vm := a.create(`{}`)
		go func() {
			resp, err := a.srv.HTTPClient().Do(a.request(t.Context(), "POST", execPath(vm, "cmd", "hang"), nil))
			if err != nil {
				ends <- err.Error()
				return
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			ends <- fmt.Sprint(strings.Contains(string(text), `"signal":"KILL"`), " ", err)
		}()
	}
	running.Wait()
	begin := time.Now()
	a.srv.Close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close with 20 busy VMs took %s, want less than 2 s", took)
	}
	for range 20 {
		if got := <-ends; got != "true <nil>" {
			t.Errorf("exec that Close ended = %s, want a whole answer with its signal", got)
		}
	}
}
