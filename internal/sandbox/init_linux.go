package sandbox

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// agentName is argv[0] of every process that this package starts by executing
// the program again; argv[1] is the stage.
const agentName = "slicer-agent"

const (
	stageMapped = "mapped" // waits until its ids are mapped, then becomes the stage in argv[2]
	stageSetup  = "setup"  // builds the root, drops privileges, becomes stageAgent
	stageAgent  = "agent"  // pid 1 of the guest
	stageRemove = "remove" // removes a folder, in a user namespace
	stageCopy   = "copy"   // copies the files of a guest, likewise
)

const controlFD = 3

// bootConfig is what the setup stage needs to know.
type bootConfig struct {
	Dir      string   `json:"dir"`       // the folder on the host that is the guest's disk
	Used     bool     `json:"used"`      // a guest has been on the disk before: nothing on it can be trusted
	Was      string   `json:"was"`       // that guest's hostname
	AgentDir string   `json:"agent_dir"` // the layers with the agent's program, relative to Dir
	EtcDir   string   `json:"etc_dir"`   // the filtered copy of /etc
	Hostname string   `json:"hostname"`  //
	Idmap    idmap    `json:"idmap"`     //
	HostDirs []string `json:"host_dirs"` // /usr, /opt, …: shown below the guest's own layer
	Links    []link   `json:"links"`     // /bin → usr/bin, …
	SudoDir  string   `json:"sudo_dir"`  // what guests have above the host's /usr; "" is nothing

	FoldersDir string `json:"folders_dir"` // folders that guests have above those of HostDirs; "" is nothing

	HostNetwork bool   `json:"host_network"`
	Resolver    []byte `json:"resolver"` // the text of resolv.conf

	MaxProcesses int   `json:"max_processes"` // of each of the guest's users; 0 is no limit
	RAMBytes     int64 `json:"ram_bytes"`     // the guest's memory; 0 is no limit
}

type link struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

// RunIfInit takes the process over when it was started as a part of a guest,
// and doesn't return then. It must be the first thing that a program does, and
// does nothing in any other process.
func RunIfInit() {
	if len(os.Args) > 1 && os.Args[0] == shimName && os.Args[1] == "sudo" {
		os.Exit(runShim(os.Args[2:]))
	}
	if len(os.Args) < 2 || os.Args[0] != agentName {
		return
	}
	runtime.LockOSThread()
	err := dropInherited()
	if err == nil {
		err = runStage(os.Args[1], os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, agentName+": "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// dropInherited keeps descriptors that the server itself was started with, by
// a client that leaks them, from everything that this process executes.
func dropInherited() error {
	if err := unix.CloseRange(controlFD+1, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("drop inherited descriptors (needs Linux 5.11): %w", err)
	}
	return nil
}

func runStage(stage string, args []string) error {
	switch stage {
	case stageMapped:
		return runMapped(args)
	case stageRemove:
		return runRemove(args)
	case stageCopy:
		return runCopy(args)
	case stageSetup:
		control, err := controlConn(true)
		if err != nil {
			return err
		}
		err = runSetup(control)
		r := &reply{}
		r.failedWithText(err)
		_ = writeFrame(control, r) // if the daemon is gone nobody is left to tell
		return err
	case stageAgent:
		if len(args) != 1 {
			return errors.New("agent: one argument is needed")
		}
		control, err := controlConn(false)
		if err != nil {
			return err
		}
		return runAgent(control, idmapKind(args[0]))
	}
	return fmt.Errorf("unknown stage %q", stage)
}

// controlConn opens the control socket. Its descriptor stays open for the next
// stage where keep says so.
func controlConn(keep bool) (*net.UnixConn, error) {
	fd := controlFD
	if keep {
		var err error
		if fd, err = unix.FcntlInt(controlFD, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("open the control socket: %w", err)
		}
	}
	return connOf(os.NewFile(uintptr(fd), "control"))
}

// runMapped waits for one byte on standard input, which says that this
// process's ids have been mapped, and executes itself as the next stage: only
// execve gives the new root its capabilities.
func runMapped(next []string) error {
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err != nil {
		return fmt.Errorf("wait for the id map: %w", err)
	}
	return reexec("/proc/self/exe", next...)
}

// reexec executes this program again in this process, from the file program.
func reexec(program string, args ...string) error {
	argv := append([]string{agentName}, args...)
	err := syscall.Exec(program, argv, os.Environ())
	return fmt.Errorf("execute the next stage: %w", err)
}
