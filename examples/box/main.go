// Command box runs a command in one long-lived VM, which it makes at the first
// call and finds again by its tag at every later one.
//
//	export SLICER_URL=http://127.0.0.1:8080 SLICER_TOKEN_FILE=/var/lib/slicer/auth/token
//	go run ./examples/box -- git clone https://github.com/golang/example
//	go run ./examples/box -- ls example
//	tar c . | go run ./examples/box -name other -- tar x
//
// Standard input, output and exit code are the command's. A VM that is paused or
// suspended goes on first. With -persistent, for daemons that know it, the VM
// keeps its disk when it ends, and is started again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// options are the command's flags and arguments.
type options struct {
	group      string // host group; "" is the only one
	name       string // friendly name of the VM
	persistent bool
	command    []string
	stdin      io.Reader
	stderr     io.Writer
}

func main() {
	log.SetFlags(0)
	o := options{stdin: os.Stdin, stderr: os.Stderr}
	flag.StringVar(&o.group, "group", "", "the host `group` to make the VM in; may be left out where there is only one")
	flag.StringVar(&o.name, "name", "box", "the VM's friendly `name`")
	flag.BoolVar(&o.persistent, "persistent", false, "make a VM that survives its own end")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: box [-group GROUP] [-name NAME] [-persistent] [--] COMMAND [ARGUMENT…]")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.command = flag.Args()
	if len(o.command) == 0 {
		flag.Usage()
		os.Exit(2)
	}

	err := start(o)
	// The command has said itself why it exits with another code than 0.
	var exit *slicer.ExitError
	if errors.As(err, &exit) && exit.Exited() && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// start runs the command until it ends or is interrupted.
func start(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := slicer.NewSlicerClientFromEnv()
	if err != nil {
		return err
	}
	return run(ctx, client, o, os.Stdout)
}

// run runs the command in the box, with out as its standard output.
func run(ctx context.Context, client *slicer.SlicerClient, o options, out io.Writer) error {
	hostname, err := box(ctx, client, o)
	if err != nil {
		return err
	}
	command := client.Command(ctx, hostname, o.command[0], o.command[1:]...)
	command.UID, command.GID = slicer.NonRootUser, slicer.NonRootUser
	command.Stdin, command.Stdout, command.Stderr = o.stdin, out, o.stderr
	return command.Run()
}

// box returns the VM of that name, made if there is none and woken if it sleeps.
func box(ctx context.Context, client *slicer.SlicerClient, o options) (hostname string, err error) {
	tag := "name=" + o.name
	vm, err := find(ctx, client, tag)
	if err != nil {
		return "", err
	}
	if vm != nil {
		return vm.Hostname, wake(ctx, client, vm)
	}
	request := slicer.SlicerCreateNodeRequest{Persistent: o.persistent, Tags: []string{tag}}
	made, err := client.CreateVMWithOptions(ctx, o.group, request, slicer.CreateVMOptions{Wait: "agent", Timeout: 2 * time.Minute})
	if err == nil {
		return made.Hostname, nil
	}
	// A tag name=x is unique: somebody else may have made the box meanwhile.
	if vm, findErr := find(ctx, client, tag); slicer.IsAPIStatus(err, http.StatusConflict) && findErr == nil && vm != nil {
		return vm.Hostname, wake(ctx, client, vm)
	}
	return "", err
}

// find returns the VM with tag, nil if there is none.
func find(ctx context.Context, client *slicer.SlicerClient, tag string) (*slicer.SlicerNode, error) {
	vms, err := client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: tag})
	if err != nil || len(vms) == 0 {
		return nil, err
	}
	return &vms[0], nil
}

// wake makes a VM run that doesn't.
func wake(ctx context.Context, client *slicer.SlicerClient, vm *slicer.SlicerNode) error {
	switch vm.Status {
	case "Paused":
		return client.ResumeVM(ctx, vm.Hostname)
	case "Suspended":
		return client.RestoreVMWithOptions(ctx, vm.Hostname, slicer.RestoreOptions{Wait: "agent", Timeout: 2 * time.Minute})
	case "Stopped":
		if _, err := client.RelaunchVM(ctx, vm.Hostname); err != nil {
			return err
		}
		return waitForAgent(ctx, client, vm.Hostname)
	}
	return nil
}

// waitForAgent asks the agent of a VM that boots until it answers.
func waitForAgent(ctx context.Context, client *slicer.SlicerClient, hostname string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := client.GetAgentHealth(ctx, hostname, false)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("VM %q doesn't answer: %w", hostname, err)
		}
	}
}
