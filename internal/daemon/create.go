package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// defaultWait is how long a VM may take to be ready when a call doesn't say.
	defaultWait = 5 * time.Minute
	maxWait     = time.Hour
)

// parseWait reads what a create call waits for, and for how long.
func parseWait(q query) (forUserdata bool, limit time.Duration, err error) {
	switch wait := q.text("wait"); wait {
	case "", "agent":
	case "userdata":
		forUserdata = true
	default:
		return false, 0, refuse(http.StatusBadRequest, "wait must be agent or userdata, not %q", wait)
	}
	limit, err = parseTimeout(q)
	return forUserdata, limit, err
}

// parseTimeout reads for how long a call waits.
func parseTimeout(q query) (time.Duration, error) {
	text := q.text("timeout")
	if text == "" {
		return defaultWait, nil
	}
	if q.text("wait") == "" {
		return 0, refuse(http.StatusBadRequest, "timeout needs wait")
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 || limit > maxWait {
		return 0, refuse(http.StatusBadRequest, "timeout must be a duration such as 30s, %s at most, not %q", maxWait, text)
	}
	return limit, nil
}

// createNode serves POST /hostgroup/{group}/nodes. It always waits for the
// agent, and removes the VM again when it isn't ready in time or the client
// goes away before.
func (d *Daemon) createNode(w http.ResponseWriter, r *http.Request, q query) error {
	g, err := d.group(r.PathValue("group"))
	if err != nil {
		return err
	}
	forUserdata, limit, err := parseWait(q)
	if err != nil {
		return err
	}
	var body createJSON
	if err := readJSON(w, r, maxJSONData, &body); err != nil {
		return err
	}
	plan, err := d.plan(g, &body)
	if err != nil {
		return err
	}

	ctx, release := d.creating(r, limit)
	defer release()
	v, err := d.create(ctx, plan, forUserdata)
	if err != nil {
		return err
	}
	d.log.Info("VM created", "vm", v.hostname, "cpus", v.cpus, "ram_bytes", v.ramBytes)
	return writeJSON(w, http.StatusCreated, v.created())
}

// creating is the context of a call that creates a VM, which must be ready
// within limit.
func (d *Daemon) creating(r *http.Request, limit time.Duration) (context.Context, func()) {
	ctx, unbind := bind(r.Context(), d.closing, errClosed, nil)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, refuse(http.StatusRequestTimeout,
		"the VM was not ready within %s and has been removed", limit))
	return ctx, func() {
		cancel()
		unbind()
	}
}

// createdJSON is the answer about a VM that has come up.
type createdJSON struct {
	Hostname  string    `json:"hostname"`
	HostGroup string    `json:"hostgroup"`
	IP        string    `json:"ip"`
	CreatedAt time.Time `json:"created_at"`
	Arch      string    `json:"arch"`
}

func (v *vm) created() createdJSON {
	return createdJSON{v.hostname, v.group, v.ip, v.createdAt, machineArch()}
}

// create makes the VM of a plan with all that belongs to it. When it returns an
// error nothing of the VM is left.
func (d *Daemon) create(ctx context.Context, plan vmPlan, forUserdata bool) (*vm, error) {
	v, err := d.boot(ctx, plan)
	if err != nil {
		return nil, err
	}
	if err := d.furnish(ctx, v, plan, forUserdata); err != nil {
		d.undo(v)
		if errors.Is(err, errGone) {
			return nil, refuse(http.StatusConflict, "VM %q was deleted before it was ready", v.hostname)
		}
		return nil, err
	}
	return v, nil
}

// furnish brings v, which has just booted, what its plan names, and keeps it if
// it is persistent.
func (d *Daemon) furnish(ctx context.Context, v *vm, plan vmPlan, forUserdata bool) error {
	if err := v.authorize(ctx, plan.keys); err != nil {
		return fmt.Errorf("bring the SSH keys to VM %q: %w", v.hostname, err)
	}
	if plan.importUser != "" {
		d.importUser(ctx, v, plan.importUser)
	}
	if v.userdata.script != "" {
		d.tasks.Go(func() { d.runUserdata(v) })
	}
	if forUserdata {
		if err := v.userdata.wait(ctx, v.over); err != nil {
			return fmt.Errorf("wait for the userdata of VM %q: %w", v.hostname, err)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("create VM %q: %w", v.hostname, err)
	}
	return d.keepState(v, keptRunning)
}

// boot makes the VM of a plan and lets it be found. When it returns an error
// nothing of the VM is left; the error is ctx's cause when ctx ended.
func (d *Daemon) boot(ctx context.Context, plan vmPlan) (*vm, error) {
	v, err := d.vms.reserve(plan)
	if err != nil {
		return nil, err
	}
	if err := d.start(ctx, v, plan.base); err != nil {
		d.vms.drop(v)
		return nil, err
	}
	if ctx.Err() != nil {
		d.undo(v)
		return nil, fmt.Errorf("boot VM %q: %w", v.hostname, context.Cause(ctx))
	}
	d.vms.publish(v) // before anybody takes it away again
	d.tasks.Go(func() { d.watch(v) })
	d.pushSecrets(ctx, v) // those that changed while it booted
	if isClosed(d.closing) {
		d.undo(v)
		return nil, errClosed
	}
	return v, nil
}

// start boots v's guest. A disk that isn't there yet begins as base. When it
// returns an error there is no guest, and no disk that it made; the error is
// ctx's cause when ctx ended.
func (d *Daemon) start(ctx context.Context, v *vm, base string) error {
	begin := time.Now()
	files, versions := d.secrets.granted(v.grants)
	v.pushed = versions
	spec := GuestSpec{Hostname: v.hostname, CPUs: v.cpus, RAMBytes: v.ramBytes, Secrets: files, Base: base}
	var err error
	if v.keep != nil {
		spec.Disk = v.keep.disk
		if spec.DiskLabel, err = v.keep.text(); err != nil {
			return fmt.Errorf("encode the label of VM %q: %w", v.hostname, err)
		}
	}
	if v.guest, err = d.hypervisor.Boot(ctx, spec); err != nil {
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case spec.Disk != "" || base != "":
			err = diskRefusal(err)
		}
		return fmt.Errorf("boot VM %q: %w", v.hostname, err)
	}
	v.console.line("slicer: %s started, %d CPUs, %s, network %s", v.hostname, v.cpus, sizeText(v.ramBytes), d.network)
	v.console.line("slicer: agent ready in %d ms", time.Since(begin).Milliseconds())
	v.console.line("slicer: secrets: %d", len(files))
	if unenforced := v.guest.Unenforced(); len(unenforced) > 0 {
		d.log.Warn("VM isn't held to all that was asked for", "vm", v.hostname, "unenforced", unenforced)
		for _, what := range unenforced {
			v.console.line("slicer: not enforced: %s", what)
		}
	}
	return nil
}

// sizeText is a number of bytes as people read it, exactly.
func sizeText(n int64) string {
	switch {
	case n > 0 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// undo removes a VM that nobody was told of.
func (d *Daemon) undo(v *vm) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := d.destroy(ctx, v, "it was not ready in time"); err != nil && !errors.Is(err, errGone) {
		d.log.Error("unfinished VM could not be removed", "vm", v.hostname, "err", err)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
