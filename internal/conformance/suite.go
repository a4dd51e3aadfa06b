package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// runTimeout is how long one run of the suite may take. It takes some 15 s.
const runTimeout = 3 * time.Minute

// run is one run of one line of the suite.
type run struct {
	line    string // the folder of the suite's line
	version string // of the protocol; "" leaves it to each scenario
}

// String is the run's name, which names its results too.
func (r run) String() string { return strings.TrimSuffix(r.line+"-"+r.version, "-") }

// result is what came of a run.
type result struct {
	run
	scenarios []string           // what the suite lists
	checks    map[string][]check // what was checked, by scenario
	err       error              // why the suite's exit code isn't 0, or why it couldn't run
	took      time.Duration
}

// check is what the suite says of one requirement.
type check struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	ErrorMessage string `json:"errorMessage"`
}

// runAll yields what comes of each run, in the order in which they end.
func (s *suite) runAll(ctx context.Context, runs []run) iter.Seq[result] {
	return func(yield func(result) bool) {
		ctx, cancel := context.WithCancel(ctx)
		todo, results := make(chan run, len(runs)), make(chan result, len(runs))
		for _, r := range runs {
			todo <- r
		}
		close(todo)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for range atOnce {
			wg.Go(func() {
				for r := range todo {
					results <- s.run(ctx, r)
				}
			})
		}
		for range runs {
			if !yield(<-results) {
				return
			}
		}
	}
}

// run runs r against a server of its own.
func (s *suite) run(ctx context.Context, r run) result {
	begin := time.Now()
	res := result{run: r}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, errCutOff)
	defer cancel()
	if res.scenarios, res.err = s.list(ctx, r); res.err == nil {
		res.err = s.serve(ctx, r, func(url string) error { return s.check(ctx, r, url) })
	}
	var err error
	if res.checks, err = readChecks(filepath.Join(s.dir, resultsDir, r.String())); err != nil && res.err == nil {
		res.err = err
	}
	res.took = since(begin)
	return res
}

// list is the names of the scenarios in r.
func (s *suite) list(ctx context.Context, r run) ([]string, error) {
	out, err := s.command(ctx, r, "list", "--server").Output()
	if err := outcome(ctx, err); err != nil {
		return nil, fmt.Errorf("list scenarios: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if entry, ok := strings.CutPrefix(line, "  - "); ok {
			names = append(names, strings.Fields(entry)[0])
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("list scenarios: there are none")
	}
	return names, nil
}

// check runs the scenarios in r against the server at url. What the suite says
// goes to a file.
func (s *suite) check(ctx context.Context, r run, url string) error {
	results := filepath.Join(s.dir, resultsDir, r.String())
	log, err := os.Create(results + ".log")
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	cmd := s.command(ctx, r, "server", "--url", url, "--suite", "all",
		"--expected-failures", filepath.Join(s.dir, expectedFile), "--output-dir", results)
	cmd.Stdout, cmd.Stderr = log, log
	if err := outcome(ctx, cmd.Run()); err != nil {
		return fmt.Errorf("run scenarios: %w", err)
	}
	return nil
}

// command is the suite's command line.
func (s *suite) command(ctx context.Context, r run, args ...string) *exec.Cmd {
	if r.version != "" {
		args = append(args, "--spec-version", r.version)
	}
	program := filepath.Join(s.dir, "node_modules", r.line, "dist", "index.js")
	cmd := exec.CommandContext(ctx, s.node, append([]string{program}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// serve serves the fixtures while use runs. A server that doesn't end in order
// is an error too.
func (s *suite) serve(ctx context.Context, r run, use func(url string) error) error {
	cmd := exec.CommandContext(ctx, s.server)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	log, err := os.Create(filepath.Join(s.dir, resultsDir, r.String()+".server.log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	url, err := bufio.NewReaderSize(stdout, 4096).ReadSlice('\n')
	if err != nil {
		_ = cmd.Process.Kill() // It is ended whatever state it is in.
		_ = cmd.Wait()
		return fmt.Errorf("read the server's URL: %w", err)
	}
	used := use(string(bytes.TrimSpace(url)))
	ended := cmd.Process.Signal(syscall.SIGTERM)
	if err := outcome(ctx, cmd.Wait()); err != nil {
		ended = err
	}
	if used == nil && ended != nil {
		return fmt.Errorf("end server: %w", ended)
	}
	return used
}

// resultName is the name of a folder with a scenario's results.
var resultName = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(-\d+)?Z$`)

// readChecks reads what was checked, by scenario.
func readChecks(dir string) (map[string][]check, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	checks := make(map[string][]check)
	for _, e := range entries {
		name := resultName.FindStringSubmatch(e.Name())
		if name == nil {
			return nil, fmt.Errorf("read results: %s is the result of no scenario", e.Name())
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), "checks.json"))
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		var of []check
		if err := json.Unmarshal(data, &of); err != nil {
			return nil, fmt.Errorf("read results of %s: %w", name[1], err)
		}
		checks[name[1]] = append(checks[name[1]], of...)
	}
	return checks, nil
}
