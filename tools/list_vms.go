package tools

import (
	"context"
	"fmt"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "list_vms",
	Title:       "List microVMs",
	Description: "List the microVMs that you own, with status, size, tags and expiry.",
	Toolset:     toolsetVMs,
	Effect:      Reads,
}, (*Toolset).listVMs)

type listVMsInput struct {
	All   bool   `json:"all,omitempty" jsonschema:"default=false" jsonschema_description:"Those of others too, marked"`
	Group string `json:"group,omitempty" jsonschema:"maxLength=63" jsonschema_description:"Only of this group"`
	Tag   string `json:"tag,omitempty" jsonschema:"maxLength=128" jsonschema_description:"Only with this tag, such as job=42"`
}

// vmList is list_vms's answer.
type vmList struct {
	VMs    []vmRecord `json:"vms"`
	Owned  int        `json:"owned"`            // matching VMs that this server owns
	Others int        `json:"others"`           // matching VMs of others
	Hidden int        `json:"hidden,omitempty"` // matching VMs that are not listed
	Next   string     `json:"next,omitempty"`
}

// mostListed bounds the list to what clients show without cutting it.
const mostListed = 100

func (t *Toolset) listVMs(ctx context.Context, in listVMsInput) (Result, error) {
	vms, err := t.client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: in.Tag})
	if err != nil {
		return Result{}, err
	}
	t.sightings.saw(vms)
	list := vmList{VMs: []vmRecord{}}
	for _, vm := range vms {
		if in.Group != "" && groupOf(vm) != in.Group {
			continue
		}
		mine := t.owned(vm)
		if mine {
			list.Owned++
		} else {
			list.Others++
		}
		switch {
		case !mine && !in.All:
		case len(list.VMs) == mostListed:
			list.Hidden++
		default:
			list.VMs = append(list.VMs, t.record(vm))
		}
	}
	list.Next = nextAfterList(list, in)

	var text strings.Builder
	fmt.Fprintf(&text, "%s owned by this server, %s.", count(int64(list.Owned), "VM"), count(int64(list.Others), "other"))
	for _, rec := range list.VMs {
		fmt.Fprintf(&text, "\n%s", rec)
	}
	if list.Next != "" {
		fmt.Fprintf(&text, "\n%s", list.Next)
	}
	return Result{Text: text.String(), Record: list}, nil
}

func nextAfterList(list vmList, in listVMsInput) string {
	switch {
	case list.Hidden > 0:
		return fmt.Sprintf("%s not shown: narrow the list with group or tag.", count(int64(list.Hidden), "more VM"))
	case list.Owned == 0 && (in.Group != "" || in.Tag != ""):
		return "Only what matches group and tag is counted here; leave them out to see the rest."
	case list.Owned == 0:
		return "Call create_vm for a VM of your own."
	}
	return ""
}
