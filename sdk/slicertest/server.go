package slicertest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// closeTimeout bounds Close; a program that ignores its context runs into it.
const closeTimeout = 10 * time.Second

// Network is how a Server is reached.
type Network int

// The networks. All but Unix work on every platform.
const (
	TCP  Network = iota // a free port of the loopback interface
	Unix                // a Unix socket in a temporary folder
	Pipe                // memory only; reached by Client and HTTPClient alone
)

// Options say what a Server is like. The zero value is a daemon without a
// token, with one host group and the default programs.
type Options struct {
	// Groups are the host groups. None means one called sbox, of 4 CPUs and
	// 8 GiB. VMs of a group's Count are there from the start, and protected.
	Groups []slicer.SlicerHostGroup

	// Token is the bearer token that every call must bring; Client brings it.
	// "" lets every caller in.
	Token string

	// Network is how the server is reached.
	Network Network

	// Programs are the guests' programs by name, beside the default ones:
	// true, false, echo, cat, sleep, sh and bash. A program of this map goes
	// before a default one of the same name.
	Programs map[string]Program

	// Shell runs the command string of sh and bash. nil splits it at white
	// space and runs the program that its first word names.
	Shell func(ctx context.Context, p *Proc, script string) int

	// Boot, unless nil, is called for each VM before its agent answers. It
	// can take its time, until ctx ends, and its error fails the boot.
	Boot func(ctx context.Context, hostname string) error

	// ImportKeys returns the public SSH keys of the user that a VM's import_user
	// names. nil means that none can be had.
	ImportKeys func(ctx context.Context, user string) ([]string, error)

	// DiskBytes is how much a VM's files may hold. 0 is 256 MiB.
	DiskBytes int64

	// LegacyFrames makes the VMs' agents answer as older ones do: exec frames
	// are untyped, and there is no background exec, no stdio parameter and no
	// fs route.
	LegacyFrames bool

	// Log takes the daemon's log. nil discards it.
	Log *slog.Logger
}

// Server is a running daemon.
type Server struct {
	// URL is the server's base URL, as NewSlicerClient takes it.
	URL string

	tb        testing.TB
	config    daemon.Config
	daemon    atomic.Pointer[daemon.Daemon]
	machines  *machines
	journal   journal
	faults    faults
	client    *slicer.SlicerClient
	transport *http.Transport
	http      *http.Server
	served    chan struct{} // closed when the HTTP server has ended
	closeOnce sync.Once
}

// NewServer starts a server with the given options, one at most. It is closed
// when the test ends; what goes wrong fails the test.
func NewServer(tb testing.TB, opts ...Options) *Server {
	tb.Helper()
	var o Options
	switch len(opts) {
	case 0:
	case 1:
		o = opts[0]
	default:
		tb.Fatal("slicertest: NewServer takes one Options")
	}
	s := &Server{tb: tb, machines: newMachines(tb, o), served: make(chan struct{})}
	s.config = daemon.Config{
		Groups:     hostGroups(o.Groups),
		Hypervisor: s.machines,
		Token:      o.Token,
		ImportKeys: o.ImportKeys,
		Log:        o.Log,
		Version:    "slicertest",

		LegacyFrames: o.LegacyFrames,
	}
	s.start()
	listener := s.listen(o.Network)
	s.http = &http.Server{
		Handler:           s.journal.record(s.faults.inject(http.HandlerFunc(s.serve))),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("slicertest: serve: %v", err)
		}
	}()
	tb.Cleanup(s.Close)

	httpClient := s.HTTPClient()
	if o.Network == Unix {
		httpClient = nil // the client knows how to reach a socket
	}
	s.client = slicer.NewSlicerClient(s.URL, o.Token, "slicertest", httpClient)
	return s
}

// start starts a daemon on the disks that there are.
func (s *Server) start() {
	s.tb.Helper()
	d, err := daemon.New(context.Background(), s.config)
	if err != nil {
		s.tb.Fatalf("slicertest: start the daemon: %v", err)
	}
	s.daemon.Store(d)
}

