package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// lockedBuffer is a bytes.Buffer that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// program is the program in a process of its own.
type program struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr lockedBuffer
}

// start starts the program. It is killed when the test ends, or after 5
// minutes.
func (w *world) start(t *testing.T, args ...string) *program {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals and broken pipes are Unix's")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.CommandContext(ctx, exe, args...)}
	p.Dir = w.dir
	p.Env = append(os.Environ(), asProgram+"=1", "SLICER_URL=", "SLICER_TOKEN=", "SLICER_TOKEN_FILE=")
	for name, value := range w.env {
		p.Env = append(p.Env, name+"="+value)
	}
	p.Stderr = &p.stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.stdout, err = p.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends lines and returns the one that comes back, by its id.
func (p *program) ask(t *testing.T, lines string) map[int]reply {
	t.Helper()
	if _, err := io.WriteString(p.stdin, lines); err != nil {
		t.Fatalf("send %q: %v", lines, err)
	}
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\n")); {
		if _, err := io.ReadFull(p.stdout, b); err != nil {
			t.Fatalf("receive the answer to %q: %v; stderr:\n%s", lines, err, p.stderr.String())
		}
		got = append(got, b...)
	}
	return replies(t, string(got))
}

// address is the line that the program prints when it serves.
func (p *program) address(t *testing.T) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(p.stdout, b); err != nil {
			_ = p.Wait() // its error says less than its log
			t.Fatalf("%q prints %q (%v), want its address; stderr:\n%s", p.Args[1:], line, err, p.stderr.String())
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

func TestSignalsEndItInOrder(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			p := newWorld(t).start(t, "--url", nowhere)
			p.ask(t, hello)
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Errorf("after %v the program ended with %v, want exit 0; stderr:\n%s", sig, err, p.stderr.String())
			}
		})
	}
}

// stalled is a daemon that never answers a list of VMs. It says when it has
// been asked.
type stalled struct{ asked chan struct{} }

func (d stalled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/info" {
		fmt.Fprint(w, `{"version":"fake"}`)
		return
	}
	if r.URL.Query().Has("tag") { // the server looks after its own VMs
		fmt.Fprint(w, `[]`)
		return
	}
	d.asked <- struct{}{}
	<-r.Context().Done()
}

func TestSignalCancelsRunningCalls(t *testing.T) {
	d := stalled{make(chan struct{}, 10)}
	p := newWorld(t).start(t, "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", d))
	p.ask(t, hello)
	if _, err := io.WriteString(p.stdin, listVMs); err != nil {
		t.Fatal(err)
	}
	<-d.asked
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if r := replies(t, string(rest))[2]; !r.Result.IsError || len(r.Result.Content) != 1 || !strings.Contains(r.Result.Content[0].Text, "Retry when it is back") {
		t.Errorf("the running call was answered with %q, want a tool error that says what to do", rest)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
}

func TestSignalTellsHandles(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	defer close(finish)
	daemon := slicertest.NewServer(t, slicertest.Options{Shell: only("waits", waits(started, finish))})
	p := newWorld(t).start(t, "--url", daemon.URL)
	p.ask(t, hello)
	p.ask(t, tool(t, 2, "create_vm", nil))
	if _, err := io.WriteString(p.stdin, tool(t, 3, "exec", map[string]any{"command": "waits"})); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if r := replies(t, string(rest))[3]; len(r.Result.Content) != 1 || !strings.HasPrefix(r.Result.Content[0].Text, "still running (process ex_") {
		t.Errorf("the call that waited is answered with %q, want the command's handle", rest)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit 0; stderr:\n%s", err, p.stderr.String())
	}
}

func TestClientThatDiesEndsIt(t *testing.T) {
	d := stalled{make(chan struct{}, 10)}
	p := newWorld(t).start(t, "--url", "http://"+serveFake(t, "tcp", "127.0.0.1:0", d))
	p.ask(t, hello)
	if _, err := io.WriteString(p.stdin, listVMs); err != nil {
		t.Fatal(err)
	}
	<-d.asked
	start := time.Now()
	p.stdin.Close()
	p.stdout.Close()
	err := p.Wait()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the program outlived its client by %v, want 2 s at most", took)
	}
	if got, want := p.ProcessState.ExitCode(), 1; got != want {
		t.Errorf("the program ended with %v (%v), want %d; stderr:\n%s", got, err, want, p.stderr.String())
	}
}
