package tools

import (
	"fmt"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// vmRecord is a VM as answers show it. What others may have chosen, such as
// tags, is made safe to read.
type vmRecord struct {
	VM      string  `json:"vm"`
	Name    string  `json:"name,omitempty"`
	Status  string  `json:"status"`
	Owned   bool    `json:"owned"`
	Owner   string  `json:"owner,omitempty"`
	Group   string  `json:"group"`
	CPUs    int     `json:"cpus,omitempty"`
	RAMGiB  float64 `json:"ram_gib,omitempty"`
	IP      string  `json:"ip,omitempty"`
	Arch    string  `json:"arch,omitempty"`
	Created string  `json:"created,omitempty"`
	Expires string  `json:"expires,omitempty"` // when it may be removed

	// Persistent says that its disk outlasts its end and the daemon's.
	Persistent bool `json:"persistent,omitempty"`

	Tags []string `json:"tags,omitempty"`
}

func (t *Toolset) record(vm slicer.SlicerNode) vmRecord {
	const mostTags = 20
	rec := vmRecord{
		VM:     oneLine(vm.Hostname, 253),
		Name:   oneLine(tagValue(vm, tagName), 64),
		Status: oneLine(orElse(vm.Status, "unknown"), 32),
		Owned:  t.owned(vm),
		Group:  oneLine(groupOf(vm), 64),
		CPUs:   vm.CPUs,
		RAMGiB: inGiB(vm.RamBytes),
		IP:     oneLine(vm.IP, 64),
		Arch:   oneLine(vm.Arch, 32),

		Persistent: vm.Persistent,
	}
	if at, ok := expiry(vm); ok {
		rec.Expires = expires(at, time.Now())
	}
	if !rec.Owned {
		rec.Owner = oneLine(tagValue(vm, tagOwner), 64)
	}
	if !vm.CreatedAt.IsZero() {
		rec.Created = vm.CreatedAt.UTC().Format(time.RFC3339)
	}
	for i, tag := range ordinaryTags(vm) {
		if i == mostTags {
			rec.Tags = append(rec.Tags, "…")
			break
		}
		rec.Tags = append(rec.Tags, oneLine(tag, 128))
	}
	return rec
}

// String is the record in one line.
func (r vmRecord) String() string {
	parts := []string{label(r.VM, r.Name), r.Status}
	switch {
	case r.Owned:
		parts = append(parts, "owned by this server")
	case r.Owner != "":
		parts = append(parts, "owned by "+r.Owner)
	default:
		parts = append(parts, "not owned by this server")
	}
	parts = append(parts, "group "+r.Group)
	if r.CPUs > 0 {
		parts = append(parts, count(int64(r.CPUs), "CPU"))
	}
	if r.RAMGiB > 0 {
		parts = append(parts, fmt.Sprintf("%v GiB", r.RAMGiB))
	}
	for _, s := range []string{r.IP, r.Arch} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if r.Persistent {
		parts = append(parts, "persistent")
	}
	if r.Created != "" {
		parts = append(parts, "created "+r.Created)
	}
	if r.Expires != "" {
		parts = append(parts, "expires "+r.Expires)
	}
	line := strings.Join(parts, ", ")
	if len(r.Tags) > 0 {
		line += ", tags " + strings.Join(r.Tags, " ")
	}
	return line
}

// label names a VM in a sentence.
func label(hostname, name string) string {
	if name == "" {
		return "VM " + hostname
	}
	return fmt.Sprintf("VM %s (%s)", hostname, name)
}
