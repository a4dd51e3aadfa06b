package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/serve"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// probeLimit bounds the question to the daemon at the start.
const probeLimit = 3 * time.Second

// options are the flags of serve.
type options struct {
	transport string
	http      httpFlags

	url      string
	embedded bool
	network  string
	groups   groupFlags
	stateDir string
	roots    []string
	owner    string
	maxVMs   int

	secretEnv    []string
	secretValues bool
	logLevel     string
}

func newServeCommand(p Process) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Short: "Serve MCP on standard input and output (the default) or over HTTP",
		Long: `Serve MCP on standard input and output, until the input ends or a signal comes.
Logs go to standard error.

With --transport http it serves streamable HTTP at /mcp, legacy SSE at /sse, and
the pages /healthz, /readyz and /metrics, until a signal comes. It prints its URL,
a line, on standard output. Other machines reach it only if --listen says so, and
then with a token only. Over HTTP tools may use no host folder but those of --root.

The daemon's token comes from SLICER_TOKEN, or from the file that
SLICER_TOKEN_FILE names.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"embedded-net", "groups", "group"} {
				if cmd.Flags().Changed(name) && !o.embedded {
					return usageError{fmt.Sprintf("--%s needs --embedded; another daemon has settings of its own", name)}
				}
			}
			if err := o.http.check(cmd, &o); err != nil {
				return err
			}
			return run(cmd.Context(), p, o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.transport, "transport", transportStdio, "`transport` to serve: stdio or http")
	o.http.add(cmd)
	f.StringVar(&o.url, "url", "", "`address` of the Slicer daemon: http://host:port, https://host or a Unix socket's path\n(default $SLICER_URL, else the socket of a daemon on this machine)")
	f.BoolVar(&o.embedded, "embedded", false, "start a daemon in this process whose VMs are Linux namespaces: to try it, and for tests;\nnamespaces are not a hypervisor")
	f.StringVar(&o.network, "embedded-net", daemon.NetworkIsolated, "`network` of embedded VMs: isolated, or host to share this machine's,\nwith its ports and local services")
	o.groups.add(cmd)
	f.StringVar(&o.stateDir, "state-dir", "", "`folder` for the disks of embedded VMs (default slicervm-mcp in $XDG_STATE_HOME or ~/.local/state)")
	f.StringArrayVar(&o.roots, "root", nil, "host `folder` that tools may copy files from and to; may be repeated\n(default the working folder, unless your home is in it; over HTTP none)")
	f.StringVar(&o.owner, "owner", "", "`name` in the tag owner=… by which this server knows its VMs again\n(default a hash of user, host and first root)")
	f.IntVar(&o.maxVMs, "max-vms", 20, "how many `VMs` this owner may have at a time")
	f.StringArrayVar(&o.secretEnv, "secret-env", nil, "`name` of an environment variable that tools may make a secret of; may be repeated (default none)")
	f.BoolVar(&o.secretValues, "allow-secret-values", false, "let tools take a secret's value as an argument, which the model then sees")
	f.StringVar(&o.logLevel, "log-level", "info", "log `level`: debug, info, warn or error")
	return cmd
}

// run serves until the client or ctx ends it.
func run(ctx context.Context, p Process, o options) (err error) {
	level, ok := parseLevel(o.logLevel)
	if !ok {
		return usageError{fmt.Sprintf("--log-level is debug, info, warn or error, not %q", o.logLevel)}
	}
	if o.embedded && o.url != "" {
		return usageError{"--embedded starts a daemon and --url names another: use one of them"}
	}
	if err := checkNetwork("--embedded-net", o.network); err != nil {
		return err
	}
	if o.maxVMs < 1 {
		return usageError{fmt.Sprintf("--max-vms is 1 at least, not %d", o.maxVMs)}
	}
	if slices.Contains(o.secretEnv, mcpTokenVariable) {
		return usageError{"--secret-env " + mcpTokenVariable + " would give this server's own token to VMs"}
	}
	plain := newLogger(p.Stderr, level, p.Getenv)
	log, redact := newRedactable(plain.Handler())
	roots, project, err := settleRoots(p, o.roots, o.transport == transportStdio)
	if err != nil {
		return err
	}
	owner := o.owner
	if owner == "" {
		owner = defaultOwner(project)
	}
	var over httpSettings
	if o.transport == transportHTTP {
		if over, err = o.http.settle(p, roots, log); err != nil {
			return err
		}
	}

	at, closeDaemon, err := o.daemon(ctx, p, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDaemon()) }()
	client := slicer.NewSlicerClient(at.url, at.token, "slicervm-mcp/"+version(), nil)
	defer client.CloseIdleConnections()

	toolset, err := tools.New(tools.Config{
		Client:            client,
		Owner:             owner,
		Roots:             roots,
		MaxVMs:            o.maxVMs,
		SecretEnv:         o.secretEnv,
		Getenv:            p.Getenv,
		AllowSecretValues: o.secretValues,
		Known:             map[string]string{"SLICER_TOKEN": at.token, mcpTokenVariable: over.token},
		VMsEnd:            o.embedded,
		Log:               plain, // which it redacts itself
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, toolset.Close()) }()
	redact(toolset.RedactLog)
	log.Info("serving", "version", version(), "transport", o.transport, "daemon", at, "found_by", at.how, "owner", owner, "roots", roots)

	tending, stopTending := context.WithCancel(ctx)
	var tender sync.WaitGroup
	tender.Go(func() { toolset.Tend(tending) })
	defer func() {
		stopTending()
		tender.Wait()
	}()
	var probe sync.WaitGroup
	probeCtx, endProbe := context.WithTimeout(ctx, probeLimit)
	probe.Go(func() { warnUnreachable(probeCtx, client, log) })
	defer func() {
		endProbe()
		probe.Wait()
	}()
	if o.transport == transportHTTP {
		metrics := newMetrics(toolset, log)
		srv := newMCPServer(toolset, metrics.ServerOptions()...)
		return httpServer{over, client, toolset, metrics, log, p.Stdout}.serve(ctx, srv)
	}
	unbind := context.AfterFunc(ctx, toolset.StopWaiting)
	defer unbind()
	err = serve.Stdio(ctx, newMCPServer(toolset), p.Stdin, p.Stdout, serve.StdioOptions{Log: log, HungUp: hungUp(p.Stdout)})
	if ctx.Err() != nil {
		log.Info("ended by a signal")
		return nil
	}
	return err
}

// daemon returns the daemon to serve, which it starts if it is the embedded
// one, and a function that ends what it started.
func (o options) daemon(ctx context.Context, p Process, log *slog.Logger) (endpoint, func() error, error) {
	if o.embedded {
		return o.startEmbedded(ctx, p, log)
	}
	at, err := findEndpoint(p, o.url)
	return at, func() error { return nil }, err
}

// warnUnreachable logs what is wrong with the daemon. The server serves all
// the same: the daemon may come, and each tool says what is wrong.
func warnUnreachable(ctx context.Context, client *slicer.SlicerClient, log *slog.Logger) {
	if _, err := client.GetInfo(ctx); err != nil && !errors.Is(err, context.Canceled) {
		log.Warn("the Slicer daemon does not answer as it should; tools will say so until it does", "err", err)
	}
}

// settleRoots returns the host folders that tools may read, as absolute paths,
// and the folder that stands for the project. With no flag that is the working
// folder, which is allowed if byDefault says so and the home folder isn't in it.
func settleRoots(p Process, flags []string, byDefault bool) (roots []string, project string, err error) {
	dir, err := p.dir()
	if err != nil {
		return nil, "", err
	}
	for _, root := range flags {
		if root == "" {
			return nil, "", usageError{"--root wants a folder"}
		}
		if !filepath.IsAbs(root) {
			root = filepath.Join(dir, root)
		}
		roots = append(roots, filepath.Clean(root))
	}
	if len(roots) > 0 {
		return roots, roots[0], nil
	}
	dir = filepath.Clean(dir)
	if !byDefault || contains(dir, homeDir(p)) {
		return nil, dir, nil
	}
	return []string{dir}, dir, nil
}

// contains reports whether path is dir or below it. The top of a file system
// contains everything, known or not.
func contains(dir, path string) bool {
	if filepath.Dir(dir) == dir {
		return true
	}
	if path == "" {
		return false
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil { // else dir as it is
		dir = real
	}
	if real, err := filepath.EvalSymlinks(path); err == nil { // as above
		path = real
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
