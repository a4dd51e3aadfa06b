package tools

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "get_vm",
	Title:       "Look at a microVM",
	Description: "Look at one microVM: status, disk image, network, agent, userdata, load, memory and disk space.",
	Toolset:     toolsetVMs,
	Effect:      Reads,
}, (*Toolset).getVM)

type getVMInput struct{ vmArgument }

// vmDetails is get_vm's answer. What can't be told is left out; what could not
// be asked says why.
type vmDetails struct {
	vmRecord
	Disk    string `json:"disk,omitempty"`    // how it is kept and what it was made from
	Network string `json:"network,omitempty"` // its mode and what it may connect to
	Agent   string `json:"agent,omitempty"`   // whether and how it answers
	Load    string `json:"load,omitempty"`    // averages over 1, 5 and 15 minutes
	Memory  string `json:"memory,omitempty"`
	Space   string `json:"disk_space,omitempty"`
	Next    string `json:"next"`
}

// lookTime bounds each of get_vm's questions.
const lookTime = 10 * time.Second

func (t *Toolset) getVM(ctx context.Context, in getVMInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	look, cancel := context.WithTimeout(ctx, min(lookTime, t.within(cleanupTime)))
	defer cancel()
	var (
		asked                            sync.WaitGroup
		description                      *slicer.SlicerVMDescription
		health                           *slicer.SlicerAgentHealthResponse
		stats                            []slicer.SlicerNodeStat
		describeErr, healthErr, statsErr error
	)
	asked.Go(func() { description, describeErr = t.client.DescribeVM(look, vm.Hostname) })
	if running(vm) {
		asked.Go(func() { health, healthErr = t.askHealth(look, vm) })
		asked.Go(func() { stats, statsErr = t.client.GetVMStats(look, vm.Hostname) })
	}
	asked.Wait()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	for _, err := range []error{describeErr, healthErr, statsErr} {
		// A daemon without a route says 404 as well.
		if !slicer.IsAPIStatus(err, http.StatusNotFound) {
			continue
		}
		if s := t.standingOf(ctx, vm); s.gone {
			return Result{}, &refusal{text: s.text}
		}
		break
	}

	d := vmDetails{vmRecord: t.record(vm)}
	if describeErr == nil {
		d.describe(description)
	}
	d.Next = d.agent(vm, health, healthErr)
	if running(vm) {
		d.measured(stats, statsErr)
	}
	return Result{Text: d.String(), Record: d}, nil
}

// running says whether a VM's agent may be asked.
func running(vm slicer.SlicerNode) bool { return wakingTool(strings.ToLower(vm.Status)) == "" }

func (d *vmDetails) describe(v *slicer.SlicerVMDescription) {
	var disk []string
	for _, part := range []struct{ title, value string }{
		{"", v.Storage}, {"image ", v.Image}, {"commit ", v.CommitID}, {"forked from ", v.ParentCommitID},
	} {
		if part.value != "" {
			disk = append(disk, part.title+oneLine(part.value, 200))
		}
	}
	d.Disk = strings.Join(disk, ", ")
	if v.Network == nil {
		return
	}
	d.Network = oneLine(v.Network.Mode, 64)
	if p := v.Network.Effective; p != nil {
		d.Network = strings.TrimPrefix(d.Network+", "+rangesOf("allows", p.Allow)+", "+rangesOf("drops", p.Drop), ", ")
	}
}

// rangesOf lists address ranges.
func rangesOf(verb string, ranges []string) string {
	const most = 10
	if len(ranges) == 0 {
		return verb + " nothing"
	}
	var shown []string
	for i, r := range ranges {
		if i == most {
			shown = append(shown, fmt.Sprintf("and %d more", len(ranges)-most))
			break
		}
		shown = append(shown, oneLine(r, 64))
	}
	return verb + " " + strings.Join(shown, " ")
}

// agent tells of a VM's agent, and returns what to call now.
func (d *vmDetails) agent(vm slicer.SlicerNode, h *slicer.SlicerAgentHealthResponse, err error) string {
	name, status := quote(handle(vm)), strings.ToLower(vm.Status)
	if tool := wakingTool(status); tool != "" {
		d.Agent = "not asked, as the VM is " + status
		return fmt.Sprintf("Call %s(vm=%s) to use it again.", tool, name)
	}
	if err != nil {
		d.Agent = "does not answer: " + trimmed(explanation(err))
		return fmt.Sprintf("If it was just created, call get_vm(vm=%s) again in a few seconds; vm_logs(vm=%s) shows its boot.", name, name)
	}
	parts := []string{"answers"}
	if h.AgentVersion != "" {
		parts = append(parts, "version "+oneLine(h.AgentVersion, 64))
	}
	if h.SystemUptime > 0 {
		parts = append(parts, "booted "+roughly(h.SystemUptime)+" ago")
	}
	switch {
	case h.UserdataExitCode != nil:
		parts = append(parts, fmt.Sprintf("userdata ended with exit code %d", *h.UserdataExitCode))
	case h.UserdataRan:
		parts = append(parts, "no userdata left to run")
	default:
		parts = append(parts, "userdata has not ended")
	}
	d.Agent = strings.Join(parts, ", ")
	return fmt.Sprintf("exec(vm=%s, command=…) runs commands in it; vm_logs(vm=%s) shows its console.", name, name)
}

func (d *vmDetails) measured(stats []slicer.SlicerNodeStat, err error) {
	if err != nil {
		d.Load = "not known: " + trimmed(explanation(err))
		return
	}
	for _, s := range stats {
		switch {
		case s.Hostname != "" && oneLine(s.Hostname, 253) != d.VM:
		case s.Snapshot == nil:
			d.Load = "not known: " + trimmed(s.Error)
		default:
			m := s.Snapshot
			d.Load = fmt.Sprintf("%.2f %.2f %.2f", m.LoadAvg1, m.LoadAvg5, m.LoadAvg15)
			d.Memory = usage(m.MemoryUsed, m.TotalMemory)
			d.Space = usage(m.DiskSpaceUsed, m.DiskSpaceTotal)
		}
	}
}

// usage writes how much of a number of bytes is in use.
func usage(used, total uint64) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s used (%.0f%%)", size(int64(min(used, math.MaxInt64))), size(int64(min(total, math.MaxInt64))), 100*float64(used)/float64(total))
}

// String is the answer as text.
func (d vmDetails) String() string {
	text := d.vmRecord.String()
	for _, line := range []struct{ title, value string }{
		{"disk", d.Disk}, {"network", d.Network}, {"agent", d.Agent}, {"load", d.Load}, {"memory", d.Memory}, {"disk space", d.Space},
	} {
		if line.value != "" {
			text += fmt.Sprintf("\n%s: %s", line.title, line.value)
		}
	}
	return text + "\nNext: " + d.Next
}
