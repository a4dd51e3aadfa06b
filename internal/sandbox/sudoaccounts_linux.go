package sandbox

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The fields of a line of /etc/passwd and of /etc/group.
const (
	passwdFields = 7
	groupFields  = 4
)

// maxDatabaseBytes bounds what is read of one of these files.
const maxDatabaseBytes = 1 << 20

// sudoUser is a line of the guest's /etc/passwd. For a caller, gid is the
// group that it runs with.
type sudoUser struct {
	account
	uid uint32
}

// readDatabase reads a file of lines with that many fields between colons.
// Other lines are left out.
func readDatabase(name string, fields int) ([][]string, error) {
	f, err := openRegular(name, &reply{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDatabaseBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var lines [][]string
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == fields {
			lines = append(lines, f)
		}
	}
	return lines, nil
}

// findLine finds a line by the name in its first field, or, where the name is
// # and a number, by the id in its third.
func findLine(lines [][]string, name string) []string {
	column := 0
	if id, ok := strings.CutPrefix(name, "#"); ok {
		name, column = id, 2
	}
	for _, f := range lines {
		if f[column] == name {
			return f
		}
	}
	return nil
}

func findUser(users [][]string, name string) (sudoUser, bool) {
	f := findLine(users, name)
	if f == nil {
		return sudoUser{}, false
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 32)
	gid, err2 := strconv.ParseUint(f[3], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return sudoUser{}, false
	}
	u := sudoUser{account{name: f[0], home: f[5], shell: f[6], gid: uint32(gid)}, uint32(uid)}
	if u.shell == "" {
		u.shell = "/bin/sh"
	}
	return u, true
}

func findGroup(groups [][]string, name string) (gid uint32, ok bool) {
	f := findLine(groups, name)
	if f == nil {
		return 0, false
	}
	id, err := strconv.ParseUint(f[2], 10, 32)
	return uint32(id), err == nil
}

// groupsOf lists the groups that name a user among their members.
func groupsOf(groups [][]string, user string) []uint32 {
	var ids []uint32
	for _, f := range groups {
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && slices.Contains(strings.Split(f[3], ","), user) {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

// supplementaryGroups lists a user's groups in the guest's /etc/group; none
// when that can't be read.
func supplementaryGroups(user string) []uint32 {
	groups, err := readDatabase("/etc/group", groupFields)
	if err != nil {
		return nil
	}
	return groupsOf(groups, user)
}

// maySudo says whether a user may run anything as anyone: root, the guest's
// ordinary user and the group sudo.
func (u sudoUser) maySudo(groups [][]string) bool {
	if u.uid == 0 || u.uid == ubuntuID {
		return true
	}
	gid, ok := findGroup(groups, "sudo")
	return ok && (u.gid == gid || slices.Contains(groupsOf(groups, u.name), gid))
}
