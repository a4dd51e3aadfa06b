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

// shutdown serves POST /vm/{vm}/shutdown. An ephemeral VM, as all are, ends
// with it and goes with its disk; so it does on a reboot, on which a
// Firecracker VMM ends.
func (d *Daemon) shutdown(w http.ResponseWriter, r *http.Request, q query) error {
	action, err := shutdownAction(w, r, q)
	if err != nil {
		return err
	}
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	if v.protected {
		return refuse(http.StatusForbidden, "VM %q is protected: it belongs to the count of host group %q", v.hostname, v.group)
	}
	if err := v.ready(); err != nil {
		return err // its init can't be told while it is frozen
	}
	// A client that goes away doesn't leave half a VM.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), stopTimeout)
	defer cancel()
	if err := d.destroy(ctx, v); errors.Is(err, errGone) {
		return noSuchVM(v.hostname)
	} else if err != nil {
		return err
	}
	d.log.Info("VM shut down", "vm", v.hostname, "action", action)
	return writeText(w, http.StatusOK, action+" done; the VM was ephemeral and is gone\n")
}

// shutdownAction is the action that a shutdown call names, in its query or its
// body.
func shutdownAction(w http.ResponseWriter, r *http.Request, q query) (string, error) {
	var body struct {
		Action string `json:"action"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return "", err
	}
	action := q.text("action")
	switch {
	case action == "":
		action = body.Action
	case body.Action != "" && body.Action != action:
		return "", refuse(http.StatusBadRequest, "the query's action is %q, the body's is %q", action, body.Action)
	}
	switch action {
	case "":
		return "shutdown", nil
	case "shutdown", "reboot":
		return action, nil
	}
	return "", refuse(http.StatusBadRequest, "action must be shutdown or reboot, not %q", action)
}

// relaunch serves POST /vm/{vm}/relaunch. Only a stopped persistent VM has a
// disk to come back with.
func (d *Daemon) relaunch(_ http.ResponseWriter, r *http.Request, _ query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	if state := v.state(); state != statusStopped {
		return refuse(http.StatusConflict, "VM %q is not stopped, it is %s", v.hostname, state)
	}
	return v.errGone()
}
