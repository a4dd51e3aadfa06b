package tools

import (
	"context"
	"fmt"
	"strings"
)

var _ = define(Tool{
	Name:        "vm_logs",
	Title:       "Read a console",
	Description: "Read the end of a microVM's console: its boot and its userdata.",
	Toolset:     toolsetVMs,
	Effect:      Reads,
}, (*Toolset).vmLogs)

type vmLogsInput struct {
	vmArgument
	Lines int `json:"lines,omitempty" jsonschema:"minimum=1,maximum=10000,default=100" jsonschema_description:"How many"`
}

func (t *Toolset) vmLogs(ctx context.Context, in vmLogsInput) (Result, error) {
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	logs, err := t.client.GetVMLogs(ctx, vm.Hostname, in.Lines)
	if err != nil {
		return Result{}, onVM(handle(vm), err)
	}
	name := quote(handle(vm))
	if strings.TrimSpace(logs.Content) == "" {
		return Result{Text: fmt.Sprintf("The console of VM %s holds nothing.", name)}, nil
	}
	lines := newlines([]byte(strings.TrimSuffix(logs.Content, "\n"))) + 1
	out := newTranscript()
	out.write(stdout, logs.Content)
	title := fmt.Sprintf("The last %s of the console of VM %s:", count(lines, "line"), name)
	if lines < int64(in.Lines) {
		title = fmt.Sprintf("The console of VM %s, %s:", name, count(lines, "line"))
	}
	return Result{Text: title + "\n" + out.text(fmt.Sprintf("vm_logs(vm=%s, lines=…) with fewer lines shows more of the end", name))}, nil
}
