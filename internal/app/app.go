// Package app is the command line of slicervm-mcp: it reads flags and
// environment, finds or starts a Slicer daemon, assembles the MCP server over
// it and serves until the client or a signal ends it.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// Exit statuses of Main.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Process is what the program has of its process.
type Process struct {
	Args   []string            // without the program's name
	Getenv func(string) string // as os.Getenv
	Stdin  io.Reader           // closed, if it is an io.Closer, when a signal ends the program
	Stdout io.Writer           // the MCP client's; nothing else is written to it
	Stderr io.Writer           // logs and errors

	// Dir is the working folder; "" is that of the process.
	Dir string

	// Root stands for / when a daemon's well-known files are looked for; "" is
	// / itself.
	Root string
}

// dir is the working folder as an absolute path.
func (p Process) dir() (string, error) {
	if p.Dir != "" {
		return p.Dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working folder: %w", err)
	}
	return dir, nil
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// Main runs the program and returns its exit status: 0 when it did what it was
// asked, 2 for a mistake on the command line, else 1. Each error is one line on
// Stderr. In a process that is the first of an embedded VM, Main takes over and
// does not return.
func Main(p Process) int {
	sandbox.RunIfInit()

	ctx, stop := signalContext(context.Background())
	defer stop()
	root := newRootCommand(p)
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) { // a signal came, and nothing went wrong
		return exitOK
	}
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(p.Stderr, "slicervm-mcp: %s (see %s --help)\n", oneLine(err.Error()), cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(p.Stderr, "slicervm-mcp: %s\n", oneLine(err.Error()))
	return exitError
}

// signalContext returns a context that SIGINT, SIGTERM and SIGHUP end. A second
// signal ends the process. Without SIGPIPE's default, a client that has gone is
// an error of the write, which leaves time to clean up.
func signalContext(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)

	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return ctx, func() {
		stop()
		signal.Stop(pipe)
	}
}

// newRootCommand builds the command tree. Without a command it serves.
func newRootCommand(p Process) *cobra.Command {
	root := newServeCommand(p)
	root.Use = "slicervm-mcp"
	root.Long = `slicervm-mcp is an MCP server, on standard input and output or over HTTP, that gives AI agents
Slicer microVMs as tools: create a VM, run commands and copy files in it, pause,
resume and delete it.

The Slicer daemon is the one at --url, else one found at its well-known socket.
Its token comes from SLICER_TOKEN, or from the file that SLICER_TOKEN_FILE names.
--embedded starts a daemon in this process, whose VMs are Linux namespaces; the
daemon command serves the same one alone.`
	root.Version = version()
	root.SetVersionTemplate(versionText())
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err.Error()} })

	serve := newServeCommand(p)
	serve.Use = "serve"
	root.AddCommand(serve, newDaemonCommand(p), newVersionCommand(p))
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Sprintf("unknown argument %q", args[0])}
	}
	return nil
}
