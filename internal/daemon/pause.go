package daemon

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// freezeTimeout bounds the freezing and thawing of a guest.
const freezeTimeout = 30 * time.Second

// pause serves POST /vm/{vm}/pause. A paused VM stays paused.
func (d *Daemon) pause(w http.ResponseWriter, r *http.Request, _ query) error {
	err := d.changeState(r, func(ctx context.Context, v *vm) error {
		if v.state() == statusPaused {
			return nil
		}
		if err := v.gate.close(ctx); err != nil {
			return fmt.Errorf("pause VM %q: wait for what runs on it: %w", v.hostname, err)
		}
		if err := v.guest.Freeze(ctx); err != nil {
			v.gate.open()
			return fmt.Errorf("pause VM %q: %w", v.hostname, err)
		}
		v.setPaused(true)
		d.log.Info("VM paused", "vm", v.hostname)
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "paused\n")
}

// resume serves POST /vm/{vm}/resume. A running VM goes on running.
func (d *Daemon) resume(w http.ResponseWriter, r *http.Request, _ query) error {
	err := d.changeState(r, func(ctx context.Context, v *vm) error {
		if v.state() == statusRunning {
			return nil
		}
		if err := v.guest.Thaw(ctx); err != nil {
			return fmt.Errorf("resume VM %q: %w", v.hostname, err)
		}
		v.setPaused(false)
		v.gate.open()
		d.log.Info("VM resumed", "vm", v.hostname)
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "resumed\n")
}

// changeState runs change on the VM that r names, alone. A client that goes
// away doesn't stop a change that has begun.
func (d *Daemon) changeState(r *http.Request, change func(ctx context.Context, v *vm) error) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	ctx, unbind := bind(r.Context(), v.over, v.errGone(), nil)
	err = v.lock(ctx)
	unbind()
	if err != nil {
		return err
	}
	defer v.unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), freezeTimeout)
	defer cancel()
	ctx, unbind = bind(ctx, v.over, v.errGone(), nil)
	defer unbind()
	if v.state() == statusStopped {
		return v.errGone()
	}
	err = change(ctx, v)
	if v.state() == statusRunning {
		d.pushSecrets(ctx, v) // those that changed while the gate was shut
	}
	return err
}

// setPaused moves a VM that isn't ending to paused or running.
func (v *vm) setPaused(paused bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.gone:
	case paused:
		v.status = statusPaused
	default:
		v.status = statusRunning
	}
}
