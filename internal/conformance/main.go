// Command conformance runs MCP's public conformance suite, both lines of it,
// against this project's HTTP transport (`make conformance`).
//
// It installs the suite, and the Node that the suite needs, into a folder,
// serves the suite's fixtures from command server beside it, and judges every
// scenario that the suite lists by its exit code and its checks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// atOnce is how many runs of the suite there are at a time: more would be too
// slow for the suite's own time limits on a small machine.
const atOnce = 2

// runs are what is run: the older line of the suite has one way to run, the
// newer one speaks a version of the protocol; without a version, each
// scenario's own, and the extensions too.
func runs() []run {
	const older, newer = "conformance-0.1", "conformance-0.2"
	return []run{
		{line: newer},
		{line: newer, version: "2025-11-25"},
		{line: older},
		{line: newer, version: "2025-06-18"},
		{line: newer, version: "2026-07-28"},
		{line: newer, version: "2025-03-26"},
	}
}

func main() {
	dir := flag.String("dir", filepath.Join("dist", "conformance"), "the `folder` to install the suite into, and for its results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := conform(ctx, *dir, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// conform installs and runs everything in dir and says on out how it went.
func conform(ctx context.Context, dir string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find folder: %w", err)
	}
	begin := time.Now()
	expected, err := parseExpectations(expectedFailures)
	if err != nil {
		return err
	}
	s, err := install(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "installed in %s\n", since(begin))

	var problems []string
	for result := range s.runAll(ctx, runs()) {
		verdict := expected.judge(result)
		fmt.Fprintf(out, "%-27s %2d scenarios in %s: %s\n", result.run, len(result.scenarios), result.took, verdict)
		problems = append(problems, verdict.problems...)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	problems = append(problems, expected.unused()...)
	for _, p := range problems {
		fmt.Fprintln(out, "FAIL", p)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems; the suite's own words are in %s", len(problems), filepath.Join(dir, resultsDir))
	}
	fmt.Fprintf(out, "every scenario of both lines is as expected, in %s\n", since(begin))
	return nil
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// errCutOff is what is wrong with a program that took too long.
var errCutOff = errors.New("took too long and was ended")
