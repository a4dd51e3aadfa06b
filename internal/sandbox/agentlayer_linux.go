package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// agentProgram is what a guest's agent runs. It isn't the copy in memory that
// guests are started with: who runs a program can reach its file, and a guest's
// root could forbid everybody to execute that one.
const (
	agentMount   = "/run/slicer/bin"
	agentProgram = agentMount + "/" + agentName
)

// The folders below bootConfig.AgentDir.
const (
	agentLayer = "program" // has this program
	emptyLayer = "empty"   // an overlay without a layer to write to needs two
)

// writeAgentLayers makes dir, with what mountAgent shows.
func writeAgentLayers(dir string, program *os.File) error {
	for _, folder := range []string{dir, filepath.Join(dir, agentLayer), filepath.Join(dir, emptyLayer)} {
		if err := mkdirMode(folder, 0o755); err != nil {
			return fmt.Errorf("place the agent: %w", err)
		}
	}
	if err := writeProgram(filepath.Join(dir, agentLayer, agentName), program); err != nil {
		return fmt.Errorf("place the agent: %w", err)
	}
	return nil
}

// mountAgent shows the agent's program where no guest can change it. An overlay
// without a layer to write to is read-only for good, and executes also what
// lies on a file system that doesn't.
func mountAgent(cfg *bootConfig) error {
	const target = "root" + agentMount
	if err := mkdirMode(target, 0o755); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s:%s", escapeOption(filepath.Join(cfg.AgentDir, agentLayer)), escapeOption(filepath.Join(cfg.AgentDir, emptyLayer)))
	if cfg.Idmap.Kind != idmapRoot {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, options); err != nil {
		return fmt.Errorf("%w at %s: %w", errOverlay, agentMount, err)
	}
	return nil
}
