package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// daemonOptions are the flags of daemon.
type daemonOptions struct {
	listen       string
	tokenFile    string
	stateDir     string
	groups       groupFlags
	network      string
	legacyFrames bool
	logLevel     string
}

func newDaemonCommand(p Process) *cobra.Command {
	var o daemonOptions
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Serve Slicer's REST API alone, with Linux namespaces as its VMs",
		Long: `Serve Slicer's REST API, without MCP, until a signal comes. VMs are Linux
namespaces, which are not a hypervisor. When it serves, it prints its address on
standard output, a line that clients take as SLICER_URL; logs go to standard error.

It serves a Unix socket that only you can open, unless --listen says otherwise.
A TCP address wants a token from every caller if other machines reach it. The
token comes from --token-file, or from SLICER_TOKEN, or from the file that
SLICER_TOKEN_FILE names; without one, callers need none.`,
		Example: `  slicervm-mcp daemon --listen 127.0.0.1:0 --token-file token --group name=sbox,cpus=2,ram=4GiB`,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), p) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.listen, "listen", "", "`address`: unix:///path/api.sock, a socket's path, or host:port, where port 0 picks one\n(default api.sock in the state folder)")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with the token that callers must bring; made with a random one if it isn't there")
	f.StringVar(&o.stateDir, "state-dir", "", "`folder` for the VMs' disks (default slicervm-mcp in $XDG_STATE_HOME or ~/.local/state)")
	o.groups.add(cmd)
	f.StringVar(&o.network, "net", daemon.NetworkIsolated, "`network` of VMs: isolated, or host to share this machine's,\nwith its ports and local services")
	f.BoolVar(&o.legacyFrames, "legacy-frames", false, "answer as older Slicer agents do: untyped exec frames, no background exec, no fs calls")
	f.StringVar(&o.logLevel, "log-level", "info", "log `level`: debug, info, warn or error")
	return cmd
}

// run serves until ctx ends.
func (o *daemonOptions) run(ctx context.Context, p Process) error {
	level, ok := parseLevel(o.logLevel)
	if !ok {
		return usageError{fmt.Sprintf("--log-level is debug, info, warn or error, not %q", o.logLevel)}
	}
	if err := checkNetwork("--net", o.network); err != nil {
		return err
	}
	dir, err := p.dir()
	if err != nil {
		return err
	}
	at, err := parseListen(o.listen, dir)
	if err != nil {
		return err
	}
	groups, err := o.groups.load(dir)
	if err != nil {
		return err
	}
	log := newLogger(p.Stderr, level, p.Getenv)
	token, err := o.token(p, dir, log)
	if err != nil {
		return err
	}
	if at.tcp != "" && token == "" {
		if !at.isLoopback() {
			return usageError{fmt.Sprintf("--listen %s lets other machines run commands here and asks for no token: add --token-file, or listen on 127.0.0.1", at.tcp)}
		}
		log.Warn("no token is asked for: every user and program of this machine can use the VMs; --token-file asks for one")
	}

	s, err := startService(ctx, serviceConfig{
		stateDir:     under(dir, o.stateDir),
		groups:       groups,
		network:      o.network,
		image:        hostImage(p),
		token:        token,
		legacyFrames: o.legacyFrames,
		log:          log,
		listen: func(ctx context.Context, stateDir, _ string) (net.Listener, error) {
			return at.listen(ctx, stateDir)
		},
	})
	if err != nil {
		return err
	}
	url := listenURL(s.address)
	log.Info("serving Slicer's REST API", "version", version(), "url", url, "token", token != "", "network", o.network)
	if _, err := fmt.Fprintln(p.Stdout, url); err != nil {
		return errors.Join(fmt.Errorf("print the address: %w", err), s.close())
	}
	s.wait(ctx)
	if ctx.Err() != nil {
		log.Info("ending: a signal came")
	}
	return s.close()
}

// token is what callers must bring, "" for nothing.
func (o *daemonOptions) token(p Process, dir string, log *slog.Logger) (string, error) {
	if o.tokenFile == "" {
		return tokenFromEnv(p)
	}
	token, err := tokenFromFile(under(dir, o.tokenFile), log)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return token, nil
}

// tokenFromFile reads the token of a file, which it makes if it isn't there.
func tokenFromFile(name string, log *slog.Logger) (string, error) {
	if err := makeToken(name); err == nil {
		log.Info("made a token", "file", name)
	} else if !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	token, err := readToken(name)
	if err != nil {
		return "", err
	}
	warnIfReadable(name, log)
	return token, nil
}

// makeToken makes a file with a random token that only this user can read. One
// that is there is an error that wraps fs.ErrExist.
func makeToken(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, rand.Text())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func checkNetwork(flag, network string) error {
	if network != daemon.NetworkIsolated && network != daemon.NetworkHost {
		return usageError{fmt.Sprintf("%s is %s or %s, not %q", flag, daemon.NetworkIsolated, daemon.NetworkHost, network)}
	}
	return nil
}

// under makes a path that isn't absolute one of dir; "" stays.
func under(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}
