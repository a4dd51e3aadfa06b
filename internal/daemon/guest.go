package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"
)

// Hypervisor makes the guests behind the daemon's VMs. Implementations are
// the Linux namespaces of internal/sandbox and the scripted guest of
// sdk/slicertest. All methods are safe for concurrent use.
type Hypervisor interface {
	// Boot starts a guest and returns once its agent answers. When it
	// returns an error nothing of the guest is left. ctx bounds the boot
	// alone: a guest outlives it.
	Boot(ctx context.Context, spec GuestSpec) (Guest, error)

	// Disks lists the disks that are kept, those of earlier daemons among
	// them. What has the name of a disk and can't be used has no label. The
	// error, and that of the methods below, wraps ErrDisksBusy when another
	// daemon has them.
	Disks(ctx context.Context) ([]Disk, error)

	// CopyDisk makes a disk called to, with the given label, out of one that
	// no guest uses. When it returns an error there is no disk called to.
	CopyDisk(ctx context.Context, from, to string, label []byte) error

	// LabelDisk replaces a disk's label, at once or not at all.
	LabelDisk(ctx context.Context, name string, label []byte) error

	// RemoveDisk removes a disk that no guest uses. One that isn't there is no
	// error.
	RemoveDisk(ctx context.Context, name string) error

	// Close releases what the hypervisor itself holds. The daemon calls it
	// once, after every guest has been stopped.
	Close() error
}

// GuestSpec says which guest to boot.
type GuestSpec struct {
	Hostname string
	CPUs     int
	RAMBytes int64
	Secrets  []SecretFile // placed under /run/slicer/secrets before Boot returns

	// Disk names the disk that the guest's files are on and that stays when it
	// stops. One that isn't there is made, and is removed again when the boot
	// fails. "" is a disk that goes with the guest.
	Disk      string
	DiskLabel []byte // of a disk that is made

	// Base names the disk that a new one begins as a copy of; the error wraps
	// fs.ErrNotExist when there is none. "" is the image.
	Base string
}

// Disk is what is kept of a guest's files while no guest uses them. Its name
// has lower-case letters, digits and hyphens, 100 at most.
type Disk struct {
	Name  string
	Label []byte // what the daemon keeps with the disk, 1 MiB at most
}

// ErrDisksBusy says that another daemon has the disks.
var ErrDisksBusy = errors.New("another daemon uses these disks")

// SecretFile is one file under /run/slicer/secrets.
type SecretFile struct {
	Name     string
	Data     []byte
	Mode     fs.FileMode // permission bits only
	UID, GID uint32
}

// IDError is the error of a call that names a user or group which a guest can't
// have.
type IDError struct{ ID, Largest uint32 }

func (e *IDError) Error() string {
	return fmt.Sprintf("VMs of this daemon have users and groups from 0 to %d, and no %d", e.Largest, e.ID)
}

// ErrEnded is what calls on a guest whose processes have ended wrap.
var ErrEnded = errors.New("the VM has ended")

// Guest is what runs inside one VM: processes and a file tree. The daemon
// serialises Freeze, Thaw and Stop, and calls nothing but Thaw, Stop and Done
// on a frozen guest.
type Guest interface {
	// Start runs a command. The process's standard streams are the
	// Command's; Start returns when the program has been executed, or with
	// an error that says why it could not be.
	Start(ctx context.Context, cmd *Command) (Process, error)

	// Files is the guest's file tree, as its root user sees it.
	Files() FileTree

	// PutSecret writes or replaces a file under /run/slicer/secrets;
	// RemoveSecret removes it. A secret that isn't there is no error.
	PutSecret(ctx context.Context, s SecretFile) error
	RemoveSecret(ctx context.Context, name string) error

	// Terminal runs a command on a pseudo-terminal of its own, which is its
	// controlling terminal; the Command's streams are not used.
	Terminal(ctx context.Context, cmd *Command, size TerminalSize) (Terminal, error)

	// Dial connects to an address inside the guest. network is "tcp" or
	// "unix"; a name is resolved inside the guest.
	Dial(ctx context.Context, network, address string) (net.Conn, error)

	// Watch reports changes of files until its context ends or it is closed.
	Watch(ctx context.Context, spec WatchSpec) (Watch, error)

	// Stats measures the guest's use of the machine.
	Stats(ctx context.Context) (GuestStats, error)

	// Freeze stops every process of the guest where it stands; Thaw lets
	// them go on.
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error

	// Stop ends every process and releases the guest's resources, and its disk
	// unless that is kept. It returns when nothing is left, also for a guest
	// that has ended.
	Stop(ctx context.Context) error

	// Done is closed when the guest's processes have ended, by Stop or by
	// themselves. What it held may still be being released.
	Done() <-chan struct{}

	// EndReason says, once Done is closed, why the guest ended by itself, as in
	// "it used up its memory of 64 MiB"; "" when that isn't known, or it was
	// stopped.
	EndReason() string

	// Uptime is how long the guest has run.
	Uptime() time.Duration

	// Unenforced says which sizes of its spec the guest isn't held to, and
	// which of the owners that calls ask for its files don't get, a line each
	// with the reason; none when all holds.
	Unenforced() []string
}

