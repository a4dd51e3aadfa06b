package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// userdataPath is where a VM's userdata script lies while it runs.
const userdataPath = "/run/slicer/userdata"

// userdata is a VM's first-boot script and how it went.
type userdata struct {
	script string
	given  bool          // there is a script, or was one on the first boot
	done   chan struct{} // closed when there is nothing left to run
	code   int           // exit code; set before done is closed
}

func newUserdata(script string) *userdata {
	u := &userdata{script: script, given: script != "", done: make(chan struct{})}
	if !u.given {
		close(u.done)
	}
	return u
}

// result reports whether there is nothing left to run, and the exit code of
// what has run.
func (u *userdata) result() (ran bool, code *int) {
	if !isClosed(u.done) {
		return false, nil
	}
	if !u.given {
		return true, nil
	}
	return true, &u.code
}

// wait returns when there is nothing left to run, or with the reason why that
// won't be seen.
func (u *userdata) wait(ctx context.Context, over <-chan struct{}) error {
	select {
	case <-u.done:
		return nil
	case <-over:
		return refuse(http.StatusInternalServerError, "the VM ended while its userdata ran")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// runUserdata runs v's script as root and keeps its output for the VM's logs.
func (d *Daemon) runUserdata(v *vm) {
	ctx, release := bind(context.Background(), v.over, v.errGone(), nil)
	defer release()
	defer close(v.userdata.done)

	status, err := v.execUserdata(ctx)
	v.userdata.code = status.Code
	if err != nil {
		v.userdata.code = startCode(err)
		v.console.line("userdata: %v", err)
	}
	code := v.userdata.code
	v.console.line("userdata: exit code %d", code)
	if v.keep != nil {
		err := d.relabel(v.keep, func(l *vmLabel) { l.Userdata = &userdataLabel{ExitCode: &code} })
		if err != nil && !errors.Is(err, errGone) {
			d.log.Error("userdata's end could not be noted", "vm", v.hostname, "err", err)
		}
	}
	d.log.Info("userdata ended", "vm", v.hostname, "exit_code", v.userdata.code)
}

func (v *vm) execUserdata(ctx context.Context) (ExitStatus, error) {
	root := uint32(0)
	f, err := v.files().Create(ctx, userdataPath, FileAttr{Mode: 0o700, UID: &root, GID: &root})
	if err != nil {
		return ExitStatus{}, fmt.Errorf("write the script: %w", err)
	}
	defer f.Abort()
	if _, err := io.WriteString(f, v.userdata.script); err != nil {
		return ExitStatus{}, fmt.Errorf("write the script: %w", err)
	}
	if err := f.Commit(); err != nil {
		return ExitStatus{}, fmt.Errorf("write the script: %w", err)
	}
	argv := []string{userdataPath}
	if !strings.HasPrefix(v.userdata.script, "#!") {
		argv = []string{"/bin/sh", userdataPath}
	}
	if err := v.gate.enter(ctx); err != nil {
		return ExitStatus{}, err
	}
	cmd := &Command{Argv: argv, UID: &root, GID: &root, Stdout: v.console, Stderr: v.console}
	p, err := v.guest.Start(ctx, cmd)
	v.gate.leave()
	if err != nil {
		return ExitStatus{}, fmt.Errorf("start the script: %w", err)
	}
	return v.await(ctx, p)
}

// maxConsole is how much of a VM's console is kept.
const maxConsole = 1 << 20

// console keeps the last of what a VM's boot printed. The zero value is ready.
type console struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p[max(0, len(p)-maxConsole):]...)
	if len(c.text) > 2*maxConsole {
		c.text = append([]byte(nil), c.text[len(c.text)-maxConsole:]...)
	}
	return len(p), nil
}

// line adds a line of the daemon's own.
func (c *console) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...) + "\n"
	c.mu.Lock()
	cut := len(c.text) > 0 && c.text[len(c.text)-1] != '\n'
	c.mu.Unlock()
	if cut {
		text = "\n" + text
	}
	_, _ = io.WriteString(c, text) // never fails
}

// tail returns the last n lines, all that is kept when n is 0.
func (c *console) tail(n int) string {
	c.mu.Lock()
	text := string(c.text[max(0, len(c.text)-maxConsole):])
	c.mu.Unlock()
	if n == 0 {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

const defaultLogLines = 20

// logs serves GET /vm/{vm}/logs.
func (d *Daemon) logs(w http.ResponseWriter, r *http.Request, q query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	n := defaultLogLines
	if text := q.text("lines"); text != "" {
		n, err = strconv.Atoi(text)
		if err != nil || n < 0 {
			return refuse(http.StatusBadRequest, "lines must be a number, 0 for everything, not %q", text)
		}
	}
	content := v.console.tail(n)
	count := strings.Count(content, "\n")
	if content != "" && !strings.HasSuffix(content, "\n") {
		count++
	}
	return writeJSON(w, http.StatusOK, struct {
		Hostname string `json:"hostname"`
		Lines    int    `json:"lines"`
		Content  string `json:"content"`
	}{v.hostname, count, content})
}
