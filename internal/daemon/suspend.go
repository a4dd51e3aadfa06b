package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// suspendNote is what a VM's description says of its suspension.
const suspendNote = "memory is kept by freezing: it stays in the machine's RAM, and goes with the VM and with the daemon"

// suspend serves POST /vm/{vm}/suspend: the guest is frozen, its memory kept
// where it is. A paused VM becomes a suspended one, a suspended one stays so.
func (d *Daemon) suspend(w http.ResponseWriter, r *http.Request, _ query) error {
	ctx, cancel := freezing(r)
	defer cancel()
	err := d.changeState(ctx, r, func(ctx context.Context, v *vm) error {
		switch v.state() {
		case statusSuspended:
			return nil
		case statusPaused:
			v.setState(statusSuspended)
		default:
			if err := v.freeze(ctx, statusSuspended); err != nil {
				return fmt.Errorf("suspend VM %q: %w", v.hostname, err)
			}
		}
		d.log.Info("VM suspended", "vm", v.hostname)
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "suspended\n")
}

// restore serves POST /vm/{vm}/restore. The agent answers as soon as the guest
// goes on, so that waiting for it only bounds how long that may take; a VM
// that isn't back in time is suspended still. A running VM goes on running.
func (d *Daemon) restore(w http.ResponseWriter, r *http.Request, q query) error {
	if wait := q.text("wait"); wait != "" && wait != "agent" {
		return refuse(http.StatusBadRequest, "wait must be agent, not %q", wait)
	}
	_, limit, err := parseWait(q)
	if err != nil {
		return err
	}
	late := refuse(http.StatusRequestTimeout, "the VM was not restored within %s; it is suspended still", limit)
	ctx, cancel := freezing(r)
	if q.text("wait") != "" {
		cancel()
		ctx, cancel = context.WithTimeoutCause(context.WithoutCancel(r.Context()), limit, late)
	}
	defer cancel()
	err = d.changeState(ctx, r, func(ctx context.Context, v *vm) error {
		switch v.state() {
		case statusRunning:
			return nil
		case statusPaused:
			return v.errPaused()
		}
		if err := v.thaw(ctx); err != nil {
			if errors.Is(context.Cause(ctx), late) {
				err = late
			}
			return fmt.Errorf("restore VM %q: %w", v.hostname, err)
		}
		d.log.Info("VM restored", "vm", v.hostname)
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "restored\n")
}
