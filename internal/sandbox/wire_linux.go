package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// The daemon and a guest's agent talk over a Unix socket pair. A frame is a
// big-endian 32-bit length and that many bytes of JSON; file descriptors
// travel with a frame's first byte. Requests carry an id that the reply
// repeats; a frame with id 0 and an Exit is the end of a process.

const (
	maxFrameBytes = 32 << 20
	maxFrameFiles = 3
)

// request is a frame from the daemon to the agent.
type request struct {
	ID     uint64       `json:"id"`
	Op     string       `json:"op"`
	Name   string       `json:"name,omitempty"`
	Exec   *execRequest `json:"exec,omitempty"`
	Attr   *attr        `json:"attr,omitempty"`
	Handle uint64       `json:"handle,omitempty"` // a process or a file being written
	Signal int          `json:"signal,omitempty"`
	Limit  int          `json:"limit,omitempty"`
	Flag   bool         `json:"flag,omitempty"` // recursive, parents, follow
	Data   []byte       `json:"data,omitempty"`

	Network string            `json:"network,omitempty"` // of a dial, whose address is Name
	Watch   *daemon.WatchSpec `json:"watch,omitempty"`

	Size daemon.TerminalSize `json:"size,omitzero"` // of a terminal
}

// execRequest is a daemon.Command without its streams, which travel as file
// descriptors in the order stdin, stdout, stderr.
type execRequest struct {
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"`
	Dir   string   `json:"dir,omitempty"`
	UID   *uint32  `json:"uid,omitempty"`
	GID   *uint32  `json:"gid,omitempty"`
	Stdin bool     `json:"stdin,omitempty"` // false: no descriptor, an empty input
}

// attr is a daemon.FileAttr.
type attr struct {
	Mode    uint32    `json:"mode,omitempty"`
	UID     *uint32   `json:"uid,omitempty"`
	GID     *uint32   `json:"gid,omitempty"`
	ModTime time.Time `json:"mod_time,omitzero"`
}

// reply is a frame from the agent to the daemon.
type reply struct {
	ID      uint64            `json:"id"`
	Errno   int               `json:"errno,omitempty"`
	Error   string            `json:"error,omitempty"`
	Overlay bool              `json:"overlay,omitempty"` // the error wraps errOverlay
	Handle  uint64            `json:"handle,omitempty"`
	Pid     int               `json:"pid,omitempty"`
	Info    *daemon.FileInfo  `json:"info,omitempty"`
	Entries []daemon.FileInfo `json:"entries,omitempty"`
	Exit    *exitEvent        `json:"exit,omitempty"`

	Stats *daemon.GuestStats `json:"stats,omitempty"`
}

// exitEvent tells that a process has ended.
type exitEvent struct {
	Handle uint64 `json:"handle"`
	Code   int    `json:"code"`
	Signal int    `json:"signal,omitempty"`
}

// err turns a reply's failure into an error: the errno itself where there is
// one, so that callers can test for it.
func (r *reply) err() error {
	switch {
	case r.Overlay:
		return fmt.Errorf("%w (%s): %w", errOverlay, r.Error, syscall.Errno(r.Errno))
	case r.Errno != 0 && r.Error != "":
		return fmt.Errorf("%s: %w", r.Error, syscall.Errno(r.Errno))
	case r.Errno != 0:
		return syscall.Errno(r.Errno)
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

// failed fills in a reply's failure. A path error's text is left to the
// daemon, which knows the path.
func (r *reply) failed(err error) {
	r.failedWithText(err)
	var path *fs.PathError
	if errors.As(err, &path) {
		r.Error = ""
	}
}

// failedWithText fills in a reply's failure, its text included.
func (r *reply) failedWithText(err error) {
	r.Error = err.Error()
	r.Overlay = errors.Is(err, errOverlay)
	var errno syscall.Errno
	if errors.As(err, &errno) {
		r.Errno = int(errno)
		r.Error = strings.TrimSuffix(strings.TrimSuffix(r.Error, errno.Error()), ": ")
	}
}

// writeFrame sends v as one frame, with files. Callers serialise it.
func writeFrame(c *net.UnixConn, v any, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return writeFrameWith(c, v, fds...)
}

// writeFrameWith is writeFrame with descriptors that are left as they are.
func writeFrameWith(c *net.UnixConn, v any, fds ...int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	if len(body) > maxFrameBytes {
		return fmt.Errorf("frame of %d bytes is over %d: %w", len(body), maxFrameBytes, syscall.E2BIG)
	}
	buf := make([]byte, 4+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	copy(buf[4:], body)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(buf, oob, nil)
	if err != nil {
		return err
	}
	if n < len(buf) {
		_, err = c.Write(buf[n:])
	}
	return err
}

// readFrame reads one frame into v and returns the files that came with it,
// which are the caller's to close.
func readFrame(c *net.UnixConn, v any) (files []*os.File, err error) {
	return readFrameUpTo(c, v, maxFrameBytes)
}

// readFrameUpTo is readFrame for frames of at most limit bytes.
func readFrameUpTo(c *net.UnixConn, v any, limit uint32) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	var head [4]byte
	for got := 0; got < len(head); {
		oob := make([]byte, unix.CmsgSpace(maxFrameFiles*4))
		n, oobn, flags, _, rerr := c.ReadMsgUnix(head[got:], oob)
		fs, perr := receivedFiles(oob[:oobn])
		files = append(files, fs...)
		switch {
		case perr != nil:
			return files, perr
		case rerr != nil:
			return files, rerr
		case n == 0:
			return files, io.EOF
		case flags&unix.MSG_CTRUNC != 0 || len(files) > maxFrameFiles:
			return files, errors.New("too many descriptors in a frame")
		}
		got += n
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > limit {
		return files, fmt.Errorf("frame of %d bytes is over %d", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return files, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return files, fmt.Errorf("decode frame: %w", err)
	}
	return files, nil
}

// receivedFiles takes the descriptors out of a control message.
func receivedFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another kind of control message carries no descriptor
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// socketPair returns the two ends of a frame connection.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "agent")
	ours, err = connOf(os.NewFile(uintptr(fds[0]), "daemon"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// connOf makes a connection of a socket's file, which it closes.
func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a Unix socket")
	}
	return u, nil
}
