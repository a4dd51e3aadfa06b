package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// launched is a guest's first process, which waits for its configuration, and
// the groups that it is in.
type launched struct {
	cmd    *exec.Cmd
	mapped func() error // to be called next
	group  *cgroup
}

// launch starts the first process of the guest in dir with the namespaces that
// flags name. Its descriptors are control and console.
func (h *Hypervisor) launch(dir string, spec daemon.GuestSpec, flags uintptr, control, console *os.File) (*launched, error) {
	h.mu.Lock()
	processes := h.processes
	h.mu.Unlock()
	group, err := h.groups.add(filepath.Base(dir), spec, processes)
	if err != nil {
		return nil, err
	}
	l := &launched{group: group}
	start := func(folder *os.File) error {
		l.cmd = h.command()
		l.cmd.ExtraFiles = []*os.File{control}
		l.cmd.Stdout, l.cmd.Stderr = console, console
		if l.mapped, err = h.idmap.namespaced(l.cmd, flags, stageSetup); err != nil {
			return err
		}
		if folder != nil {
			l.cmd.SysProcAttr.UseCgroupFD = true
			l.cmd.SysProcAttr.CgroupFD = int(folder.Fd())
		}
		return h.threads.start(l.cmd)
	}
	born := false
	if p := group.v2(); p != nil && !h.groups.noClone.Load() {
		born = startInside(p.dir, start) == nil
		if !born {
			h.groups.noClone.Store(true)
		}
	}
	if !born {
		if err := start(nil); err != nil {
			_ = group.remove() // an empty group of its own; the next server would sweep it
			return nil, err
		}
	}
	group.join(l.cmd.Process.Pid, born)
	return l, nil
}

// startInside starts a process inside a group of cgroup v2, which spares the
// kernel a move that all its forks wait for. Where it doesn't work (before
// Linux 5.7, or behind a filter of system calls) the process is moved.
func startInside(dir string, start func(*os.File) error) error {
	folder, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	return start(folder)
}
