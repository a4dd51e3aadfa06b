package tools

import (
	"bufio"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// ordinaryUser is the user of Slicer's images that is not root.
const (
	ordinaryUser = "ubuntu"
	ordinaryUID  = 1000
)

// lookupUser finds the ids of the argument user: a uid, root, ubuntu, or a name
// in the VM's /etc/passwd. slicer.NonRootUser leaves the choice to the guest. A
// number's group is the user's own.
func (t *Toolset) lookupUser(ctx context.Context, vm slicer.SlicerNode, user string) (uid, gid uint32, err error) {
	if !userName.MatchString(user) {
		return parseUser(user)
	}
	if uid, gid, err = parseUser(user); err == nil {
		return uid, gid, nil
	}
	file, err := t.client.OpenFile(ctx, vm.Hostname, "/etc/passwd")
	if err != nil {
		return 0, 0, refuse("user %s could not be looked up in VM %s: %s Use ubuntu, root, or a numeric uid.", quote(user), quote(handle(vm)), explanation(err))
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, largestPasswd))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 4 || fields[0] != user {
			continue
		}
		u, err1 := strconv.ParseUint(fields[2], 10, 32)
		g, err2 := strconv.ParseUint(fields[3], 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(u), uint32(g), nil
		}
	}
	return 0, 0, refuse("there is no user %s in VM %s. Use ubuntu (the default), root, a numeric uid, or make the user first with exec(user=\"root\", command=\"useradd …\").", quote(user), quote(handle(vm)))
}

// userName is the form of a name in /etc/passwd.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`)

// largestPasswd is how much of /etc/passwd is looked through.
const largestPasswd = 1 << 20

// parseUser reads the argument user where it needs no VM: a uid, root or ubuntu.
func parseUser(user string) (uid, gid uint32, err error) {
	switch user {
	case "", ordinaryUser:
		return slicer.NonRootUser, slicer.NonRootUser, nil
	case "root", "0":
		return 0, 0, nil
	}
	n, err := strconv.ParseUint(user, 10, 32)
	if err != nil || uint32(n) == slicer.NonRootUser {
		return 0, 0, refuse("user %s is not known: use ubuntu (the default), root, or a numeric uid such as 1000.", quote(user))
	}
	return uint32(n), slicer.NonRootUser, nil
}
