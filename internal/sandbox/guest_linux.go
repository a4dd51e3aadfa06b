package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// guest is the daemon's side of one guest.
type guest struct {
	hyp     *Hypervisor
	dir     string
	spec    daemon.GuestSpec
	cmd     *exec.Cmd
	group   *cgroup
	control *net.UnixConn
	started time.Time

	writeMu sync.Mutex

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan<- answer
	procs   map[uint64]*process
	exits   map[uint64]*exitEvent // of processes whose start hasn't been answered yet
	ended   bool
	disk    *heldDisk // nil until the boot has succeeded

	reading bool          // read runs, and finish will
	done    chan struct{} // closed when the agent has been waited for
	removed chan struct{} // closed when the folder has been removed too
	gone    error         // what the removal met; read after removed
	why     string        // it ended by itself; under mu until done, then read alone
}

// answer is a reply and the file that came with it.
type answer struct {
	reply *reply
	file  *os.File
}

var _ daemon.Guest = (*guest)(nil)

// callLimit bounds a request to the agent. None takes long: what does travels
// through descriptors.
const callLimit = 30 * time.Second

func newGuest(h *Hypervisor, dir string, spec daemon.GuestSpec, first *launched, control *net.UnixConn) *guest {
	return &guest{
		hyp:     h,
		dir:     dir,
		spec:    spec,
		cmd:     first.cmd,
		group:   first.group,
		control: control,
		started: time.Now(),
		waiting: map[uint64]chan<- answer{},
		procs:   map[uint64]*process{},
		exits:   map[uint64]*exitEvent{},
		done:    make(chan struct{}),
		removed: make(chan struct{}),
	}
}

// handshake configures the guest, waits until its agent answers and starts
// reading what it says.
func (g *guest) handshake(ctx context.Context, cfg *bootConfig) error {
	stop := context.AfterFunc(ctx, func() {
		_ = g.control.SetDeadline(time.Unix(1, 0)) // only a closed socket refuses, and it needs none
	})
	defer stop()
	err := writeFrame(g.control, cfg)
	ready := &reply{}
	if err == nil {
		var files []*os.File
		files, err = readFrame(g.control, ready)
		closeAll(files)
	}
	switch {
	case err == nil:
		err = ready.err()
	case ctx.Err() != nil:
		err = fmt.Errorf("the guest's agent didn't answer: %w", ctx.Err())
	default:
		err = fmt.Errorf("the guest's agent ended: %w%s", err, g.lastWords())
	}
	if err != nil {
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	g.reading = true
	g.hyp.work.Add(1)
	go g.read()
	go g.group.watch(g.done, g.overstep)
	return nil
}

// lastWords is the first line that the guest's agent printed, if any.
func (g *guest) lastWords() string {
	f, err := os.Open(g.dir + "/console")
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 512)
	n, _ := readUpTo(f, buf) // without it the error is only shorter
	if n == 0 {
		return ""
	}
	return ": " + firstLine(buf[:n])
}

// read takes the agent's frames until its end, then cleans up.
func (g *guest) read() {
	for {
		r := &reply{}
		files, err := readFrame(g.control, r)
		if err != nil {
			break
		}
		g.deliver(r, files)
	}
	g.finish()
}

