package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The states in which a VM can be.
const (
	statusRunning   = "Running"
	statusPaused    = "Paused"
	statusSuspended = "Suspended"
	statusStopped   = "Stopped"
)

// errGone says that somebody else has removed the VM already.
var errGone = errors.New("the VM is gone")

// vm is one virtual machine.
type vm struct {
	hostname  string
	group     string
	ip        string
	serial    int // rises with each VM of the daemon
	cpus      int
	ramBytes  int64
	createdAt time.Time
	tags      []string // replaced, never changed, by vmTable.retag, under both locks
	protected bool
	grants    []string // the secrets that it gets; nil is all

	override     *policyJSON // its own network policy, nil when it has none
	parentCommit string      // the commit that it was forked from
	keep         *keeping    // nil is an ephemeral VM

	guest    Guest // set once, before anybody can find the VM; nil while a kept one hasn't been booted
	released bool  // there is nothing left of the guest; under turn
	gate     gate  // shut while the guest is frozen
	userdata *userdata
	console  *console
	execs    backgrounds

	// turn holds one token. Whoever changes the VM's state takes it, so that
	// the guest's Freeze, Thaw and Stop never overlap.
	turn chan struct{}
	// over is closed when the VM begins to end; its calls end with it.
	over chan struct{}

	mu      sync.Mutex
	status  string
	gone    bool   // over is closed, or about to be
	ending  ending // how it ended; known once it is gone
	deleted bool   // nobody will relaunch it

	pushMu sync.Mutex        // held while secrets are brought to the guest
	pushed map[string]uint64 // name to version of what the guest has; under pushMu
}

// state is the VM's status as nodes show it.
func (v *vm) state() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.status
}

// ready refuses a call on a VM that can't serve it now.
func (v *vm) ready() error {
	switch v.state() {
	case statusRunning:
		return nil
	case statusPaused, statusSuspended:
		return v.errPaused()
	default:
		return v.errGone()
	}
}

// errPaused refuses a call on a frozen VM with what thaws it.
func (v *vm) errPaused() error {
	if v.state() == statusSuspended {
		return refuse(http.StatusConflict, "VM %q is suspended; restore it first", v.hostname)
	}
	return refuse(http.StatusConflict, "VM %q is paused; resume it first", v.hostname)
}

// kept reports whether v is a persistent VM that is not being deleted.
func (v *vm) kept() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keep != nil && !v.deleted
}

func (v *vm) setDeleted(deleted bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deleted = deleted
}

// errGone refuses a call on a VM that has ended, with what brings it back if
// something does.
func (v *vm) errGone() error {
	if v.kept() {
		return refuse(http.StatusConflict, "VM %q is stopped; relaunch it first", v.hostname)
	}
	v.mu.Lock()
	e := v.ending
	v.mu.Unlock()
	return e.refusal(v.hostname)
}

// lock takes the right to change the VM's state. It fails when ctx ends first.
func (v *vm) lock(ctx context.Context) error {
	select {
	case v.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for VM %q: %w", v.hostname, context.Cause(ctx))
	}
}

func (v *vm) unlock() { <-v.turn }

// finish marks the VM as ending for a reason, once, and ends its calls. It
// reports whether it was the first to do so.
func (v *vm) finish(why string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status = statusStopped
	if v.gone {
		return false
	}
	v.gone = true
	v.ending = ending{why, time.Now().UTC()}
	close(v.over)
	return true
}

// agent wraps a route of the guest's agent: the VM must be there and running,
// and the call ends with it.
func (d *Daemon) agent(serve func(w http.ResponseWriter, r *http.Request, q query, v *vm) error) handler {
	return func(w http.ResponseWriter, r *http.Request, q query) error {
		v, err := d.vms.find(r.PathValue("vm"))
		if err != nil {
			return err
		}
		if err := v.ready(); err != nil {
			return err
		}
		conn := http.NewResponseController(w)
		cut := false
		body := newCallBody(r)
		ctx, release := bind(r.Context(), v.over, errGone, func() {
			// A client that neither sends nor reads must not keep the call
			// alive. Connections without deadlines end with their client.
			cut = true
			if !body.ended.Load() {
				_ = conn.SetReadDeadline(time.Now())
			}
			_ = conn.SetWriteDeadline(time.Now().Add(lastWords))
		})
		r = r.WithContext(ctx)
		r.Body = body
		err = serve(w, r, q, v)
		if err != nil && (errors.Is(context.Cause(ctx), errGone) || errors.Is(err, ErrEnded)) {
			err = v.errGone()
		}
		release()
		if cut {
			_ = conn.SetWriteDeadline(time.Time{})
		}
		return err
	}
}

