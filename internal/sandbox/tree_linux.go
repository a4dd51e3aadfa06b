package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// removeAll removes a folder and all below it. Files in it may belong to ids
// that only a user namespace lets this process touch.
func (h *Hypervisor) removeAll(dir string) error {
	err := removeTree(dir)
	if err != nil && h.idmap.Kind != idmapRoot {
		err = h.runStage(context.Background(), stageRemove, dir)
	}
	if err != nil {
		return fmt.Errorf("remove a guest's files: %w", err)
	}
	return nil
}

// copyTree copies the files of the guest's folder from into the folder to, with
// all that an overlay's layer is made of. ctx's end ends it; what it has copied
// by then is the caller's to remove.
func (h *Hypervisor) copyTree(ctx context.Context, from, to string) error {
	return h.runStage(ctx, stageCopy, strconv.Itoa(os.Getpid()), from, to)
}

// runStage runs a stage to its end, as root of a user namespace like the
// guests' own.
func (h *Hypervisor) runStage(ctx context.Context, args ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := h.command()
	out := &lastBytes{}
	cmd.Stdout, cmd.Stderr = out, out
	mapped, err := h.idmap.namespaced(cmd, 0, args...)
	if err == nil {
		err = h.threads.start(cmd)
	}
	if err != nil {
		return err
	}
	if err := mapped(); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	stop := context.AfterFunc(ctx, func() {
		_ = cmd.Process.Kill() // fails when it has just ended
	})
	err = cmd.Wait()
	if !stop() && err != nil {
		return ctx.Err()
	}
	if err != nil {
		return h.stageError(err, out.text)
	}
	return nil
}

// stageError is the error of a stage whose last words are text. A program's own
// aren't passed on: they have paths of the host's, which a guest makes as long
// as it likes.
func (h *Hypervisor) stageError(err error, text []byte) error {
	lines := strings.TrimSpace(string(text))
	line := lines[strings.LastIndexByte(lines, '\n')+1:]
	if strings.HasPrefix(line, agentName+": ") {
		return fmt.Errorf("%w: %s", err, line)
	}
	h.log.Warn("a guest's files can't be copied", "reason", line)
	reason := line[strings.LastIndex(line, ": ")+1:]
	for _, known := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.ENAMETOOLONG} {
		if strings.EqualFold(strings.TrimSpace(reason), known.Error()) {
			err = known
		}
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		return fmt.Errorf("folders are nested too deep for a copy, which needs paths under 4,096 bytes: %w", err)
	}
	return fmt.Errorf("copying files failed: %w", err)
}

// runRemove removes a folder and all below it.
func runRemove(args []string) error {
	if len(args) != 1 {
		return errors.New("remove: one argument is needed")
	}
	return removeTree(args[0])
}

// runCopy becomes the cp that copies the files in args[1] into args[2]. args[0]
// is the server's process id: the copy ends with it.
func runCopy(args []string) error {
	if len(args) != 3 {
		return errors.New("copy: three arguments are needed")
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if strconv.Itoa(os.Getppid()) != args[0] {
		return errors.New("the server has ended")
	}
	cp, err := exec.LookPath("cp")
	if err != nil {
		return fmt.Errorf("copying disks needs the program cp of GNU coreutils: %w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("give way to guests: %w", err)
	}
	// Naming xattr makes one that can't be copied an error: without those of
	// its overlays a disk isn't whole.
	argv := []string{"cp", "-a", "--preserve=xattr", "--reflink=auto", "--sparse=auto", "--"}
	for _, part := range []string{"root", "layers"} {
		argv = append(argv, filepath.Join(args[1], part))
	}
	err = syscall.Exec(cp, append(argv, args[2]), os.Environ())
	return fmt.Errorf("execute %s: %w", cp, err)
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct{ text []byte }

func (w *lastBytes) Write(p []byte) (int, error) {
	const limit = 8 << 10 // a line with a path fits
	w.text = append(w.text, p[max(0, len(p)-limit):]...)
	w.text = w.text[max(0, len(w.text)-limit):]
	return len(p), nil
}
