package sandbox_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The attacks that take more than one call.

// interfaceDown takes the guest's loopback down.
func interfaceDown() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return outcome(err)
	}
	ifr.SetUint16(0)
	return outcome(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}

// addInterface asks the kernel for a network interface.
func addInterface() string {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	// struct nlmsghdr and struct ifinfomsg, whose fields are all zero.
	message := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	binary.NativeEndian.PutUint16(message[4:], unix.RTM_NEWLINK)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return outcome(err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return fmt.Sprintf("an answer of %d bytes, %v", n, err)
	}
	errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:]))
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(unix.Errno(errno))
}

// reachAbstract connects to the abstract Unix socket that targetEnv names.
func reachAbstract() string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	return outcome(unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + filepath.Base(os.Getenv(targetEnv))}))
}

func makeNode(kind uint32, major, minor uint32) error {
	return unix.Mknod("/tmp/device", kind|0o666, int(unix.Mkdev(major, minor)))
}

// foreignDevices names the devices that aren't those of every guest.
func foreignDevices() string {
	harmless := []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
	var found []string
	err := filepath.WalkDir("/", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "/proc" || name == "/usr" {
			return fs.SkipDir
		}
		if entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		if entry.Type()&fs.ModeCharDevice == 0 || !slices.Contains(harmless, entry.Name()) && filepath.Dir(name) != "/dev/pts" {
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return none(found)
}

// segments tells whether the shared memory segment that targetEnv names is
// there.
func segments() string {
	id, err := strconv.Atoi(os.Getenv(targetEnv))
	if err != nil {
		return err.Error()
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &unix.SysvShmDesc{})
	return outcome(err)
}

// agentDescriptors names the agent's descriptors that can be seen or opened.
func agentDescriptors() string {
	var found []string
	for fd := range 64 {
		name := fmt.Sprintf("/proc/1/fd/%d", fd)
		to, err := os.Readlink(name)
		if err != nil {
			_, err = os.ReadFile(name)
		}
		if err == nil {
			found = append(found, name+" "+to)
		}
	}
	return none(found)
}

// foreignDescriptors names the descriptors that this process was started with
// beside its streams. What the Go runtime opens is known by what it is.
func foreignDescriptors() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return outcome(err)
	}
	var found []string
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name()) // every entry is a number
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || fd <= 2 || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			continue // the folder that was listed has been closed
		}
		found = append(found, e.Name()+" "+to)
	}
	return none(found)
}

// typeIntoTerminal puts a character into what another terminal reads.
func typeIntoTerminal() string {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(master)
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return outcome(err)
	}
	slave, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(slave)
	return outcome(unix.IoctlSetPointerInt(slave, unix.TIOCSTI, 'x'))
}

// breakOut leaves a chroot by the way that is open to whoever may enter one,
// and tells what it comes to: the guest's root, or what else.
func breakOut() string {
	own, err := os.Stat("/")
	if err != nil {
		return err.Error()
	}
	jail, err := os.MkdirTemp("/tmp", "jail")
	if err != nil {
		return err.Error()
	}
	folder, err := os.Open("/")
	if err == nil {
		err = unix.Chroot(jail)
	}
	if err == nil {
		err = folder.Chdir()
	}
	for i := 0; i < 100 && err == nil; i++ {
		err = unix.Chdir("..")
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err != nil {
		return outcome(err)
	}
	end, err := os.Stat("/")
	if err != nil || !os.SameFile(own, end) {
		return fmt.Sprintf("outside (%v)", err)
	}
	if _, err := os.Stat(os.Getenv(targetEnv)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("the host's folder is there (%v)", err)
	}
	return "the guest's root"
}

// writeOwnProgram writes to the program that this process runs, which is the
// agent's own when a script names /proc/self/exe as its interpreter.
func writeOwnProgram() string {
	f, err := os.OpenFile("/proc/self/exe", os.O_WRONLY, 0)
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{0}, 0)
	return outcome(err)
}

// ownProgram tries something on the program that this process runs, which must
// be the agent's.
func ownProgram(try func(*os.File) error) string {
	to, err := os.Readlink("/proc/self/exe")
	if err != nil || !strings.Contains(to, "slicer-agent") {
		return fmt.Sprintf("the program is %s (%v)", to, err)
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	return outcome(try(f))
}

// denied sets an access list that lets nobody execute: version 2, then the
// entries' tag, permissions and id.
func denied(f *os.File) error {
	list := []byte{2, 0, 0, 0}
	for _, tag := range []uint16{1, 4, 32} { // owner, group, others
		list = binary.LittleEndian.AppendUint16(list, tag)
		list = binary.LittleEndian.AppendUint16(list, 4)
		list = binary.LittleEndian.AppendUint32(list, 0xffffffff)
	}
	return unix.Fsetxattr(int(f.Fd()), "system.posix_acl_access", list, 0)
}
