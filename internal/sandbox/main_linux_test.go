package sandbox_test

import (
	"os"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.RunIfInit()
	runAttacks()
	runCalls()
	if state := os.Getenv(serverEnv); state != "" {
		serveUntilKilled(state)
	}
	os.Exit(m.Run())
}