// callBody is a call's body that knows whether it has been read to its end.
// From then on net/http reads on by itself, to see whether the client leaves: a
// deadline that passes would end the connection's context, and with it that of
// every later call on the connection.
type callBody struct {
	io.ReadCloser
	ended atomic.Bool
}

func newCallBody(r *http.Request) *callBody {
	if b, ok := r.Body.(*callBody); ok {
		return b
	}
	b := &callBody{ReadCloser: r.Body}
	b.ended.Store(r.Body == http.NoBody)
	return b
}

// Read implements io.Reader.
func (b *callBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}

// lastWords is how long a call may go on writing after its VM has ended.
const lastWords = 2 * time.Second

// destroy ends v and what it runs, removes its disk and forgets it but for why,
// which is what became of it unless it has ended before. It returns
// errGone when somebody else did so first, or has relaunched it. A guest that
// can't be stopped, or a disk that can't be removed, can be tried again: unless
// an ephemeral VM has ended, v stays listed, as stopped.
func (d *Daemon) destroy(ctx context.Context, v *vm, why string) (err error) {
	v.setDeleted(true)
	defer func() {
		if err != nil && !errors.Is(err, errGone) {
			v.setDeleted(false)
		}
	}()
	v.finish(why)
	if err := v.lock(ctx); err != nil {
		return err
	}
	defer v.unlock()
	if !d.vms.holds(v) {
		return errGone
	}
	if err := d.release(ctx, v); err != nil {
		return err
	}
	if v.keep != nil {
		if err := d.removeDisk(ctx, v.keep); err != nil {
			return err
		}
		v.mu.Lock()
		v.ending = ending{why, time.Now().UTC()} // it may have been stopped long ago
		v.mu.Unlock()
	}
	d.vms.drop(v)
	return nil
}

// watch takes v away as soon as its guest has ended, or has it stopped if it is
// persistent, and then cleans up. It returns when that is done.
func (d *Daemon) watch(v *vm) {
	<-v.guest.Done()
	why := cmp.Or(v.guest.EndReason(), endedByItself)
	byItself := v.finish(why)
	if byItself {
		v.console.line("slicer: %s is ended: %s", v.hostname, why)
		d.log.Warn("VM is ended", "vm", v.hostname, "reason", why)
	}
	if v.keep != nil {
		d.rest(v, byItself && !isClosed(d.closing))
		return
	}
	d.vms.retire(v)
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := d.destroy(ctx, v, why); err != nil && !errors.Is(err, errGone) {
		d.log.Error("ended VM could not be cleaned up", "vm", v.hostname, "err", err)
	}
}

// deleteNode serves DELETE /hostgroup/{group}/nodes/{vm}.
func (d *Daemon) deleteNode(w http.ResponseWriter, r *http.Request, _ query) error {
	group, err := d.group(r.PathValue("group"))
	if err != nil {
		return err
	}
	ctx, cancel := stopping(r)
	defer cancel()
	hostname := r.PathValue("vm")
	err = d.whileThere(ctx, hostname, func(v *vm) error {
		if v.group != group.Name {
			return refuse(http.StatusNotFound, "no VM named %q in host group %q", hostname, group.Name)
		}
		if v.protected {
			return refuse(http.StatusForbidden, "VM %q is protected: it belongs to the count of host group %q", hostname, group.Name)
		}
		return d.destroy(ctx, v, "it was deleted")
	})
	if err != nil {
		return err
	}
	d.log.Info("VM deleted", "vm", hostname)
	return writeJSON(w, http.StatusOK, struct {
		Message     string `json:"message"`
		DiskRemoved string `json:"disk_removed"`
		Error       string `json:"error"`
	}{fmt.Sprintf("VM %q deleted", hostname), "true", ""})
}

func noSuchVM(hostname string) error {
	return refuse(http.StatusNotFound, "no VM named %q", hostname)
}
