// Command tour is an MCP client that takes a slicervm-mcp server through its
// main job over a real pipe: create a VM, copy a project in, build and run it
// there, read the result, pause and resume, hand over a secret, delete, and
// look for anything that was left. It prints the conversation, ends with
// "demo: ok", and exits 1 at the first thing that isn't as it should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	server := flag.String("server", "./slicervm-mcp", "the server's `binary`")
	project := flag.String("project", "examples/demo", "the `folder` to build and run in a VM")
	flag.Parse()
	if err := guided(*server, *project); err != nil {
		fmt.Printf("demo: FAILED: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("demo: ok")
}

// guided runs the tour within two minutes, or until it is interrupted.
func guided(server, project string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return run(ctx, server, project)
}

// run starts the server in a scratch folder of its own, takes the tour and
// checks that the server has left nothing.
func run(ctx context.Context, server, project string) (err error) {
	project, err = filepath.Abs(project)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "slicervm-mcp-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	state := filepath.Join(scratch, "state")
	drop := filepath.Join(scratch, "secrets")
	if err := os.Mkdir(drop, 0o700); err != nil {
		return err
	}

	s, err := connect(ctx, server, "--embedded", "--state-dir", state, "--root", project, "--root", drop, "--log-level", "warn")
	if err != nil {
		return err
	}
	seen := watchProcesses(os.Getpid())
	tourErr := tour(ctx, s, project, drop)
	processes := seen.stop()
	if err := errors.Join(tourErr, s.close()); err != nil {
		return err
	}
	fmt.Println("\n· the server has exited; looking for what it left")
	if err := nothingLeft(processes, state); err != nil {
		return err
	}
	fmt.Printf("· of %d processes, the mounts and the folders nothing is left\n", len(processes))
	return nil
}

// tour is the conversation.
func tour(ctx context.Context, s *session, project, drop string) error {
	const builder, other = "builder", "other"
	report := "/home/ubuntu/demo/out/report.txt"
	token := "demo-" + time.Now().UTC().Format("150405.000000000")
	tokenFile := filepath.Join(drop, "token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		return err
	}
	steps := []step{
		{
			say:  "create a VM", // a microVM of the default size
			tool: "create_vm", args: args{"name": builder},
			want: contains("sbox-1"),
		},
		{
			say:  "copy the project in",
			tool: "cp_to_vm", args: args{"vm": builder, "host_path": project, "vm_path": "/home/ubuntu/demo"},
			want: contains("files"),
		},
		{
			say:  "build it and run it there, as ubuntu",
			tool: "exec", args: args{"vm": builder, "cwd": "/home/ubuntu/demo", "command": "id -un && hostname && make all check run"},
			want: contains("exit 0", "ubuntu", "sbox-1", "check: ok", "wrote out/report.txt"),
		},
		{
			say:  "read the file that it wrote",
			tool: "read_file", args: args{"vm": builder, "file_path": report},
			want: contains("requests 400", "most read:"),
		},
		{
			say:  "pause the VM",
			tool: "pause", args: args{"vm": builder},
			want: contains("paused"),
		},
		{
			say:  "a paused VM refuses commands, and says what to do",
			tool: "exec", args: args{"vm": builder, "command": "date"},
			want: refused("paused", "resume"),
		},
		{
			say:  "resume it",
			tool: "resume", args: args{"vm": builder},
			want: contains("running"),
		},
		{
			say:  "its files are still there",
			tool: "exec", args: args{"vm": builder, "command": "wc -l <demo/out/report.txt"},
			want: contains("exit 0"),
		},
		{
			say:  "create a secret from a file; its value isn't in the conversation",
			tool: "create_secret", args: args{"name": "api-token", "from_file": tokenFile, "mode": "0400", "user": "ubuntu"},
			want: contains("api-token"),
		},
		{
			say:  "secrets are listed without their values",
			tool: "list_secrets", args: args{},
			want: all(contains("api-token", "0400"), lacks(token)),
		},
		{
			say:  "create a second VM",
			tool: "create_vm", args: args{"name": other},
			want: contains("sbox-2"),
		},
		{
			say:  "it has the secret, with its permissions",
			tool: "exec", args: args{"vm": other, "command": "stat -c '%a %U %n' /run/slicer/secrets/api-token && sha256sum </run/slicer/secrets/api-token"},
			want: contains("400 ubuntu /run/slicer/secrets/api-token", digest(token)),
		},
		{
			say:  "and nothing of the first VM's",
			tool: "exec", args: args{"vm": other, "command": "ls -d /home/ubuntu/demo || echo absent; hostname"},
			want: contains("absent", "sbox-2"),
		},
		{
			say:  "a VM that doesn't exist is a plain error",
			tool: "exec", args: args{"vm": "sbox-99", "command": "true"},
			want: refused("sbox-99", "list_vms"),
		},
		{
			say:  "delete both",
			tool: "delete_vm", args: args{"vm": builder},
			want: contains("deleted"),
		},
		{
			tool: "delete_vm", args: args{"vm": other},
			want: contains("deleted"),
		},
		{
			say:  "no VM is left",
			tool: "list_vms", args: args{},
			want: lacks("sbox-1", "sbox-2"),
		},
	}
	for _, st := range steps {
		if err := s.take(ctx, st); err != nil {
			return err
		}
	}
	return nil
}
