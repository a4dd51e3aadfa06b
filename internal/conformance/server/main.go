// Command server serves the fixtures of MCP's public conformance suite over
// this project's HTTP transport, for `make conformance`. It prints its URL on
// a line of its own and ends at SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance server:", err)
		os.Exit(1)
	}
}

// run serves on a free port of this machine, which it prints to stdout, until
// ctx is done.
func run(ctx context.Context, stdout io.Writer) error {
	srv, err := fixtures()
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	mcpHTTP := serve.NewHTTP(srv, serve.HTTPOptions{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	web := &http.Server{Handler: mcpHTTP, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ln) }()
	fmt.Fprintf(stdout, "http://%s/mcp\n", ln.Addr())

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = errors.Join(mcpHTTP.Close(end), web.Shutdown(end))
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// fixtures is a server of what the suite's scenarios ask for.
func fixtures() (*server.MCPServer, error) {
	srv := server.NewMCPServer("conformance-fixtures", "1.0.0",
		server.WithToolCapabilities(true),
		server.WithResourceCapabilities(true, true),
		server.WithPromptCapabilities(true),
		server.WithCompletions(),
		server.WithLogging(),
	)
	addContentTools(srv)
	addSchemaTools(srv)
	addNotifyingTools(srv)
	addResources(srv)
	addPrompts(srv)
	return srv, addAskingTools(srv)
}
