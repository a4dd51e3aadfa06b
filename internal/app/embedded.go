package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// embeddedCloseLimit bounds the end of the embedded daemon's VMs.
const embeddedCloseLimit = 10 * time.Second

// embedded is a Slicer daemon in this process, on a Unix socket that only this
// user can open.
type embedded struct {
	socket string
	daemon *daemon.Daemon
	http   *http.Server
	served chan error // Serve's error
}

// startEmbedded starts a daemon whose VMs are sandboxes. Their disks are under
// stateDir; "" is the sandbox's own default.
func startEmbedded(ctx context.Context, stateDir string, log *slog.Logger) (_ *embedded, err error) {
	hypervisor, err := sandbox.New(sandbox.Config{StateDir: stateDir, Log: log})
	if err != nil {
		return nil, fmt.Errorf("--embedded: %w", err)
	}
	d, err := daemon.New(daemon.Config{Hypervisor: hypervisor, Log: log, Version: version()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded daemon: %w", err), hypervisor.Close())
	}
	socket := filepath.Join(hypervisor.RunDir(), "api.sock")
	listener, err := listenPrivate(ctx, socket)
	if err != nil {
		// Nothing runs yet: this takes no time.
		return nil, errors.Join(fmt.Errorf("start the embedded daemon: %w", err), d.Close(context.WithoutCancel(ctx)))
	}
	e := &embedded{
		socket: socket,
		daemon: d,
		http: &http.Server{
			Handler:           d,
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		served: make(chan error, 1),
	}
	go func() { e.served <- e.http.Serve(listener) }()
	log.Info("embedded daemon started; its VMs are Linux namespaces, which are not a hypervisor: they share this machine's kernel", "socket", socket)
	return e, nil
}

// listenPrivate listens on a Unix socket that only this user can open.
func listenPrivate(ctx context.Context, socket string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// close ends the daemon, its VMs and all that they left on this machine.
func (e *embedded) close() error {
	err := e.http.Close()
	if served := <-e.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	ctx, cancel := context.WithTimeout(context.Background(), embeddedCloseLimit)
	defer cancel()
	if err := errors.Join(err, e.daemon.Close(ctx)); err != nil {
		return fmt.Errorf("end the embedded daemon: %w", err)
	}
	return nil
}