// Command is a program to run in a guest.
type Command struct {
	Argv []string // Argv[0] is looked up in the guest's PATH when it has no slash
	Env  []string // KEY=VALUE, added to the user's ordinary environment
	Dir  string   // working folder; "" is the user's home, a leading ~ is expanded

	// UID and GID to run as. A nil UID is the guest's ordinary user
	// (ubuntu, 1000); a nil GID is the user's own group.
	UID, GID *uint32

	// Stdin is what the process reads; nil is an empty input. Stdout and
	// Stderr take what it writes; nil discards. Each is used by one
	// goroutine at a time, and not after Wait has returned.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Process is a running command.
type Process interface {
	// Pid is its process id inside the guest.
	Pid() int

	// Wait returns how the process ended, after all that it had written by
	// then has been copied to the Command's Stdout and Stderr. It is called
	// once. It doesn't wait for a Read of Stdin that blocks: where Stdin is an
	// io.Closer, the caller closes it after Wait, and reads then end.
	Wait() (ExitStatus, error)

	// Signal sends a signal ("TERM", "KILL", …) to the process group. It is
	// a no-op on a process that has ended.
	Signal(name string) error
}

// ExitStatus says how a process ended.
type ExitStatus struct {
	Code   int    // exit code; 128+n when a signal ended it
	Signal string // "KILL", "TERM", …; "" when the process exited by itself
}

// TerminalSize is a terminal's size in characters.
type TerminalSize struct {
	Rows, Cols uint16
}

// Terminal is a running command and the master side of its terminal. Read and
// Write go to the terminal; Read ends with io.EOF when nobody has it open.
// Close hangs it up. Wait's status comes once, as Process's does.
type Terminal interface {
	io.ReadWriteCloser
	Resize(size TerminalSize) error
	Pid() int
	Signal(name string) error
	Wait() (ExitStatus, error)
}

// WatchSpec says what to watch. Names are absolute and clean; a name that
// doesn't exist is an error that wraps fs.ErrNotExist.
type WatchSpec struct {
	Paths     []string
	Recursive bool // folders below, also those made later
}

// Watch is a running watch. Next blocks until a change comes, the watch's
// context ends (its error) or the guest does. Changes that were lost because
// nobody read them come as one with Op WatchOverflow.
type Watch interface {
	Next() (WatchChange, error)
	Close() error
}

// WatchOp is a kind of change.
type WatchOp string

// The kinds of change, as the API names them.
const (
	WatchCreate   WatchOp = "create"
	WatchWrite    WatchOp = "write"
	WatchRemove   WatchOp = "remove"
	WatchRename   WatchOp = "rename"
	WatchChmod    WatchOp = "chmod"
	WatchOverflow WatchOp = "overflow"
)

// WatchChange is one change.
type WatchChange struct {
	Op   WatchOp
	Path string // absolute
	Dir  bool   // the entry is a folder
	Size int64  // of a regular file, where it could be told
}

// GuestStats is what a guest uses. Where a figure can't be had it is zero.
type GuestStats struct {
	CPUs                          int
	Uptime                        time.Duration
	MemoryTotal, MemoryUsed       uint64 // bytes
	Load1, Load5, Load15          float64
	DiskTotal, DiskUsed           uint64 // bytes, of the file system that the disk is on
	DiskReadBytes, DiskWriteBytes float64
	NetReadBytes, NetWriteBytes   float64
	OpenConnections, OpenFiles    int64
	Processes                     int64
}

// FileTree is a guest's files. Names are absolute, slash-separated and clean;
// they are resolved inside the guest, symlinks included. Errors wrap the
// fs.Err… sentinels, and syscall.ENOTDIR or ENOTEMPTY where those fit.
type FileTree interface {
	// Stat follows symlinks; Lstat does not.
	Stat(ctx context.Context, name string) (FileInfo, error)
	Lstat(ctx context.Context, name string) (FileInfo, error)

	// ReadDir lists a folder by name, up to limit entries (0 is no limit).
	ReadDir(ctx context.Context, name string, limit int) ([]FileInfo, error)

	// Open reads a regular file. The reader is the caller's to close.
	Open(ctx context.Context, name string) (io.ReadCloser, FileInfo, error)

	// Create writes a regular file that takes name's place, whatever file
	// stood there, when Commit is called.
	Create(ctx context.Context, name string, attr FileAttr) (FileWriter, error)

	// Mkdir makes a folder; with parents it also makes the missing ones
	// above and takes an existing folder as success.
	Mkdir(ctx context.Context, name string, attr FileAttr, parents bool) error

	// Symlink makes a symlink with the text target that takes name's place,
	// whatever file or symlink stood there. attr's Mode is not used.
	Symlink(ctx context.Context, name, target string, attr FileAttr) error

	// Remove removes a file or an empty folder; with recursive, what is in
	// it too. A symlink is removed itself.
	Remove(ctx context.Context, name string, recursive bool) error
}

// FileInfo describes one entry of a FileTree.
type FileInfo struct {
	Name     string // base name
	Size     int64
	Mode     fs.FileMode // type and permission bits
	ModTime  time.Time
	UID, GID uint32
	Target   string // a symlink's text
}

// FileAttr is what a new file or folder gets. The zero values of Mode and
// ModTime stand for 0644 (0755 for a folder) and now; nil ids for the guest's
// ordinary user.
type FileAttr struct {
	Mode     fs.FileMode
	UID, GID *uint32
	ModTime  time.Time
}

// FileWriter is a file being written under a temporary name. One of Commit
// and Abort ends it; Abort after Commit does nothing.
type FileWriter interface {
	io.Writer
	Commit() error
	Abort()
}
