package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// again is the record of a stopped persistent VM that is booted once more. It
// takes v's place when its guest is there.
func (v *vm) again() *vm {
	return &vm{
		hostname:     v.hostname,
		group:        v.group,
		ip:           v.ip,
		serial:       v.serial,
		cpus:         v.cpus,
		ramBytes:     v.ramBytes,
		createdAt:    v.createdAt,
		grants:       v.grants,
		override:     v.override,
		parentCommit: v.parentCommit,
		keep:         v.keep,
		userdata:     v.userdata, // it is run on the first boot alone
		console:      v.console,
		turn:         make(chan struct{}, 1),
		over:         make(chan struct{}),
		status:       statusRunning,
	}
}

// bootAgain boots v, whose turn the caller has, on the disk that it has, and
// returns the record that has taken its place. When it returns an error the VM
// is stopped still.
func (d *Daemon) bootAgain(ctx context.Context, v *vm) (*vm, error) {
	if err := d.release(ctx, v); err != nil {
		return nil, err
	}
	next := v.again()
	if err := d.start(ctx, next, ""); err != nil {
		return nil, err
	}
	d.vms.replace(v, next)
	d.tasks.Go(func() { d.watch(next) })
	d.pushSecrets(ctx, next) // those that changed while it booted
	err := context.Cause(ctx)
	if isClosed(d.closing) {
		err = errClosed
	}
	if err == nil {
		err = d.keepState(next, keptRunning)
	}
	if err == nil {
		return next, nil
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if stopErr := d.stop(stopping, next, "it was not relaunched"); stopErr != nil {
		d.log.Error("VM that was not relaunched could not be stopped", "vm", v.hostname, "err", stopErr)
	}
	if errors.Is(err, errGone) {
		return nil, refuse(http.StatusConflict, "VM %q was deleted before it was ready", v.hostname)
	}
	return nil, fmt.Errorf("boot VM %q: %w", v.hostname, err)
}

// relaunch serves POST /vm/{vm}/relaunch: a stopped persistent VM comes back
// with its disk, its tags and its name. It waits for the agent.
func (d *Daemon) relaunch(w http.ResponseWriter, r *http.Request, _ query) error {
	ctx, unbind := bind(r.Context(), d.closing, errClosed, nil)
	defer unbind()
	ctx, cancel := context.WithTimeoutCause(ctx, defaultWait, refuse(http.StatusRequestTimeout,
		"the VM was not ready within %s; it is stopped still", defaultWait))
	defer cancel()
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	next, err := d.relaunchVM(ctx, v)
	if err != nil {
		return err
	}
	d.log.Info("VM relaunched", "vm", v.hostname)
	return writeJSON(w, http.StatusOK, next.created())
}

func (d *Daemon) relaunchVM(ctx context.Context, v *vm) (*vm, error) {
	if state := v.state(); state != statusStopped {
		return nil, refuse(http.StatusConflict, "VM %q is not stopped, it is %s", v.hostname, state)
	}
	if v.keep == nil {
		return nil, v.errGone()
	}
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if !d.vms.holds(v) {
		return nil, refuse(http.StatusConflict, "VM %q has just been relaunched or deleted", v.hostname)
	}
	// A disk that somebody took away would be made anew, and empty.
	disks, err := d.hypervisor.Disks(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the disk of VM %q: %w", v.hostname, diskRefusal(err))
	}
	if !slices.ContainsFunc(disks, func(disk Disk) bool { return disk.Name == v.keep.disk }) {
		return nil, refuse(http.StatusInternalServerError, "the disk of VM %q is gone; delete the VM", v.hostname)
	}
	next, err := d.bootAgain(ctx, v)
	if err != nil {
		v.console.line("slicer: %s was not relaunched: %v", v.hostname, err)
	}
	return next, err
}

// whileThere runs change, which takes a VM's record, until that record wasn't
// replaced meanwhile, as a relaunch does. change says so with errGone.
func (d *Daemon) whileThere(ctx context.Context, hostname string, change func(v *vm) error) error {
	for {
		v, err := d.vms.find(hostname)
		if err != nil {
			return err
		}
		err = change(v)
		if !errors.Is(err, errGone) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
