// Command k3s-userdata makes a VM that installs k3s, a small Kubernetes, from a
// userdata script on its first boot, waits until the cluster is ready, and
// fetches its kubeconfig.
//
//	export SLICER_URL=http://127.0.0.1:8080 SLICER_TOKEN_FILE=/var/lib/slicer/auth/token
//	go run ./examples/k3s-userdata -kubeconfig ./kubeconfig
//	kubectl --kubeconfig ./kubeconfig get node
//
// The kubeconfig holds a key of the cluster's administrator; its file is written
// for its owner alone. It names the VM's address. Where that can't be reached,
// forward a port to the VM's 6443, as package sdk/forward does, and put
// 127.0.0.1 in its place.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// userdata is run by root on the VM's first boot.
//
//go:embed userdata.sh
var userdata string

const (
	remoteKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	localServer      = "https://127.0.0.1:6443"
)

// options are the command's flags.
type options struct {
	group      string // host group; "" is the only one
	kubeconfig string // file to write
	timeout    time.Duration
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.group, "group", "", "the host `group`; may be left out where there is only one")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "kubeconfig", "the `file` to write; it must not exist")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how `long` the installation may take")
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

// run makes the cluster and says on out what comes of it.
func run(ctx context.Context, client *slicer.SlicerClient, o options, out io.Writer) error {
	if _, err := os.Lstat(o.kubeconfig); err == nil {
		return fmt.Errorf("%s exists", o.kubeconfig)
	}
	// The daemon waits for the script's end. When the time is over it removes
	// the VM.
	vm, err := client.CreateVMWithOptions(ctx, o.group, slicer.SlicerCreateNodeRequest{
		Userdata: userdata, Tags: []string{"example=k3s-userdata"},
	}, slicer.CreateVMOptions{Wait: "userdata", Timeout: o.timeout})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s %s has run its userdata\n", vm.Hostname, vm.IPAddress())

	health, err := client.GetAgentHealth(ctx, vm.Hostname, false)
	if err != nil {
		return err
	}
	if code := health.UserdataExitCode; code != nil && *code != 0 {
		return fmt.Errorf("the userdata script ended with exit code %d; see the log of VM %s%s", *code, vm.Hostname, lastLines(ctx, client, vm.Hostname))
	}
	if err := waitForNode(ctx, client, vm.Hostname, o.timeout); err != nil {
		return err
	}

	config, err := client.ReadFile(ctx, vm.Hostname, remoteKubeconfig)
	if err != nil {
		return err
	}
	if !bytes.Contains(config, []byte(localServer)) {
		return fmt.Errorf("the kubeconfig doesn't name the server %s", localServer)
	}
	config = bytes.ReplaceAll(config, []byte(localServer), []byte("https://"+vm.IPAddress().String()+":6443"))
	if err := writePrivate(o.kubeconfig, config); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "the cluster is ready; its kubeconfig is %s\n", o.kubeconfig)
	return err
}

// waitForNode asks until Kubernetes says that its node is ready.
func waitForNode(ctx context.Context, client *slicer.SlicerClient, hostname string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		wait := client.Command(ctx, hostname, "/usr/local/bin/k3s", "kubectl", "wait", "--for=condition=Ready", "node", "--all", "--timeout=20s")
		said, err := wait.CombinedOutput()
		if err == nil {
			return nil
		}
		var exit *slicer.ExitError
		if ctx.Err() == nil && !errors.As(err, &exit) {
			return err // what keeps the daemon from asking won't pass by itself
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the cluster's node isn't ready: %w: %s", err, bytes.TrimSpace(said))
		}
	}
}

// lastLines is the end of a VM's console, as far as it can be had.
func lastLines(ctx context.Context, client *slicer.SlicerClient, hostname string) string {
	logs, err := client.GetVMLogs(ctx, hostname, 10)
	if err != nil {
		return ""
	}
	return ":\n" + logs.Content
}

// writePrivate writes a new file that is its owner's alone.
func writePrivate(name string, data []byte) error {
	file, err := os.OpenFile(filepath.Clean(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}
