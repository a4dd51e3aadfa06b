package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// relay carries bytes between the caller's terminal and the command's own. The
// caller's is raw meanwhile: keys mean what they mean to the command's.
type relay struct {
	master *os.File
	saved  *unix.Termios // of the caller's terminal, while that is raw
	typing bool          // keys are being copied
	copied chan struct{} // closed when the command's output has ended
}

// newRelay takes the master side over.
func newRelay(received *os.File) (*relay, error) {
	master, err := pollable(received)
	if err != nil {
		return nil, fmt.Errorf("take the terminal over: %w", err)
	}
	r := &relay{master: master, copied: make(chan struct{})}
	r.attach()
	go func() {
		defer close(r.copied)
		buf := make([]byte, copyBytes)
		// That nobody has the terminal open any more is an error too.
		err := copyOutput(os.Stdout, master, buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = drainLate(os.Stdout, master, buf)
		}
	}()
	return r, nil
}

// pollable opens a received file so that its reads can be ended.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// attach makes the caller's terminal raw and reads its keys, if this process
// is in the foreground there. Elsewhere either would stop it.
func (r *relay) attach() {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil || group != unix.Getpgrp() || r.saved != nil {
		return
	}
	state, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return
	}
	raw := *state
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(0, unix.TCSETSW, &raw) != nil {
		return
	}
	r.saved = state
	r.resize()
	if !r.typing {
		r.typing = true
		go func() { _, _ = io.Copy(r.master, os.Stdin) }() // ends with the process
	}
}

// detach gives the caller's terminal back.
func (r *relay) detach() {
	if r.saved == nil {
		return
	}
	_ = unix.IoctlSetTermios(0, unix.TCSETSW, r.saved) // a terminal that has gone needs nothing
	r.saved = nil
}

func (r *relay) resize() {
	_ = resize(r.master, terminalSize(0)) // a terminal of the old size is still one
}

// finish waits for what the command has written and gives the terminal back.
func (r *relay) finish() {
	_ = r.master.SetReadDeadline(time.Unix(1, 0)) // wakes the copy; it takes what is there
	<-r.copied
	r.detach()
}
