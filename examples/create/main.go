// Command create makes a VM, waits until it takes commands, and prints its name
// and address.
//
//	export SLICER_URL=http://127.0.0.1:8080 SLICER_TOKEN_FILE=/var/lib/slicer/auth/token
//	go run ./examples/create -cpus 2 -ram-gib 4 -tag project=demo
//
// The VM stays. It is ephemeral: it is gone when it is deleted, when it ends, or
// when the daemon restarts.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// options are the command's flags.
type options struct {
	group  string // host group; "" is the only one
	cpus   int    // 0 is the group's
	ramGiB int64  // 0 is the group's
	tag    string // "" is none
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.group, "group", "", "the host `group`; may be left out where there is only one")
	flag.IntVar(&o.cpus, "cpus", 0, "virtual CPUs; 0 is the group's `number`")
	flag.Int64Var(&o.ramGiB, "ram-gib", 0, "memory in `GiB`; 0 is the group's")
	flag.StringVar(&o.tag, "tag", "", "a `tag` to find the VM by; name=x is unique")
	flag.Parse()

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

// run creates the VM and says so on out.
func run(ctx context.Context, client *slicer.SlicerClient, o options, out io.Writer) error {
	request := slicer.SlicerCreateNodeRequest{CPUs: o.cpus, RamBytes: slicer.GiB(o.ramGiB)}
	if o.tag != "" {
		request.Tags = []string{o.tag}
	}
	// When the time is over the daemon removes the VM, so that none is left
	// half made.
	vm, err := client.CreateVMWithOptions(ctx, o.group, request, slicer.CreateVMOptions{
		Wait: "agent", Timeout: 2 * time.Minute,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s\n", vm.Hostname, vm.IPAddress())
	return err
}
