// Command transform uploads a file to a fresh VM, lets a shell command process it
// there, and fetches the result. The command finds the file at $IN and writes
// what it makes of it to $OUT; whatever else it does stays in the VM, which is
// deleted at the end.
//
//	export SLICER_URL=http://127.0.0.1:8080 SLICER_TOKEN_FILE=/var/lib/slicer/auth/token
//	go run ./examples/transform access.log top.txt 'cut -d" " -f1 "$IN" | sort | uniq -c | sort -rn >"$OUT"'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// options are the command's flags and arguments.
type options struct {
	group       string // host group; "" is the only one
	input       string // file to upload
	output      string // file to write
	shellScript string
}

// Where the files are in the VM.
const (
	remoteInput  = "/home/ubuntu/transform/in"
	remoteOutput = "/home/ubuntu/transform/out"
	remoteFolder = "/home/ubuntu/transform"
)

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.group, "group", "", "the host `group`; may be left out where there is only one")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: transform [-group GROUP] INPUT OUTPUT SHELL-COMMAND")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 3 {
		flag.Usage()
		os.Exit(2)
	}
	o.input, o.output, o.shellScript = flag.Arg(0), flag.Arg(1), flag.Arg(2)

	if err := start(o); err != nil {
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

// run transforms the file. What the command prints goes to out.
func run(ctx context.Context, client *slicer.SlicerClient, o options, out io.Writer) (err error) {
	group, err := onlyGroup(ctx, client, o.group)
	if err != nil {
		return err
	}
	vm, err := client.CreateVMWithOptions(ctx, group, slicer.SlicerCreateNodeRequest{}, slicer.CreateVMOptions{
		Wait: "agent", Timeout: 2 * time.Minute,
	})
	if err != nil {
		return err
	}
	defer func() {
		// An interrupt ends ctx, and the VM shall be deleted all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_, deleteErr := client.DeleteVM(ctx, group, vm.Hostname)
		err = errors.Join(err, deleteErr)
	}()

	// NonRootUser leaves the choice of the user to the VM's agent: ubuntu.
	user := slicer.NonRootUser
	mkdir := client.Command(ctx, vm.Hostname, "mkdir", "-p", remoteFolder)
	mkdir.UID, mkdir.GID = user, user
	if err := mkdir.Run(); err != nil {
		return fmt.Errorf("make %s: %w", remoteFolder, err)
	}
	if err := client.CpToVM(ctx, vm.Hostname, o.input, remoteInput, user, user, "0644", "binary"); err != nil {
		return err
	}
	command := client.Command(ctx, vm.Hostname, "/bin/bash", "-lc", o.shellScript)
	command.Env = []string{"IN=" + remoteInput, "OUT=" + remoteOutput}
	command.Dir = remoteFolder
	command.UID, command.GID = user, user
	command.Stdout, command.Stderr = out, out
	if err := command.Run(); err != nil {
		return fmt.Errorf("run the command: %w", err)
	}
	return client.CpFromVM(ctx, vm.Hostname, remoteOutput, o.output, "", "binary")
}

// onlyGroup is the group that was asked for, or the daemon's only one, whose name
// is needed to delete a VM.
func onlyGroup(ctx context.Context, client *slicer.SlicerClient, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	groups, err := client.GetHostGroups(ctx)
	if err != nil {
		return "", err
	}
	if len(groups) != 1 {
		return "", fmt.Errorf("the daemon has %d host groups; name one with -group", len(groups))
	}
	return groups[0].Name, nil
}
