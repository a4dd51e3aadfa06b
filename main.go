// Command slicervm-mcp is an MCP server that gives AI agents Slicer microVMs
// as tools.
package main

import (
	"os"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
)

func main() {
	os.Exit(app.Main(app.Process{
		Args:   os.Args[1:],
		Getenv: os.Getenv,
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
	}))
}
