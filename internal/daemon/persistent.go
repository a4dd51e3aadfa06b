package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// labelTimeout bounds the writing of a label.
const labelTimeout = 10 * time.Second

// keeping is how a persistent VM is kept: its disk, and what the disk's label
// says. The records that a VM has one after the other share it.
type keeping struct {
	disk string

	mu      sync.Mutex // held while the label is written
	label   vmLabel
	removed bool // the disk is gone
	shut    *vm  // the record that was last to be noted as stopped
}

// newKeeping returns how v, which is about to be created, is kept.
func newKeeping(v *vm) *keeping {
	l := vmLabel{
		Version: labelVersion, State: keptCreating, Hostname: v.hostname, HostGroup: v.group, IP: v.ip,
		CPUs: v.cpus, RAMBytes: v.ramBytes, Tags: slices.Clone(v.tags), Secrets: v.grants, CreatedAt: v.createdAt,
		Network: v.override, ParentCommit: v.parentCommit,
	}
	if v.userdata.given {
		l.Userdata = new(userdataLabel)
	}
	return &keeping{disk: vmDisk + v.hostname, label: l}
}

// text is the label as a disk has it.
func (k *keeping) text() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return json.Marshal(k.label)
}

// state is what the label says.
func (k *keeping) state() keptState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.label.State
}

// relabel writes what edit makes of k's label. When it returns an error the
// label is what it was.
func (d *Daemon) relabel(k *keeping, edit func(*vmLabel)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return d.relabelLocked(k, edit)
}

// relabelLocked is relabel for who holds k.mu.
func (d *Daemon) relabelLocked(k *keeping, edit func(*vmLabel)) error {
	if k.removed {
		return errGone
	}
	next := k.label
	edit(&next)
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode the label of VM %q: %w", next.Hostname, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), labelTimeout)
	defer cancel()
	if err := d.hypervisor.LabelDisk(ctx, k.disk, text); err != nil {
		return fmt.Errorf("note the state of VM %q on its disk: %w", next.Hostname, diskRefusal(err))
	}
	k.label = next
	return nil
}

// keepState notes on v's disk, when it has one that is kept, what is to become
// of v after the daemon. A VM that has ended is never noted as running, and
// neither is one that was to be noted as stopped, as it is about to end.
func (d *Daemon) keepState(v *vm, state keptState) error {
	if v.keep == nil {
		return nil
	}
	v.keep.mu.Lock()
	defer v.keep.mu.Unlock()
	if state == keptRunning && (v.keep.shut == v || isClosed(v.over) && !isClosed(d.closing)) {
		state = keptStopped
	}
	if state == keptStopped {
		v.keep.shut = v
	}
	return d.relabelLocked(v.keep, func(l *vmLabel) { l.State = state })
}

// release ends v's guest and gives back what it held, once. The caller has v's
// turn.
func (d *Daemon) release(ctx context.Context, v *vm) error {
	if v.released {
		return nil
	}
	if err := v.guest.Stop(ctx); err != nil {
		return fmt.Errorf("stop VM %q: %w", v.hostname, err)
	}
	v.released = true
	return nil
}

// stop ends v and what it runs, because of why. A persistent VM stays, stopped, another is
// forgotten as by destroy. It returns errGone when v isn't there any more, or
// has been relaunched.
func (d *Daemon) stop(ctx context.Context, v *vm, why string) error {
	if v.keep == nil {
		return d.destroy(ctx, v, why)
	}
	v.finish(why)
	if err := v.lock(ctx); err != nil {
		return err
	}
	defer v.unlock()
	if !d.vms.holds(v) {
		return errGone
	}
	return d.release(ctx, v)
}

// rest cleans up after a persistent VM whose guest has ended, and notes on the
// disk when it did so by itself.
func (d *Daemon) rest(v *vm, byItself bool) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := v.lock(ctx); err != nil {
		d.log.Error("ended VM could not be cleaned up", "vm", v.hostname, "err", err)
		return
	}
	defer v.unlock()
	if !d.vms.holds(v) {
		return // relaunched or deleted meanwhile
	}
	if err := d.release(ctx, v); err != nil {
		d.log.Error("ended VM could not be cleaned up", "vm", v.hostname, "err", err)
	}
	if !byItself {
		return
	}
	if err := d.keepState(v, keptStopped); err != nil && !errors.Is(err, errGone) {
		d.log.Error("the end of a VM could not be noted: it will be booted at the next start", "vm", v.hostname, "err", err)
	}
}

// removeDisk removes the disk that is kept of a VM.
func (d *Daemon) removeDisk(ctx context.Context, k *keeping) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := d.hypervisor.RemoveDisk(ctx, k.disk); err != nil {
		return fmt.Errorf("remove the disk of VM %q: %w", k.label.Hostname, diskRefusal(err))
	}
	k.removed = true
	return nil
}

// checkDisks refuses a call that needs disks which this daemon can't have.
func (d *Daemon) checkDisks() error {
	if d.disksErr != nil {
		return fmt.Errorf("list the disks that are kept: %w", diskRefusal(d.disksErr))
	}
	return nil
}

// diskRefusal turns an error of the hypervisor's disks into a refusal, where
// it says something that a client can do.
func diskRefusal(err error) error {
	switch {
	case errors.Is(err, ErrDisksBusy):
		return refuse(http.StatusConflict, "another server uses the same state folder, where persistent VMs and commits are; "+
			"stop that server, or name another folder with --state-dir, and start this one again")
	case errors.Is(err, errors.ErrUnsupported):
		return refuse(http.StatusNotImplemented, "this daemon keeps no disks, so it has no persistent VMs and no commits")
	}
	return err
}
