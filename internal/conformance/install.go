package main

import (
	"bytes"
	"context"
	_ "embed" // the lists of packages and of expected failures
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// What npm installs, how, and what is expected of it.
var (
	//go:embed package.json
	packageJSON []byte
	//go:embed package-lock.json
	packageLock []byte
	//go:embed .npmrc
	npmrc []byte
	//go:embed expected-failures.yaml
	expectedFailures []byte
)

const (
	fixtures       = "github.com/slicervm-mcp/slicervm-mcp/internal/conformance/server"
	resultsDir     = "results"
	installedFile  = "installed"
	expectedFile   = "expected-failures.yaml"
	installTimeout = 5 * time.Minute
)

// suite is an installed suite.
type suite struct {
	dir    string // where it is
	node   string // the Node that runs it
	server string // the program that serves its fixtures
}

// install installs the suite into dir, unless it is there already, and builds
// the server of its fixtures. Results of earlier runs are removed.
func install(ctx context.Context, dir string) (*suite, error) {
	s := &suite{
		dir:    dir,
		node:   filepath.Join(dir, "node_modules", nodePackage(), "bin", "node"),
		server: filepath.Join(dir, "server"),
	}
	if err := os.RemoveAll(filepath.Join(dir, resultsDir)); err != nil {
		return nil, fmt.Errorf("remove old results: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, resultsDir), 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, expectedFile), expectedFailures, 0o644); err != nil {
		return nil, fmt.Errorf("write expected failures: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, installTimeout, errCutOff)
	defer cancel()
	if err := s.npm(ctx); err != nil {
		return nil, fmt.Errorf("install the suite: %w", err)
	}
	if err := command(ctx, "", "go", "build", "-o", s.server, fixtures); err != nil {
		return nil, fmt.Errorf("build the fixtures: %w", err)
	}
	return s, nil
}

// npm installs what the lock file says. That it did is noted in a file, last,
// so that an install that was cut off is done again.
func (s *suite) npm(ctx context.Context) error {
	note := filepath.Join(s.dir, installedFile)
	if done, err := os.ReadFile(note); err == nil && bytes.Equal(done, packageLock) {
		return nil
	}
	for name, content := range map[string][]byte{"package.json": packageJSON, "package-lock.json": packageLock, ".npmrc": npmrc} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := command(ctx, s.dir, "npm", "ci"); err != nil {
		return err
	}
	if _, err := os.Stat(s.node); err != nil {
		return fmt.Errorf("no Node of this platform is in package.json: %w", err)
	}
	if err := os.WriteFile(note, packageLock, 0o644); err != nil {
		return fmt.Errorf("note the install: %w", err)
	}
	return nil
}

// nodePackage is the package with this platform's Node.
func nodePackage() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return "node-" + runtime.GOOS + "-" + arch
}

// command runs a program and, when it fails, says what it said.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// outcome is how a program that ran ended: nil, its exit code as an error, or
// why it was ended.
func outcome(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("exit code %d", exit.ExitCode())
	}
	return err
}
