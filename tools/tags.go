package tools

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// The tags that mean something to this server. Each is a prefix of key=value.
const (
	tagName      = "name="       // the friendly name; the daemon keeps it unique
	tagOwner     = "owner="      // whose VM it is
	tagCreatedBy = "created-by=" // which program made it
	tagCreation  = "creation="   // which call made it, to find what a failed one left
	tagExpires   = "expires-at=" // when it may be removed
)

const createdBy = tagCreatedBy + "slicervm-mcp"

// reservedTags can't be given by a caller.
func reservedTags() []string {
	return []string{tagName, tagOwner, tagCreatedBy, tagCreation, tagExpires}
}

// owned says whether vm carries this server's owner tag.
func (t *Toolset) owned(vm slicer.SlicerNode) bool {
	return slices.Contains(vm.Tags, tagOwner+t.owner)
}

// tagValue is the value of the first tag that begins with key, or "".
func tagValue(vm slicer.SlicerNode, key string) string {
	for _, tag := range vm.Tags {
		if value, ok := strings.CutPrefix(tag, key); ok {
			return value
		}
	}
	return ""
}

// ordinaryTags are the tags of vm that mean nothing to this server.
func ordinaryTags(vm slicer.SlicerNode) []string {
	var tags []string
	for _, tag := range vm.Tags {
		reserved := slices.ContainsFunc(reservedTags(), func(key string) bool {
			return key != tagExpires && strings.HasPrefix(tag, key)
		})
		if value, ok := strings.CutPrefix(tag, tagExpires); ok {
			_, err := time.Parse(time.RFC3339, value)
			reserved = err == nil
		}
		if !reserved {
			tags = append(tags, tag)
		}
	}
	return tags
}

// checkTag says what is wrong with the form of a tag.
func checkTag(tag string) error {
	const longest = 128
	if tag == "" {
		return errors.New("it is empty")
	}
	if !utf8.ValidString(tag) || len(tag) > longest {
		return fmt.Errorf("it is longer than %d bytes or not UTF-8", longest)
	}
	for _, r := range tag {
		if r <= ' ' || r == 0x7f || deceptive(r) {
			return errors.New("it holds white space or an invisible character")
		}
	}
	return nil
}

// groupOf is the host group of vm: as the daemon says, else as its hostname
// <group>-<n> tells.
func groupOf(vm slicer.SlicerNode) string {
	if vm.HostGroup != "" {
		return vm.HostGroup
	}
	if i := strings.LastIndexByte(vm.Hostname, '-'); i > 0 {
		return vm.Hostname[:i]
	}
	return vm.Hostname
}
