// Command claude gives a task to Claude Code, headless, in a VM of its own: it
// makes the VM, installs the agent there, copies a project and the agent's
// credentials in, lets it work, fetches the project as it then is, and deletes
// the VM.
//
//	export SLICER_URL=http://127.0.0.1:8080 SLICER_TOKEN_FILE=/var/lib/slicer/auth/token
//	echo 'Make the tests pass.' |
//	  go run ./examples/claude -credentials ~/.claude/.credentials.json -project . -result /tmp/result
//
// The task is read from standard input. The agent asks for no permission, as it
// can do no harm outside its VM; it does have the network and the credentials.
//
// The credentials are read from the file that is named, which must be its
// owner's alone, and travel in the body of one request to the daemon. They are
// never part of a command line, of an environment or of a URL, which others can
// see and logs keep, and never printed. In the VM they are a file of the agent's
// user with the mode 0600 in a folder with the mode 0700, and end with the VM.
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
	"runtime"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	home              = "/home/ubuntu"
	remoteProject     = home + "/project"
	remoteFolder      = home + "/.claude"
	remoteCredentials = remoteFolder + "/.credentials.json"

	// maxCredentials bounds the credentials, in bytes.
	maxCredentials = 1 << 20
)

// options are the command's flags.
type options struct {
	group       string // host group; "" is the only one
	credentials string // file
	project     string // folder to copy in; "" is none
	result      string // folder to fetch it to; "" is none
	install     string // shell command that installs the agent
	agent       string // shell command that runs it
	task        io.Reader
}

func main() {
	log.SetFlags(0)
	o := options{task: os.Stdin}
	flag.StringVar(&o.group, "group", "", "the host `group`; may be left out where there is only one")
	flag.StringVar(&o.credentials, "credentials", "", "the `file` with the agent's credentials")
	flag.StringVar(&o.project, "project", "", "a `folder` to work on")
	flag.StringVar(&o.result, "result", "", "the `folder` to fetch the project to afterwards")
	flag.StringVar(&o.install, "install", "curl -fsSL https://claude.ai/install.sh | bash", "the `command` that installs the agent")
	flag.StringVar(&o.agent, "agent", `PATH="$HOME/.local/bin:$PATH" exec claude --print --dangerously-skip-permissions`, "the `command` that runs it, with the task as its input")
	flag.Parse()
	if o.credentials == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}

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

// run lets the agent work in a VM. What it says goes to out.
func run(ctx context.Context, client *slicer.SlicerClient, o options, out io.Writer) (err error) {
	credentials, err := readCredentials(o.credentials)
	if err != nil {
		return err
	}
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
		// An interrupt ends ctx; the credentials shall not stay in a VM.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_, deleteErr := client.DeleteVM(ctx, group, vm.Hostname)
		err = errors.Join(err, deleteErr)
	}()

	b := box{client: client, hostname: vm.Hostname, out: out}
	// The installer runs before there are credentials that it could read.
	if err := b.shell(ctx, home, o.install, nil); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	if err := b.shell(ctx, home, "mkdir -p "+remoteFolder+" "+remoteProject+" && chmod 0700 "+remoteFolder, nil); err != nil {
		return fmt.Errorf("make folders: %w", err)
	}
	user := slicer.NonRootUser
	if o.project != "" {
		if err := client.CpToVM(ctx, vm.Hostname, o.project, remoteProject, user, user, "", "tar"); err != nil {
			return err
		}
	}
	if err := client.WriteFile(ctx, vm.Hostname, remoteCredentials, credentials, 0o600, user, user); err != nil {
		return err
	}
	if err := b.shell(ctx, remoteProject, o.agent, o.task); err != nil {
		return fmt.Errorf("run the agent: %w", err)
	}
	if o.result == "" {
		return nil
	}
	return client.CpFromVM(ctx, vm.Hostname, remoteProject, o.result, "", "tar")
}

// readCredentials reads the file with the credentials. It refuses one that others
// can read, as what is in it may be known to them already.
func readCredentials(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", name)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be used by others than its owner: chmod 600 it", name)
	case info.Size() > maxCredentials:
		return nil, fmt.Errorf("%s is too large for credentials", name)
	}
	return io.ReadAll(io.LimitReader(file, maxCredentials))
}

// box is the VM that the agent works in.
type box struct {
	client   *slicer.SlicerClient
	hostname string
	out      io.Writer
}

// shell runs a shell command in a folder, as the VM's ordinary user.
func (b box) shell(ctx context.Context, folder, script string, stdin io.Reader) error {
	command := b.client.Command(ctx, b.hostname, "/bin/bash", "-lc", script)
	command.UID, command.GID = slicer.NonRootUser, slicer.NonRootUser
	command.Dir = folder
	command.Stdin = stdin
	command.Stdout, command.Stderr = b.out, b.out
	return command.Run()
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
