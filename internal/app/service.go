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

const (
	// serviceCloseLimit bounds the end of a service's VMs.
	serviceCloseLimit = 10 * time.Second
	// cutAfter is when the calls are cut off that a service's end meets and that
	// don't end by themselves: those of clients that take no answer.
	cutAfter = time.Second
	// drainLimit bounds how long answers that are complete may take to be sent.
	drainLimit = 300 * time.Millisecond
)

// serviceConfig says what a Slicer daemon in this process serves.
type serviceConfig struct {
	stateDir     string // of the VMs' disks; "" is the sandbox's own default
	groups       []daemon.HostGroup
	network      string // daemon.NetworkIsolated or daemon.NetworkHost
	image        string // what the daemon calls the VMs' disks
	token        string // "" lets every caller in
	legacyFrames bool
	log          *slog.Logger

	// listen opens the listener; stateDir is the settled state folder and
	// runDir one in it that only this user may enter and that goes with the
	// service. It is called before a VM is booted, so that a second service
	// on the same address ends there.
	listen func(ctx context.Context, stateDir, runDir string) (net.Listener, error)
}

// service is a Slicer daemon in this process whose VMs are sandboxes.
type service struct {
	address  net.Addr
	listener net.Listener
	daemon   *daemon.Daemon
	http     *http.Server
	served   chan struct{} // closed when Serve has ended
	err      error         // Serve's, unless it was told to end; read after served
}

// socketed is a hypervisor with the listener of its service, whose socket may lie
// in the state folder: that one goes only when it is empty.
type socketed struct {
	*sandbox.Hypervisor

	listener net.Listener
}

// Close implements daemon.Hypervisor.
func (s socketed) Close() error {
	_ = s.listener.Close() // closed already, unless the start came to nothing
	return s.Hypervisor.Close()
}

// startService starts a service. Callers that connect before it can answer
// wait. When it returns an error nothing of the service is left; the error wraps
// context.Canceled when ctx ended before the service was there.
func startService(ctx context.Context, cfg serviceConfig) (*service, error) {
	host := cfg.network == daemon.NetworkHost
	hypervisor, err := sandbox.New(sandbox.Config{StateDir: cfg.stateDir, HostNetwork: host, Log: cfg.log})
	if err != nil {
		return nil, err
	}
	listener, err := cfg.listen(ctx, filepath.Dir(hypervisor.RunDir()), hypervisor.RunDir())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), hypervisor.Close())
	}
	d, err := daemon.New(ctx, daemon.Config{
		Groups:       cfg.groups,
		Hypervisor:   socketed{hypervisor, listener},
		Token:        cfg.token,
		Image:        cfg.image,
		Network:      cfg.network,
		ImportKeys:   newKeySource().keys,
		Log:          cfg.log,
		Version:      version(),
		LegacyFrames: cfg.legacyFrames,
	})
	if errors.Is(err, context.Canceled) {
		cfg.log.Info("ending: a signal came before the VMs of the start were up")
	}
	if err != nil { // the hypervisor and the listener are closed
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	s := &service{
		address:  listener.Addr(),
		listener: listener,
		daemon:   d,
		http: &http.Server{
			Handler:           guardHost(d, listener.Addr(), cfg.token),
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    1 << 20, // an exec call has its command in the query
			ErrorLog:          slog.NewLogLogger(cfg.log.Handler(), slog.LevelWarn),
		},
		served: make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(listener); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	}()
	if host && os.Geteuid() == 0 {
		cfg.log.Warn("to services on abstract Unix sockets the VMs' root is this machine's root, and as good as that: run code there only that you would run as root here")
	}
	cfg.log.Info("VMs are Linux namespaces, which are not a hypervisor: they share this machine's kernel")
	return s, nil
}

// wait returns when ctx ends, or the service can't be called any more.
func (s *service) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.served:
	}
}

// close ends the service in order: nobody is let in, running calls end, the
// VMs go with all that they left on this machine, and answers are sent.
func (s *service) close() error {
	err := s.listener.Close()
	<-s.served
	err = errors.Join(err, s.err)
	cut := time.AfterFunc(cutAfter, func() { _ = s.http.Close() }) // nothing but the listener's error, which is known
	defer cut.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), serviceCloseLimit)
	defer cancel()
	err = errors.Join(err, s.daemon.Close(ctx))
	drain, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if s.http.Shutdown(drain) != nil { // somebody doesn't take the answer
		_ = s.http.Close() // as above
	}
	if err != nil {
		return fmt.Errorf("end the daemon: %w", err)
	}
	return nil
}
