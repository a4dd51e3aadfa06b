// Command blackbox runs the server as its users do, through MCP clients that
// nobody here wrote: the Inspector's command line and both TypeScript clients,
// over every transport, in every revision of the protocol. It prints a line a
// cell and a table, and exits 1 unless every cell is as it should be.
//
// The clients are installed by make matrix, from package-lock.json. A driver
// for each of them is in clients/; what doesn't exist is in absent.txt.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	longestRun = 10 * time.Minute

	// hugeBytes is how much a command writes that writes too much.
	hugeBytes = 32 << 20

	// maxReport is the longest line that a driver may print, in bytes.
	maxReport = 64 << 10

	owner = "blackbox"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "server", "./slicervm-mcp", "the server's `binary`")
	flag.StringVar(&o.folder, "clients", "internal/blackbox", "the `folder` of this command, where node_modules is")
	flag.StringVar(&o.schemas, "schemas", "schemas", "the `folder` with a JSON file for each tool")
	only := [3]*string{
		flag.String("transports", "*", "`transports` to try, with commas"),
		flag.String("versions", "*", "`revisions` of the protocol to try, with commas"),
		flag.String("only", "*", "`clients` to try, with commas"),
	}
	flag.Parse()
	for i, known := range [][]string{transports, versions, clients} {
		var err error
		if o.sides[i], err = side(*only[i], known); err != nil {
			fail(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fail(err)
	}
}

func fail(err error) {
	fmt.Printf("matrix: FAILED: %v\n", err)
	os.Exit(1)
}

// options are the command line.
type options struct {
	binary, folder, schemas string
	sides                   [3][]string // transports, versions, clients
}

// order is what a driver is told.
type order struct {
	Client     string   `json:"client"`
	Binary     string   `json:"binary"`
	Flags      []string `json:"flags"`  // of the server over stdio
	Folder     string   `json:"folder"` // the server's working folder over stdio
	URL        string   `json:"url"`    // streamable HTTP; SSE is at /sse beside it
	VM         string   `json:"vm"`     // name for the driver's VM
	Transports []string `json:"transports"`
	Versions   []string `json:"versions"`
	Tools      []string `json:"tools"` // sorted
	HugeBytes  int      `json:"hugeBytes"`
}

// run starts the daemon and the server, and the drivers side by side.
func run(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	listed, err := parseAbsent(absentText)
	if err != nil {
		return fmt.Errorf("read absent.txt: %w", err)
	}
	tools, err := toolNames(o.schemas)
	if err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	node, err := findNode(o.folder)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "slicervm-mcp-matrix-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	daemon, err := serve(ctx, o.binary, scratch, "daemon",
		"--listen", filepath.Join(scratch, "api.sock"), "--state-dir", filepath.Join(scratch, "state"), "--log-level", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.end()) }()
	flags := []string{"--url", daemon.address, "--owner", owner, "--log-level", "warn"}
	server := &served{}
	if strings.Join(o.sides[0], "") != "stdio" {
		if server, err = serve(ctx, o.binary, scratch, append([]string{"serve", "--transport", "http", "--listen", "127.0.0.1:0"}, flags...)...); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.end()) }()
	}

	b := newBoard(allCells(o.sides[0], o.sides[1], o.sides[2]), listed, os.Stdout)
	reports := make(chan report)
	ended := make(chan error)
	for _, client := range o.sides[2] {
		what := order{
			Client: client, Binary: o.binary, Flags: flags, Folder: scratch, URL: server.address, VM: "eyes-" + client,
			Transports: o.sides[0], Versions: o.sides[1], Tools: tools, HugeBytes: hugeBytes,
		}
		go func() { ended <- drive(ctx, node, o.folder, what, reports) }()
	}
	var broken error
	for left := len(o.sides[2]); left > 0; {
		select {
		case r := <-reports:
			b.add(r)
		case err := <-ended:
			broken = errors.Join(broken, err)
			left--
		}
	}
	return errors.Join(broken, b.finish())
}

// drive runs a driver to its end and hands on what it reports.
func drive(ctx context.Context, node, folder string, what order, reports chan<- report) error {
	arg, err := json.Marshal(what)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, node, filepath.Join(folder, "clients", what.Client+".mjs"), string(arg))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "NODE_COMPILE_CACHE="+filepath.Join(what.Folder, "node-"+what.Client))
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the driver of %s: %w", what.Client, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxReport)
	var odd error
	for lines.Scan() {
		var r report
		dec := json.NewDecoder(strings.NewReader(lines.Text()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			odd = fmt.Errorf("the driver of %s printed %q: %w", what.Client, lines.Text(), err)
			continue
		}
		reports <- r
	}
	// What is left of a line that was too long must not hold the driver up.
	_, _ = io.Copy(io.Discard, out)
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		odd = errors.Join(odd, fmt.Errorf("the driver of %s: %w\n%s", what.Client, err, stderr.String()))
	}
	return odd
}

// findNode finds the Node that package-lock.json brings, else the machine's.
func findNode(folder string) (string, error) {
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	own, err := filepath.Abs(filepath.Join(folder, "node_modules", "node-"+runtime.GOOS+"-"+arch, "bin", "node"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(own); err == nil {
		return own, nil
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return "", fmt.Errorf("find Node: %w", err)
	}
	return node, nil
}

// toolNames are the names of all tools, sorted.
func toolNames(schemas string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(schemas, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no tools in %s", schemas)
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(filepath.Base(file), ".json")
	}
	return names, nil // Glob sorts
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const mostKept = 8 << 10 // bytes of a tail

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - mostKept; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
