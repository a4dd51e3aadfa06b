package tools

import (
	"strconv"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// ordinaryUser is the user of Slicer's images that is not root.
const (
	ordinaryUser = "ubuntu"
	ordinaryUID  = 1000
)

// parseUser reads the argument user: a uid, root or ubuntu. The ids are those
// that the SDK takes; slicer.NonRootUser leaves the choice to the guest. A
// number's group is the user's own.
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
