package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// idmapKind is how a guest's user ids stand to the host's.
type idmapKind string

const (
	// idmapRoot: the server is the machine's root. Guests share its ids; what
	// their root may do is cut by capabilities.
	idmapRoot idmapKind = "root"

	// idmapRange: a user namespace in which root is the server's user and
	// the ids above come from the user's range in /etc/subuid, or, for the root
	// of a container, are the container's.
	idmapRange idmapKind = "range"

	// idmapSingle: a user namespace with one id, root. Another user is the
	// same one under another number, shown through a nested user namespace.
	idmapSingle idmapKind = "single"
)

// idmap is an idmapKind with its ranges.
type idmap struct {
	Kind           idmapKind `json:"kind"`
	SubUID, SubGID subRange  `json:"-"` // of idmapRange; none for a container's root
}

// subRange is a run of subordinate ids.
type subRange struct {
	Start, Count uint64
}

// wantedSubIDs covers every id that Debian's packages use.
const wantedSubIDs = 65535

// findIdmap decides how guests' ids are mapped for this process.
func findIdmap() idmap {
	single := idmap{Kind: idmapSingle}
	if os.Geteuid() == 0 {
		switch mappedIDs() {
		case allIDs:
			return idmap{Kind: idmapRoot}
		case someIDs:
			return idmap{Kind: idmapRange}
		}
		return single
	}
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			return single
		}
	}
	uid := strconv.Itoa(os.Geteuid())
	names := []string{uid}
	if u, err := user.LookupId(uid); err == nil {
		names = append(names, u.Username)
	}
	subUID, okUID := findSubRange("/etc/subuid", names)
	subGID, okGID := findSubRange("/etc/subgid", names)
	if !okUID || !okGID {
		return single
	}
	return idmap{Kind: idmapRange, SubUID: subUID, SubGID: subGID}
}

// idCount is how many ids a user namespace has.
type idCount int

const (
	oneID   idCount = iota // too few for a guest's users
	someIDs                // from 0 to wantedSubIDs at least
	allIDs                 // the machine's own namespace
)

// mappedIDs looks at this process's own user namespace.
func mappedIDs() idCount {
	count := allIDs
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return allIDs // a kernel without user namespaces
		}
		var inside, outside, n uint64
		if _, err := fmt.Sscan(string(b), &inside, &outside, &n); err != nil || inside != 0 || n <= wantedSubIDs {
			return oneID
		}
		if n < 1<<32-1 || outside != 0 {
			count = someIDs
		}
	}
	return count
}

// findSubRange returns the first range of at least wantedSubIDs that file
// gives to one of names.
func findSubRange(file string, names []string) (subRange, bool) {
	f, err := os.Open(file)
	if err != nil {
		return subRange{}, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		start, count, ok := strings.Cut(rest, ":")
		if !ok || name == "" || !slices.Contains(names, name) {
			continue
		}
		s, err1 := strconv.ParseUint(start, 10, 32)
		c, err2 := strconv.ParseUint(count, 10, 32)
		if err1 == nil && err2 == nil && c >= wantedSubIDs {
			return subRange{Start: s, Count: wantedSubIDs}, true
		}
	}
	return subRange{}, false
}

// namespaced gives cmd a user namespace in which it is root, with whatever
// other namespaces flags names. The stage that cmd executes must be args; with
// a range it runs behind stageMapped, and mapped must be called after Start.
func (m idmap) namespaced(cmd *exec.Cmd, flags uintptr, args ...string) (mapped func() error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Setsid: true, Pdeathsig: syscall.SIGKILL}
	nothing := func() error { return nil }
	cmd.Args = append([]string{agentName}, args...)
	switch m.Kind {
	case idmapRoot:
		return nothing, nil
	case idmapSingle:
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return nothing, nil
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	if m.SubUID.Count == 0 {
		same := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: wantedSubIDs + 1}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = same, same
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		return nothing, nil
	}
	cmd.Args = append([]string{agentName, stageMapped}, args...)
	release, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	return func() error {
		defer release.Close()
		pid := strconv.Itoa(cmd.Process.Pid)
		if err := runMapHelper("newuidmap", pid, os.Geteuid(), m.SubUID); err != nil {
			return err
		}
		if err := runMapHelper("newgidmap", pid, os.Getegid(), m.SubGID); err != nil {
			return err
		}
		_, err := release.Write([]byte{'\n'})
		return err
	}, nil
}

func runMapHelper(helper, pid string, id int, sub subRange) error {
	//nolint:noctx // it ends at once: it writes one file under /proc
	out, err := exec.Command(helper, pid, "0", strconv.Itoa(id), "1",
		"1", strconv.FormatUint(sub.Start, 10), strconv.FormatUint(sub.Count, 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", helper, err, firstLine(out))
	}
	return nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// credential gives attr the ids of a user of the guest. It runs in the agent.
func (k idmapKind) credential(attr *syscall.SysProcAttr, uid, gid uint32) {
	if k != idmapSingle {
		attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
		return
	}
	if uid == 0 && gid == 0 {
		return
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(uid), HostID: 0, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(gid), HostID: 0, Size: 1}}
}

// own gives a file of the guest to a user. With one id there is nobody else to
// give it to.
func (k idmapKind) own(uid, gid uint32) (int, int) {
	if k == idmapSingle {
		return 0, 0
	}
	return int(uid), int(gid)
}

// disowns says whether the host's files are nobody's in guests.
func (m idmap) disowns() bool {
	return m.Kind == idmapSingle || m.Kind == idmapRange && m.SubUID.Count > 0
}

// oneIDNote says what doesn't hold in a guest with one id.
const oneIDNote = "uid, gid: the daemon's user has one id, so every file has the same owner, whatever is asked for; " +
	"a range for the user in /etc/subuid and /etc/subgid, with newuidmap, gives files owners"

// checkIDs refuses a request with an id that no guest has.
func (m idmap) checkIDs(r *request) error {
	if m.Kind != idmapRange {
		return nil
	}
	var ids []*uint32
	if r.Attr != nil {
		ids = append(ids, r.Attr.UID, r.Attr.GID)
	}
	if r.Exec != nil {
		ids = append(ids, r.Exec.UID, r.Exec.GID)
	}
	for _, id := range ids {
		if id != nil && *id > wantedSubIDs {
			return &daemon.IDError{ID: *id, Largest: wantedSubIDs}
		}
	}
	return nil
}

// describe says whose ids guests' files have on the host, for people and so
// that two of them can be compared.
func (m idmap) describe() string {
	switch {
	case m.Kind == idmapRoot:
		return "root"
	case m.Kind == idmapSingle:
		return fmt.Sprintf("user %d with one id", os.Geteuid())
	case m.SubUID.Count == 0:
		return "a container's root"
	}
	return fmt.Sprintf("user %d with the ids from %d and groups from %d", os.Geteuid(), m.SubUID.Start, m.SubGID.Start)
}
