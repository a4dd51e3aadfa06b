package daemon

import (
	"context"
	"errors"
	"net/http"
)

// shutdown serves POST /vm/{vm}/shutdown, on which the guest ends; so it does on
// a reboot, as a Firecracker VMM ends on one. An ephemeral VM goes with its
// disk, a persistent one is stopped.
func (d *Daemon) shutdown(w http.ResponseWriter, r *http.Request, q query) error {
	action, err := shutdownAction(w, r, q)
	if err != nil {
		return err
	}
	ctx, cancel := stopping(r)
	defer cancel()
	became := "the VM was ephemeral and is gone"
	err = d.whileThere(ctx, r.PathValue("vm"), func(v *vm) error {
		if v.keep != nil {
			became = "the VM is stopped"
		}
		return d.shutdownVM(ctx, v, action)
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, action+" done; "+became+"\n")
}

// shutdownVM ends v. It returns errGone when somebody else did so first.
func (d *Daemon) shutdownVM(ctx context.Context, v *vm, action string) error {
	if v.protected {
		return refuse(http.StatusForbidden, "VM %q is protected: it belongs to the count of host group %q", v.hostname, v.group)
	}
	if v.state() == statusStopped && v.kept() {
		if action != "shutdown" {
			return v.errGone()
		}
		if v.keep.state() == keptStopped {
			return nil
		}
		// It did not boot when the daemon began, and was to be tried again. A relaunch
		// that is under way comes first.
		if err := v.lock(ctx); err != nil {
			return err
		}
		defer v.unlock()
		if !d.vms.holds(v) {
			return errGone
		}
		return d.keepState(v, keptStopped)
	}
	if err := v.ready(); err != nil {
		return err // its init can't be told while it is frozen
	}
	// What is to become of the VM is noted first: a daemon that ends in between
	// must not boot it again. A state folder that is full keeps no VM running.
	noted := d.keepState(v, keptStopped)
	if errors.Is(noted, errGone) {
		return noted
	}
	if err := d.stop(ctx, v, "it was shut down"); err != nil {
		return err
	}
	if noted != nil {
		noted = d.keepState(v, keptStopped)
	}
	if noted != nil && !errors.Is(noted, errGone) {
		v.console.line("slicer: that %s was shut down could not be noted: it will be booted with the next daemon", v.hostname)
		d.log.Error("VM is shut down, but that could not be noted: it will be booted at the next start", "vm", v.hostname, "err", noted)
	}
	v.console.line("slicer: %s stopped", v.hostname)
	d.log.Info("VM shut down", "vm", v.hostname, "action", action)
	return nil
}

// stopping is the context of a call that ends a VM. A client that goes away
// doesn't leave half a VM.
func stopping(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(r.Context()), stopTimeout,
		refuse(http.StatusServiceUnavailable, "the VM could not be ended within %s; try again", stopTimeout))
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