// deliver hands a frame to whom it is for. What nobody waits for is dropped.
func (g *guest) deliver(r *reply, files []*os.File) {
	if len(files) > 1 {
		closeAll(files)
		files = nil
	}
	a := answer{reply: r}
	if len(files) == 1 {
		a.file = files[0]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Exit != nil {
		closeAll(files)
		if p, ok := g.procs[r.Exit.Handle]; ok {
			delete(g.procs, r.Exit.Handle)
			p.exited <- *r.Exit
		} else if len(g.exits) < maxConcurrentRequests {
			g.exits[r.Exit.Handle] = r.Exit
		}
		return
	}
	to, ok := g.waiting[r.ID]
	delete(g.waiting, r.ID)
	if !ok {
		closeAll(files)
		return
	}
	to <- a
}

// finish ends the guest for good and tells everybody who waits.
func (g *guest) finish() {
	g.kill()
	why := ""
	if !g.group.stopped.Load() {
		why = cmp.Or(g.group.starved(), g.group.crowded())
	}
	g.mu.Lock()
	g.why = cmp.Or(g.why, why)
	g.ended = true
	for id, to := range g.waiting {
		delete(g.waiting, id)
		close(to)
	}
	for handle, p := range g.procs {
		delete(g.procs, handle)
		p.exited <- exitEvent{Handle: handle, Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
	}
	g.mu.Unlock()
	close(g.done)
	g.gone = errors.Join(g.leaveGroup(), g.hyp.removeAll(g.dir))
	g.mu.Lock()
	disk := g.disk
	g.mu.Unlock()
	if disk != nil {
		g.gone = errors.Join(g.gone, disk.drop())
	}
	close(g.removed)
	g.hyp.work.Done()
}

// hold makes the guest let go of its disk when it ends.
func (g *guest) hold(disk *heldDisk) {
	g.mu.Lock()
	ended := g.ended
	if !ended {
		g.disk = disk
	}
	g.mu.Unlock()
	if ended {
		<-g.removed
		_ = disk.drop() // a disk that has its name is only let go of
	}
}

// discard ends a guest whose boot failed.
func (g *guest) discard() error {
	if !g.reading {
		g.kill()
		return g.group.remove()
	}
	return g.Stop(context.Background())
}

// kill ends the agent, and the guest with it. The folder stays.
func (g *guest) kill() {
	g.control.Close()
	g.group.kill()
	_ = g.cmd.Process.Kill() // fails when it has ended already
	_ = g.cmd.Wait()         // how a killed agent ended says nothing
}

// call sends a request and waits for its answer. A context that ends first
// leaves the answer to be dropped.
func (g *guest) call(ctx context.Context, req *request, files ...*os.File) (answer, error) {
	if err := g.hyp.idmap.checkIDs(req); err != nil {
		return answer{}, err
	}
	to := make(chan answer, 1)
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return answer{}, daemon.ErrEnded
	}
	g.lastID++
	req.ID = g.lastID
	g.waiting[req.ID] = to
	g.mu.Unlock()

	if err := g.send(req, files...); err != nil {
		g.mu.Lock()
		delete(g.waiting, req.ID)
		g.mu.Unlock()
		if errors.Is(err, syscall.E2BIG) {
			return answer{}, err
		}
		return answer{}, fmt.Errorf("%w: %w", daemon.ErrEnded, err)
	}
	limit := time.NewTimer(callLimit)
	defer limit.Stop()
	select {
	case a, ok := <-to:
		if !ok {
			return answer{}, daemon.ErrEnded
		}
		if err := a.reply.err(); err != nil {
			if a.file != nil {
				a.file.Close()
			}
			return answer{}, err
		}
		return a, nil
	case <-limit.C:
		g.forget(req.ID, to)
		return answer{}, fmt.Errorf("the VM's agent hasn't answered for %s: %w", callLimit, os.ErrDeadlineExceeded)
	case <-ctx.Done():
		g.forget(req.ID, to)
		return answer{}, ctx.Err()
	}
}

// send writes a request. An agent that doesn't take it is as good as ended:
// half a frame may be on the wire.
func (g *guest) send(req *request, files ...*os.File) error {
	g.writeMu.Lock()
	defer g.writeMu.Unlock()
	err := g.control.SetWriteDeadline(time.Now().Add(callLimit))
	if err == nil {
		err = writeFrame(g.control, req, files...)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = g.cmd.Process.Signal(unix.SIGKILL) // the reader sees the end, or has seen it
	}
	return err
}

// forget gives up waiting for an answer, and closes what may have come.
func (g *guest) forget(id uint64, to chan answer) {
	g.mu.Lock()
	delete(g.waiting, id)
	g.mu.Unlock()
	select {
	case a, ok := <-to:
		if ok && a.file != nil {
			a.file.Close()
		}
	default:
	}
}

// Freeze implements daemon.Guest: every process but the agent is stopped.
func (g *guest) Freeze(ctx context.Context) error {
	if g.group.canFreeze() {
		if _, err := g.call(ctx, &request{Op: "hold"}); err != nil {
			return err
		}
		err := g.group.freeze(ctx, g.cmd.Process.Pid)
		if err != nil {
			_, rerr := g.call(context.WithoutCancel(ctx), &request{Op: "release"})
			err = errors.Join(err, rerr)
		}
		return err
	}
	_, err := g.call(ctx, &request{Op: "freeze"})
	return err
}

// Thaw implements daemon.Guest.
func (g *guest) Thaw(ctx context.Context) error {
	if g.group.canFreeze() {
		if _, err := g.call(ctx, &request{Op: "release"}); err != nil {
			return err
		}
		return g.group.thaw()
	}
	_, err := g.call(ctx, &request{Op: "thaw"})
	return err
}

// Stop implements daemon.Guest.
func (g *guest) Stop(ctx context.Context) error {
	g.group.stopped.Store(true)
	_ = g.cmd.Process.Signal(unix.SIGKILL) // the reader sees the end, or has seen it, and cleans up
	select {
	case <-g.removed:
		return g.gone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done implements daemon.Guest.
func (g *guest) Done() <-chan struct{} { return g.done }

// EndReason implements daemon.Guest.
func (g *guest) EndReason() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// Uptime implements daemon.Guest.
func (g *guest) Uptime() time.Duration { return time.Since(g.started) }

// PutSecret implements daemon.Guest.
func (g *guest) PutSecret(ctx context.Context, s daemon.SecretFile) error {
	_, err := g.call(ctx, &request{
		Op:   "secret",
		Name: s.Name,
		Data: s.Data,
		Attr: &attr{Mode: uint32(s.Mode.Perm()), UID: &s.UID, GID: &s.GID},
	})
	return err
}

// RemoveSecret implements daemon.Guest.
func (g *guest) RemoveSecret(ctx context.Context, name string) error {
	_, err := g.call(ctx, &request{Op: "unsecret", Name: name})
	return err
}

// Files implements daemon.Guest.
func (g *guest) Files() daemon.FileTree { return fileTree{g} }

// Unenforced implements daemon.Guest.
func (g *guest) Unenforced() []string {
	lines := g.group.sizes()
	if g.hyp.idmap.Kind == idmapSingle {
		lines = append(lines, oneIDNote)
	}
	return lines
}
