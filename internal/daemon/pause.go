package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// freezeTimeout bounds the freezing and thawing of a guest.
const freezeTimeout = 30 * time.Second

// pause serves POST /vm/{vm}/pause. A paused VM stays paused.
func (d *Daemon) pause(w http.ResponseWriter, r *http.Request, _ query) error {
	ctx, cancel := freezing(r)
	defer cancel()
	err := d.changeState(ctx, r, func(ctx context.Context, v *vm) error {
		switch v.state() {
		case statusPaused:
			return nil
		case statusSuspended:
			return v.errPaused()
		}
		if err := v.freeze(ctx, statusPaused); err != nil {
			return fmt.Errorf("pause VM %q: %w", v.hostname, err)
		}
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
	ctx, cancel := freezing(r)
	defer cancel()
	err := d.changeState(ctx, r, func(ctx context.Context, v *vm) error {
		switch v.state() {
		case statusRunning:
			return nil
		case statusSuspended:
			return v.errPaused()
		}
		if err := v.thaw(ctx); err != nil {
			return fmt.Errorf("resume VM %q: %w", v.hostname, err)
		}
		d.log.Info("VM resumed", "vm", v.hostname)
		return nil
	})
	if err != nil {
		return err
	}
	return writeText(w, http.StatusOK, "resumed\n")
}

// freezing is the context of a call that freezes or thaws. A client that goes
// away doesn't stop a change that has begun.
func freezing(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(r.Context()), freezeTimeout,
		refuse(http.StatusServiceUnavailable, "the VM's state could not be changed within %s", freezeTimeout))
}

// changeState runs change on the VM that r names, alone. ctx bounds it and the
// wait for its turn, which also ends with the call.
func (d *Daemon) changeState(ctx context.Context, r *http.Request, change func(ctx context.Context, v *vm) error) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	ctx, unbind := bind(ctx, v.over, v.errGone(), nil)
	defer unbind()
	waiting, giveUp := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.Context(), func() { giveUp(context.Cause(r.Context())) })
	err = v.lock(waiting)
	stop()
	giveUp(nil)
	if err != nil {
		return err
	}
	defer v.unlock()

	if v.state() == statusStopped {
		return v.errGone()
	}
	err = change(ctx, v)
	if err != nil && (isClosed(v.over) || errors.Is(err, ErrEnded)) {
		return v.errGone()
	}
	if v.state() == statusRunning {
		d.pushSecrets(ctx, v) // those that changed while the gate was shut
	}
	return err
}

// freeze stops a running VM where it stands; its status is then frozen.
func (v *vm) freeze(ctx context.Context, frozen string) error {
	if err := v.gate.close(ctx); err != nil {
		return fmt.Errorf("wait for what runs on it: %w", err)
	}
	if err := v.guest.Freeze(ctx); err != nil {
		v.gate.open()
		return err
	}
	v.setState(frozen)
	return nil
}

// thaw lets a frozen VM go on.
func (v *vm) thaw(ctx context.Context) error {
	if err := v.guest.Thaw(ctx); err != nil {
		return err
	}
	v.setState(statusRunning)
	v.gate.open()
	return nil
}

// setState gives a VM that isn't ending another status.
func (v *vm) setState(status string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.gone {
		v.status = status
	}
}
