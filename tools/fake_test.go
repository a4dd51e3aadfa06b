package tools_test

import (
	"testing"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// fakeDaemon starts a daemon with scripted guests and returns a client for it.
func fakeDaemon(t *testing.T) *slicer.SlicerClient {
	t.Helper()
	return slicertest.NewServer(t).Client()
}
