package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// labelVersion is the version of the labels that this daemon writes, and the
// only one that it reads.
const labelVersion = 1

// The beginnings of the names of the daemon's disks.
const (
	vmDisk     = "vm-"
	commitDisk = "commit-"
)

// keptState says what a daemon that finds a persistent VM does with it.
type keptState string

const (
	// keptCreating is a VM that nobody was told of: it is removed.
	keptCreating keptState = "creating"
	// keptRunning is a VM that is to run: it is booted.
	keptRunning keptState = "running"
	// keptStopped is a VM that was stopped, or ended by itself: it stays so.
	keptStopped keptState = "stopped"
)

// vmLabel is what the label of a persistent VM's disk says.
type vmLabel struct {
	Version      int            `json:"version"`
	State        keptState      `json:"state"`
	Hostname     string         `json:"hostname"`
	HostGroup    string         `json:"hostgroup"`
	IP           string         `json:"ip"`
	CPUs         int            `json:"cpus"`
	RAMBytes     int64          `json:"ram_bytes"`
	Tags         []string       `json:"tags"`
	Secrets      []string       `json:"secrets"` // null is all
	CreatedAt    time.Time      `json:"created_at"`
	Userdata     *userdataLabel `json:"userdata"` // null when there is no script
	Network      *policyJSON    `json:"network"`  // the VM's own policy
	ParentCommit string         `json:"parent_commit_id"`
}

// userdataLabel says how a VM's userdata script went. It is run once, also
// when it doesn't come to its end.
type userdataLabel struct {
	ExitCode *int `json:"exit_code"` // null while it runs
}

// commitLabel is what the label of a commit's disk says.
type commitLabel struct {
	Version      int               `json:"version"`
	ID           string            `json:"commit_id"`
	Hostname     string            `json:"hostname"` // of the VM that it was made of
	HostGroup    string            `json:"hostgroup"`
	CPUs         int               `json:"cpus"`
	RAMBytes     int64             `json:"ram_bytes"`
	Secrets      []string          `json:"secrets"` // null is all
	Tags         []string          `json:"tags"`
	Labels       map[string]string `json:"labels"`
	CacheKey     string            `json:"cache_key"`
	CreatedAt    time.Time         `json:"created_at"`
	ParentCommit string            `json:"parent_commit_id"`
}

// decodeLabel reads a label into a vmLabel or commitLabel. It takes no other
// version, no unknown field and nothing after the label.
func decodeLabel(text []byte, into any) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("read the label: %w", err)
	}
	if head.Version != labelVersion {
		return fmt.Errorf("the label has version %d, this daemon knows %d alone", head.Version, labelVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read the label: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the label has more after its JSON value")
	}
	return nil
}

// readVMLabel reads the label of the disk of a VM.
func readVMLabel(disk Disk) (vmLabel, error) {
	var l vmLabel
	if err := decodeLabel(disk.Label, &l); err != nil {
		return l, err
	}
	group, _, ok := hostNumber(l.Hostname)
	switch {
	case disk.Name != vmDisk+l.Hostname || !ok || group != l.HostGroup:
		return l, fmt.Errorf("the label is that of VM %q in host group %q", l.Hostname, l.HostGroup)
	case l.State != keptCreating && l.State != keptRunning && l.State != keptStopped:
		return l, fmt.Errorf("the label says %q of the VM's state", l.State)
	case l.ParentCommit != "" && !commitID.MatchString(l.ParentCommit):
		return l, fmt.Errorf("the label names the commit %q", l.ParentCommit)
	}
	return l, checkKept(l.CPUs, l.RAMBytes, l.CreatedAt, l.Tags)
}

// readCommitLabel reads the label of the disk of a commit.
func readCommitLabel(disk Disk) (commitLabel, error) {
	var l commitLabel
	if err := decodeLabel(disk.Label, &l); err != nil {
		return l, err
	}
	group, _, ok := hostNumber(l.Hostname)
	switch {
	case disk.Name != commitDisk+l.ID || !commitID.MatchString(l.ID):
		return l, fmt.Errorf("the label is that of commit %q", l.ID)
	case !ok || group != l.HostGroup:
		return l, fmt.Errorf("the label is that of a commit of VM %q in host group %q", l.Hostname, l.HostGroup)
	}
	if err := checkCommit(l.Tags, l.Labels, l.CacheKey); err != nil {
		return l, err
	}
	return l, checkKept(l.CPUs, l.RAMBytes, l.CreatedAt, l.Tags)
}

// checkKept refuses what no label says.
func checkKept(cpus int, ramBytes int64, createdAt time.Time, tags []string) error {
	if cpus <= 0 || ramBytes <= 0 || createdAt.IsZero() {
		return errors.New("the label lacks a size or a time")
	}
	return checkTags(tags)
}

// maxHostNumber is the highest number in the hostname of a VM that is kept.
const maxHostNumber = 1_000_000_000

// hostNumber takes a hostname <group>-<n> apart.
func hostNumber(hostname string) (group string, n int, ok bool) {
	at := strings.LastIndexByte(hostname, '-')
	if at < 0 {
		return "", 0, false
	}
	group, digits := hostname[:at], hostname[at+1:]
	if len(digits) == 0 || len(digits) > len("1000000000") || digits[0] == '0' {
		return "", 0, false
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		n = n*10 + int(c-'0')
	}
	return group, n, n <= maxHostNumber && groupName.MatchString(group)
}
