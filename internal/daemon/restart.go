package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// parallelBoots is how many of the kept VMs are booted at once.
	parallelBoots = 4
	// bootAgainTimeout is how long one of them may take.
	bootAgainTimeout = 30 * time.Second
	// killedCode is the exit code of a userdata script that was ended.
	killedCode = 128 + 9
	// listTimeout bounds the listing of the disks.
	listTimeout = time.Minute
)

// loadDisks brings back the persistent VMs and the commits of earlier daemons.
// What can't be had back stays on its disk and is logged.
func (d *Daemon) loadDisks(ctx context.Context) {
	listing, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	disks, err := d.hypervisor.Disks(listing)
	if err != nil {
		d.disksErr = err
		d.log.Warn("there are no persistent VMs and no commits", "err", err)
		return
	}
	var kept []vmLabel
	for _, disk := range disks {
		if l, ok := d.loadDisk(listing, disk); ok {
			kept = append(kept, l)
		}
	}
	slices.SortFunc(kept, func(a, b vmLabel) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var running []*vm
	for _, l := range kept {
		v, err := d.vms.adopt(d.keptVM(l))
		if err != nil {
			d.log.Error("persistent VM is left on its disk", "vm", l.Hostname, "err", err)
			continue
		}
		if l.State == keptRunning {
			running = append(running, v)
		}
	}
	d.bootKept(ctx, running)
}

// loadDisk reads one disk's label. It returns that of a VM which is to come
// back; a commit it takes in.
func (d *Daemon) loadDisk(ctx context.Context, disk Disk) (l vmLabel, ok bool) {
	hostname, isVM := strings.CutPrefix(disk.Name, vmDisk)
	var err error
	switch {
	case isVM:
		d.vms.skipNumber(hostname)
		l, err = readVMLabel(disk)
		if err == nil && l.State == keptCreating {
			d.log.Warn("disk of a VM whose creation did not end is removed", "disk", disk.Name)
			if err := d.hypervisor.RemoveDisk(ctx, disk.Name); err != nil {
				d.log.Error("disk could not be removed", "disk", disk.Name, "err", err)
			}
			return l, false
		}
		if err == nil {
			_, err = d.group(l.HostGroup)
		}
	case strings.HasPrefix(disk.Name, commitDisk):
		var c commitLabel
		if c, err = readCommitLabel(disk); err == nil {
			d.commits.add(c)
		}
	default:
		err = errors.New("its name is not that of a VM's or a commit's")
	}
	if err != nil {
		d.log.Error("disk is left alone", "disk", disk.Name, "err", err)
	}
	return l, isVM && err == nil
}

// keptVM is the record of a persistent VM that is stopped. It is no larger
// than its group allows.
func (d *Daemon) keptVM(l vmLabel) *vm {
	v := &vm{
		hostname:     l.Hostname,
		group:        l.HostGroup,
		ip:           l.IP,
		cpus:         l.CPUs,
		ramBytes:     l.RAMBytes,
		createdAt:    l.CreatedAt,
		tags:         l.Tags,
		grants:       l.Secrets,
		override:     l.Network,
		parentCommit: l.ParentCommit,
		keep:         &keeping{disk: vmDisk + l.Hostname, label: l},
		userdata:     newUserdata(""),
		console:      new(console),
		turn:         make(chan struct{}, 1),
		over:         make(chan struct{}),
		released:     true,
	}
	for i := range d.groups {
		if g := &d.groups[i]; g.Name == l.HostGroup {
			v.cpus, v.ramBytes = min(v.cpus, g.CPUs), min(v.ramBytes, g.RAMBytes)
		}
	}
	if v.cpus != l.CPUs || v.ramBytes != l.RAMBytes {
		d.log.Warn("persistent VM is cut to the size of its host group", "vm", v.hostname, "host_group", v.group,
			"cpus", v.cpus, "cpus_before", l.CPUs, "ram_bytes", v.ramBytes, "ram_bytes_before", l.RAMBytes)
	}
	if l.Userdata != nil {
		v.userdata.given, v.userdata.code = true, killedCode // ended with its daemon
		if l.Userdata.ExitCode != nil {
			v.userdata.code = *l.Userdata.ExitCode
		}
	}
	v.finish("it was stopped")
	return v
}

// adopt takes v, which an earlier daemon had, into the table, under the address
// that it had if that is free.
func (t *vmTable) adopt(v *vm) (*vm, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vms[v.hostname] != nil {
		return nil, fmt.Errorf("there is another VM %q", v.hostname)
	}
	if err := t.checkName(v.tags, nil); err != nil {
		return nil, err
	}
	host, err := parseAddress(v.ip)
	if err != nil || t.hosts[host] {
		if host, err = t.freeHost(); err != nil {
			return nil, err
		}
	}
	t.hosts[host] = true
	v.ip = address(host)
	t.serial++
	v.serial = t.serial
	t.vms[v.hostname] = v
	t.found[v.hostname] = true
	return v, nil
}

// skipNumber keeps the number in a hostname, if it has one, from being given
// to another VM.
func (t *vmTable) skipNumber(hostname string) {
	group, n, ok := hostNumber(hostname)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counted[group] = max(t.counted[group], n)
}

// replace puts next into the place of v, with v's tags.
func (t *vmTable) replace(v, next *vm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next.tags = v.tags
	t.vms[v.hostname] = next
	t.booted[v.group]++
}

// bootKept boots VMs that ran when an earlier daemon ended, some at a time, and
// returns when all run or have failed to. When ctx ends, those that don't run yet
// are left to the next daemon.
func (d *Daemon) bootKept(ctx context.Context, vms []*vm) {
	var group errgroup.Group
	group.SetLimit(parallelBoots)
	for _, v := range vms {
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			booting, cancel := context.WithTimeoutCause(ctx, bootAgainTimeout,
				fmt.Errorf("it was not ready within %s", bootAgainTimeout))
			defer cancel()
			if err := v.lock(booting); err != nil {
				return nil // nobody else has it yet
			}
			defer v.unlock()
			if _, err := d.bootAgain(booting, v); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				v.console.line("slicer: %s was not booted with the daemon: %v", v.hostname, err)
				d.log.Error("persistent VM did not boot; it is stopped", "vm", v.hostname, "err", err)
				return nil
			}
			d.log.Info("persistent VM runs again", "vm", v.hostname)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
}
