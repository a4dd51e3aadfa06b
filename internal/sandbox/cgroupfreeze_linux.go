package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// frozenGroup is the group below a guest's in cgroup v2 that its processes are
// frozen in: its agent stays outside and goes on answering.
const frozenGroup = "frozen"

// canFreeze says whether the kernel freezes the guest's processes. They and
// their parents see nothing of it, unlike of SIGSTOP, and one that is killed
// meanwhile ends: the freezer of v1 would keep it, and isn't used.
func (g *cgroup) canFreeze() bool {
	p := g.v2()
	return p != nil && unix.Access(filepath.Join(p.dir, "cgroup.freeze"), unix.W_OK) == nil
}

// freeze stops every process of the guest but its agent.
func (g *cgroup) freeze(ctx context.Context, agent int) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	g.freezeMu.Lock()
	defer g.freezeMu.Unlock()
	if g.removed {
		return daemon.ErrEnded
	}
	dir := filepath.Join(g.v2().dir, frozenGroup)
	err := os.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if err := g.stopIn(ctx, dir, agent); err != nil {
		return errors.Join(fmt.Errorf("freeze processes: %w", err), writeKnob(dir, "cgroup.freeze", "0"))
	}
	return nil
}

// stopIn moves the guest's processes to dir, freezes it, and moves what has
// been started meanwhile.
func (g *cgroup) stopIn(ctx context.Context, dir string, agent int) error {
	moved := map[string]bool{strconv.Itoa(agent): true}
	if err := g.moveAll(ctx, dir, moved); err != nil {
		return err
	}
	if err := writeKnob(dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	if err := g.moveAll(ctx, dir, moved); err != nil {
		return err
	}
	p := &cgroupPart{dir: dir}
	for p.count("cgroup.events", "frozen") != 1 {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// moveAll moves processes to dir until none is left that isn't among moved: one
// may fork while it is being moved.
func (g *cgroup) moveAll(ctx context.Context, dir string, moved map[string]bool) error {
	for more := true; more; {
		more = false
		for _, pid := range words(g.v2().dir, "cgroup.procs") {
			if moved[pid] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if pid == "0" {
				return errors.New("a process can't be seen from here") // and 0 would be this one
			}
			if err := writeKnob(dir, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			moved[pid], more = true, true
		}
	}
	return nil
}

// pause waits a moment, or for the end of ctx.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond):
		return nil
	}
}

// thaw lets the guest's processes go on.
func (g *cgroup) thaw() error {
	g.freezeMu.Lock()
	defer g.freezeMu.Unlock()
	if g.removed {
		return daemon.ErrEnded
	}
	err := writeKnob(filepath.Join(g.v2().dir, frozenGroup), "cgroup.freeze", "0")
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was never frozen
	}
	return err
}
