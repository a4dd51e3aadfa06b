package slicer_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"sort"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// startDaemon stands for a Slicer daemon; with a real one the client comes from
// slicer.NewSlicerClientFromEnv.
func startDaemon(programs map[string]slicertest.Program) (client *slicer.SlicerClient, stop func()) {
	srv, err := slicertest.Start(slicertest.Options{Programs: programs})
	if err != nil {
		log.Fatal(err)
	}
	return srv.Client(), srv.Close
}

// Create a VM, run a command in it as its ordinary user, and delete it.
func ExampleSlicerClient_Exec() {
	client, stop := startDaemon(nil)
	ctx := context.Background()

	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{CPUs: 2, RamBytes: slicer.GiB(4)})
	if err != nil {
		log.Fatal(err)
	}
	results, err := client.Exec(ctx, vm.Hostname, slicer.SlicerExecRequest{
		Command: "echo", Args: []string{"hello from", vm.Hostname},
		UID: slicer.NonRootUser, GID: slicer.NonRootUser,
	})
	if err != nil {
		log.Fatal(err)
	}
	for result := range results {
		fmt.Print(result.Stdout)
		if result.Type == "exit" {
			fmt.Println("exit code", result.ExitCode)
		}
	}
	if _, err := client.DeleteVM(ctx, "sbox", vm.Hostname); err != nil {
		log.Fatal(err)
	}
	stop()
	// Output:
	// hello from sbox-1
	// exit code 0
}

// Feed a command and read what it makes of it.
func ExampleSlicerClient_Command() {
	client, stop := startDaemon(map[string]slicertest.Program{"sort": sortLines})
	ctx := context.Background()
	vm, err := client.CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Fatal(err)
	}

	cmd := client.Command(ctx, vm.Hostname, "sort")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(stdin, "pear")
	fmt.Fprintln(stdin, "apple")
	stdin.Close()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cmd.ProcessState)
	stop()
	// Output:
	// apple
	// pear
	// exit status 0
}

// sortLines stands for the program sort.
func sortLines(_ context.Context, p *slicertest.Proc) int {
	text, err := io.ReadAll(p.Stdin)
	if err != nil {
		return 1
	}
	lines := strings.SplitAfter(string(text), "\n")
	sort.Strings(lines)
	fmt.Fprint(p.Stdout, strings.Join(lines, ""))
	return 0
}

// Start a command that outlives the connection, read the beginning of its log,
// and go on reading where that ended.
func ExampleSlicerClient_ExecBackground() {
	goOn := make(chan struct{})
	client, stop := startDaemon(map[string]slicertest.Program{"build": func(_ context.Context, p *slicertest.Proc) int {
		fmt.Fprintln(p.Stdout, "compiling")
		<-goOn
		fmt.Fprintln(p.Stdout, "done")
		return 0
	}})
	ctx := context.Background()
	vm, err := client.CreateVM(ctx, "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Fatal(err)
	}

	build, err := client.ExecBackground(ctx, vm.Hostname, slicer.SlicerExecRequest{Command: "build"}, slicer.ExecBackgroundOptions{})
	if err != nil {
		log.Fatal(err)
	}
	var next uint64
	for piece, err := range client.ExecLogsSeq(ctx, vm.Hostname, build.ExecID, slicer.ExecLogsOptions{Follow: true}) {
		if err != nil {
			log.Fatal(err)
		}
		next = piece.ID + 1
		fmt.Print(piece.Stdout)
		if piece.Stdout != "" {
			break // as if the connection had been lost
		}
	}
	close(goOn)
	for piece, err := range client.ExecLogsSeq(ctx, vm.Hostname, build.ExecID, slicer.ExecLogsOptions{Follow: true, FromID: next}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(piece.Stdout)
		if piece.Type == "exit" {
			fmt.Println("exit code", piece.ExitCode)
		}
	}
	if _, err := client.ExecDelete(ctx, vm.Hostname, build.ExecID); err != nil {
		log.Fatal(err)
	}
	stop()
	// Output:
	// compiling
	// done
	// exit code 0
}
