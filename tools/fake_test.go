package tools_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// script is a guest's shell in a test: what bash -lc would run.
type script = func(ctx context.Context, p *slicertest.Proc, script string) int

// fakeDaemon starts a daemon with scripted guests and returns a client for it.
func fakeDaemon(t *testing.T) *slicer.SlicerClient {
	t.Helper()
	return slicertest.NewServer(t, slicertest.Options{Shell: launched(runWords)}).Client()
}

// runWords runs a script of one command without any quoting.
func runWords(ctx context.Context, p *slicertest.Proc, script string) int {
	return p.Run(ctx, strings.Fields(script)...)
}

// launched is a shell that understands how exec launches a command: it stands
// for sh, timeout and bash, and gives run what bash would get.
func launched(run script) script {
	return func(ctx context.Context, p *slicertest.Proc, script string) int {
		if len(p.Args) != 5 || !strings.Contains(script, "timeout -k") {
			return run(ctx, p, script)
		}
		lifetime, err := strconv.Atoi(p.Args[3])
		if err != nil {
			return 125
		}
		limited, cancel := context.WithTimeout(ctx, time.Duration(lifetime)*time.Second)
		defer cancel()
		command := p.Args[4]
		if strings.HasPrefix(command, "/tmp/.slicervm-mcp-script-") {
			text, err := p.Files().ReadFile(command)
			if err != nil {
				return 126
			}
			command = string(text)
		}
		code := run(limited, p, command)
		if ctx.Err() == nil && limited.Err() != nil {
			return 124
		}
		return code
	}
}
