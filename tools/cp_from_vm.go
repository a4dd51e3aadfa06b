package tools

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
)

var _ = define(Tool{
	Name:        "cp_from_vm",
	Title:       "Copy files out of a microVM",
	Description: "Copy a file or folder out of a microVM. A folder's contents join those of host_path, without symlinks; files of the same name are replaced. After 30 s it goes on as a process for read_process.",
	Toolset:     toolsetFiles,
	Effect:      Destroys,
	Idempotent:  true,
}, (*Toolset).cpFromVM)

type cpFromVMInput struct {
	VMPath   string `json:"vm_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"In the VM"`
	HostPath string `json:"host_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"New host path, under an allowed folder; a file also takes a folder ending in /"`
	vmArgument
	Exclude []string `json:"exclude,omitempty" jsonschema:"maxItems=100" jsonschema_description:"Globs to leave out, such as **/*.o"`
}

func (t *Toolset) cpFromVM(ctx context.Context, in cpFromVMInput) (Result, error) {
	if err := checkVMPath("vm_path", in.VMPath); err != nil {
		return Result{}, err
	}
	if err := checkExclude(in.Exclude); err != nil {
		return Result{}, err
	}
	place, err := t.roots.place("host_path", in.HostPath)
	if err != nil {
		return Result{}, err
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	d := &download{in: in, vm: vm, place: place, meter: &meter{}}
	return t.runCopy(ctx, copying{
		vm: vm, named: in.VM != "", what: fmt.Sprintf("cp_from_vm %s to %s", quote(in.VMPath), quote(d.in.HostPath)),
		hostPath: d.in.HostPath, vmPath: in.VMPath,
		run:   func(ctx context.Context) (copiedRecord, error) { return d.run(ctx, t) },
		sofar: d.sofar,
	})
}

// baseOf is the last part of a path in a VM, as a name on the host.
func baseOf(vmPath string) string {
	name := path.Base(path.Clean(vmPath))
	if !filepath.IsLocal(name) || name == "~" {
		return "file"
	}
	return name
}
