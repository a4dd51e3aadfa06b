package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "list_processes",
	Title:       "List processes",
	Description: "List the processes of exec and copies in a microVM; ended ones stay until they are read and 10 minutes old.",
	Toolset:     toolsetExec,
	Effect:      Reads,
}, (*Toolset).listProcesses)

type listProcessesInput struct {
	vmArgument
}

// processRecord is a process as list_processes shows it.
type processRecord struct {
	Process string  `json:"process"`
	State   string  `json:"state"` // running, or how it ended
	Seconds float64 `json:"seconds"`
	Written int64   `json:"written_bytes"`
	Dropped int64   `json:"dropped_bytes,omitempty"` // of them no longer kept
	Command string  `json:"command"`
}

// processList is list_processes's answer.
type processList struct {
	VM        string          `json:"vm"`
	Processes []processRecord `json:"processes"`
	Hidden    int             `json:"hidden,omitempty"` // older ones that are not listed
	Next      string          `json:"next,omitempty"`
}

// mostProcesses bounds the list.
const mostProcesses = 50

func (t *Toolset) listProcesses(ctx context.Context, in listProcessesInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	infos, err := t.processes(ctx, vm)
	if err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	list := processList{VM: handle(vm), Processes: []processRecord{}}
	if over := len(infos) - mostProcesses; over > 0 {
		list.Hidden = over
		infos = infos[over:]
	}
	for _, info := range infos {
		list.Processes = append(list.Processes, recordOf(info))
	}
	if len(list.Processes) > 0 {
		list.Next = fmt.Sprintf("read_process(process=%s, vm=%s) shows what it wrote.", quote(list.Processes[len(list.Processes)-1].Process), quote(list.VM))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d %s in VM %s.", len(list.Processes), plural(len(list.Processes), "process", "processes"), quote(list.VM))
	if list.Hidden > 0 {
		fmt.Fprintf(&text, " %d older ones are not listed.", list.Hidden)
	}
	for _, p := range list.Processes {
		fmt.Fprintf(&text, "\n%s: %s, %v s, %s written", p.Process, p.State, p.Seconds, exactSize(p.Written))
		if p.Dropped > 0 {
			fmt.Fprintf(&text, ", %s of them no longer kept", exactSize(p.Dropped))
		}
		fmt.Fprintf(&text, ": %s", p.Command)
	}
	if list.Next != "" {
		fmt.Fprintf(&text, "\nNext: %s", list.Next)
	}
	return Result{Text: text.String(), Record: list}, nil
}

// processes are those of a VM, oldest first, running ones last.
func (t *Toolset) processes(ctx context.Context, vm slicer.SlicerNode) ([]processInfo, error) {
	var infos []processInfo
	list, err := t.client.ExecList(ctx, vm.Hostname)
	if err != nil && !unknownRoute(err) {
		return nil, err
	}
	for _, e := range list {
		infos = append(infos, remoteInfo(e))
	}
	for _, l := range t.locals.of(vm.Hostname) {
		info, err := l.info(ctx)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortStableFunc(infos, func(a, b processInfo) int {
		if a.running != b.running {
			if b.running {
				return -1
			}
			return 1
		}
		return a.started.Compare(b.started)
	})
	return infos, nil
}

func recordOf(info processInfo) processRecord {
	took := info.took(time.Now())
	rec := processRecord{
		Process: oneLine(info.id, 64), State: "running", Seconds: roundedSeconds(took),
		Written: info.written, Dropped: info.dropped, Command: oneLine(info.command, 100),
	}
	if !info.running {
		a := processAnswer{lifetime: info.lifetime, took: took}
		// The seconds have a field of their own.
		rec.State = strings.TrimSuffix(strings.TrimSuffix(a.ending(info.end), " in "+seconds(took)), " after "+seconds(took))
	}
	return rec
}
