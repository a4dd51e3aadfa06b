package tools

import (
	"context"
	"fmt"
	"strings"
)

var _ = define(Tool{
	Name:        "list_host_groups",
	Title:       "List host groups",
	Description: "List the host groups for create_vm, the most that a microVM gets in each, and the default one.",
	Toolset:     toolsetVMs,
	Effect:      Reads,
}, (*Toolset).listHostGroups)

type listHostGroupsInput struct{}

// groupRecord is a host group as answers show it.
type groupRecord struct {
	Group   string  `json:"group"`
	Default bool    `json:"default"` // what create_vm takes when none is named
	CPUs    int     `json:"cpus"`
	RAMGiB  float64 `json:"ram_gib"`
	GPUs    int     `json:"gpus,omitempty"`
	Arch    string  `json:"arch,omitempty"`
	Kept    int     `json:"kept,omitempty"` // VMs that the daemon itself keeps in it
}

// groupList is list_host_groups's answer.
type groupList struct {
	Groups []groupRecord `json:"groups"`
	Hidden int           `json:"hidden,omitempty"` // groups that are not listed
	Next   string        `json:"next"`
}

func (t *Toolset) listHostGroups(ctx context.Context, _ listHostGroupsInput) (Result, error) {
	groups, err := t.client.GetHostGroups(ctx)
	if err != nil {
		return Result{}, err
	}
	first := defaultGroup(groups)
	list := groupList{Groups: []groupRecord{}, Next: "Call create_vm with group: there is no default among several."}
	switch {
	case len(groups) == 0:
		list.Next = "No VM can be created. Tell the user to add a host group to the daemon's configuration."
	case first != "":
		list.Next = fmt.Sprintf("create_vm takes %s when group is left out.", quote(first))
	}
	for _, g := range groups {
		if len(list.Groups) == mostListed {
			list.Hidden++
			continue
		}
		list.Groups = append(list.Groups, groupRecord{
			Group: oneLine(g.Name, 64), Default: g.Name == first, CPUs: g.CPUs, RAMGiB: inGiB(g.RamBytes),
			GPUs: g.GPUCount, Arch: oneLine(g.Arch, 32), Kept: g.Count,
		})
	}

	var text strings.Builder
	text.WriteString(count(int64(len(groups)), "host group") + ".")
	for _, g := range list.Groups {
		fmt.Fprintf(&text, "\n%s", g)
	}
	if list.Hidden > 0 {
		fmt.Fprintf(&text, "\n%s not shown.", count(int64(list.Hidden), "more host group"))
	}
	fmt.Fprintf(&text, "\n%s", list.Next)
	return Result{Text: text.String(), Record: list}, nil
}

// String is the record in one line.
func (g groupRecord) String() string {
	line := fmt.Sprintf("%s: up to %s and %v GiB a VM", g.Group, count(int64(g.CPUs), "CPU"), g.RAMGiB)
	if g.GPUs > 0 {
		line += ", " + count(int64(g.GPUs), "GPU")
	}
	if g.Arch != "" {
		line += ", " + g.Arch
	}
	if g.Kept > 0 {
		line += fmt.Sprintf(", %s kept by the daemon", count(int64(g.Kept), "VM"))
	}
	if g.Default {
		line += ", the default"
	}
	return line
}