// serve has the daemon that there is now answer a call.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) { s.daemon.Load().ServeHTTP(w, r) }

// Restart stops the daemon and starts another on the same disks, as when a
// machine is booted again. Ephemeral VMs and secrets are gone, persistent VMs
// and commits are there; those that ran run again, in new guests. Calls
// meanwhile are answered 503. It is not for use beside Close.
func (s *Server) Restart() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.daemon.Load().Close(ctx); err != nil {
		s.tb.Errorf("slicertest: close the daemon: %v", err)
	}
	s.start()
}

// listen opens the network and sets URL and transport.
func (s *Server) listen(network Network) net.Listener {
	s.tb.Helper()
	var (
		listener net.Listener
		err      error
		dialer   net.Dialer
	)
	s.transport = &http.Transport{}
	switch network {
	case TCP:
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err == nil {
			s.URL = "http://" + listener.Addr().String()
		}
	case Unix:
		var dir string
		// The path of tb.TempDir can be longer than a socket's may be.
		if dir, err = os.MkdirTemp("", "slicer"); err != nil {
			break
		}
		s.tb.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays is a temporary file
		path := filepath.Join(dir, "api.sock")
		s.URL = "unix://" + path
		s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		listener, err = new(net.ListenConfig).Listen(context.Background(), "unix", path)
	case Pipe:
		pipe := newPipeListener()
		s.URL = "http://slicertest"
		s.transport.DialContext = pipe.dial
		listener = pipe
	default:
		s.tb.Fatalf("slicertest: no network %d", network)
	}
	if err != nil {
		s.tb.Fatalf("slicertest: listen: %v", err)
	}
	return listener
}

// Client returns a client of the server, with its token.
func (s *Server) Client() *slicer.SlicerClient { return s.client }

// HTTPClient returns an HTTP client that reaches the server over every
// network, for requests of one's own: to URL, or to http://slicertest when
// the network is Unix.
func (s *Server) HTTPClient() *http.Client {
	return &http.Client{Transport: s.transport}
}

// Files returns the files of the VM called hostname, as its root user sees
// them, or nil when there is no such VM.
func (s *Server) Files(hostname string) *Files {
	g := s.machines.find(hostname)
	if g == nil {
		return nil
	}
	return &Files{tree: g.tree, dir: "/"}
}

// End makes the guest of the VM called hostname end by itself, as a guest
// that powers off does. It returns when the guest has ended; the daemon
// notices soon after.
func (s *Server) End(hostname string) {
	if g := s.machines.find(hostname); g != nil {
		g.end()
	}
}

// Close stops the VMs and the server. It is called when the test ends; later
// calls do nothing.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		s.faults.clear()
		if err := s.daemon.Load().Close(ctx); err != nil {
			s.tb.Errorf("slicertest: close the daemon: %v", err)
		}
		s.transport.CloseIdleConnections()
		// What has been answered shall arrive whole; a connection on which
		// nothing was ever asked is not waited for.
		brief, done := context.WithTimeout(ctx, time.Second)
		defer done()
		if err := s.http.Shutdown(brief); err == nil {
			<-s.served
			return
		}
		if err := s.http.Close(); err != nil {
			s.tb.Errorf("slicertest: close the server: %v", err)
		}
		<-s.served
	})
}

func hostGroups(groups []slicer.SlicerHostGroup) []daemon.HostGroup {
	if len(groups) == 0 {
		return []daemon.HostGroup{{Name: daemon.DefaultGroup, CPUs: 4, RAMBytes: 8 << 30}}
	}
	list := make([]daemon.HostGroup, 0, len(groups))
	for _, g := range groups {
		list = append(list, daemon.HostGroup{
			Name: g.Name, Count: g.Count, CPUs: g.CPUs, RAMBytes: g.RamBytes, GPUCount: g.GPUCount,
		})
	}
	return list
}
