// Package daemon serves Slicer's REST API. It knows host groups, VMs and
// their states, processes, files and secrets; what runs inside a VM is behind
// the Hypervisor and Guest interfaces.
package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// stopTimeout bounds the stop of one guest outside Close.
	stopTimeout = 30 * time.Second
	// parallelPushes is how many guests are told of a secret at once.
	parallelPushes = 8
)

// Config says what a Daemon serves.
type Config struct {
	// Groups are the host groups, in the order in which they are listed.
	// None means one group called sbox with the machine's size and no VM.
	Groups []HostGroup

	// Hypervisor boots the guests. It is required, and the daemon closes it.
	Hypervisor Hypervisor

	// Token is what every call but /healthz must bring as its bearer token.
	// "" lets every caller in.
	Token string

	// Image and Network are what the VMs' descriptions say of the disk that
	// each begins with, and of its network: NetworkIsolated, which is what ""
	// stands for, or NetworkHost.
	Image   string
	Network string

	// ImportKeys returns the public SSH keys of the user that a create call's
	// import_user names, a key each. nil means that none can be had.
	ImportKeys func(ctx context.Context, user string) ([]string, error)

	// Log takes the daemon's log. nil discards it.
	Log *slog.Logger

	// Version and GitCommit are what /info says, and Version also what the
	// agents say of themselves. An empty Version is "dev".
	Version   string
	GitCommit string

	// LegacyFrames makes the agents answer as older ones do: exec frames are
	// untyped, and there is no background exec, no stdio parameter and no
	// fs route.
	LegacyFrames bool
}

// Daemon is the API as an http.Handler. All methods are safe for concurrent
// use.
type Daemon struct {
	groups       []HostGroup
	hypervisor   Hypervisor
	token        [sha256.Size]byte
	open         bool // no token is asked for
	log          *slog.Logger
	version      string
	commit       string
	image        string
	network      string
	metrics      http.Handler
	legacyFrames bool
	mux          *http.ServeMux
	crossSite    *http.CrossOriginProtection
	vms          *vmTable
	secrets      *secretStore
	proxy        *proxyStore
	commits      *commitStore
	disksErr     error // why there are no disks that are kept
	importKeys   func(ctx context.Context, user string) ([]string, error)

	mu      sync.Mutex
	closed  bool
	calls   sync.WaitGroup // calls being served; added to under mu while not closed
	tasks   sync.WaitGroup // goroutines that belong to VMs; added to by calls and tasks only
	closing chan struct{}  // closed when Close begins

	closeOnce sync.Once
	closeErr  error
}

// New returns a daemon for cfg. It brings back the persistent VMs and the
// commits that the hypervisor's disks have of earlier daemons, and boots those
// VMs that ran when the last one ended. When it can't have the disks, or one of
// these VMs doesn't boot, it logs that and goes on.
//
// It also boots the VMs that the groups' counts ask for, which nobody can delete over the API; when one of them doesn't boot,
// New stops the others, closes the hypervisor and returns the error. So it does
// when ctx ends meanwhile: the error wraps ctx's cause, unless something could
// not be stopped, and persistent VMs that were to run are booted by the next
// daemon. Once New has returned, ctx is of no account.
func New(ctx context.Context, cfg Config) (*Daemon, error) {
	if cfg.Hypervisor == nil {
		return nil, errors.New("daemon needs a hypervisor")
	}
	groups, err := checkGroups(cfg.Groups)
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		groups:       groups,
		hypervisor:   cfg.Hypervisor,
		token:        sha256.Sum256([]byte(cfg.Token)),
		open:         cfg.Token == "",
		log:          cfg.Log,
		version:      cfg.Version,
		commit:       cfg.GitCommit,
		legacyFrames: cfg.LegacyFrames,
		image:        cfg.Image,
		network:      cmp.Or(cfg.Network, NetworkIsolated),
		crossSite:    http.NewCrossOriginProtection(),
		vms:          newVMTable(),
		secrets:      newSecretStore(),
		proxy:        newProxyStore(),
		commits:      newCommitStore(),
		importKeys:   cfg.ImportKeys,
		closing:      make(chan struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.version == "" {
		d.version = "dev"
	}
	d.metrics = d.newMetrics()
	d.mux = d.newMux()
	d.loadDisks(ctx)
	err = d.bootCounted(ctx)
	if ctx.Err() == nil && err == nil {
		return d, nil
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	closeErr := d.Close(stopping)
	switch {
	case ctx.Err() == nil:
		return nil, errors.Join(err, closeErr)
	case closeErr != nil:
		return nil, closeErr
	}
	return nil, fmt.Errorf("boot the VMs of the start: %w", context.Cause(ctx))
}

// bootCounted boots the VMs that the groups' counts ask for.
func (d *Daemon) bootCounted(ctx context.Context) error {
	for i := range d.groups {
		g := &d.groups[i]
		for range g.Count {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			booting, cancel := context.WithTimeout(ctx, defaultWait)
			_, err := d.boot(booting, vmPlan{group: g, cpus: g.CPUs, ramBytes: g.RAMBytes, protected: true})
			cancel()
			if err != nil {
				return fmt.Errorf("boot a VM of host group %q: %w", g.Name, err)
			}
		}
	}
	return nil
}

// enter counts a call in; it reports false once the daemon is closing. The
// caller calls d.calls.Done when it reported true.
func (d *Daemon) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.calls.Add(1)
	return true
}

// Close ends the daemon: from now on every call is answered 503, running calls
// end, every VM is stopped and the hypervisor closed. Persistent VMs that ran
// are booted again by the next daemon. ctx bounds the stopping.
// It returns when nothing is left, or with what could not be stopped. Later
// calls return what the first one did.
func (d *Daemon) Close(ctx context.Context) error {
	d.closeOnce.Do(func() { d.closeErr = d.close(ctx) })
	return d.closeErr
}

func (d *Daemon) close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	close(d.closing)

	errs := d.stopAll(ctx)
	idle := make(chan struct{})
	go func() { // ends with the last call, which ctx doesn't bound
		defer close(idle)
		d.calls.Wait()
		d.tasks.Wait()
	}()
	select {
	case <-idle:
		// A VM whose boot had ended as the daemon closed is stopped by its own call.
	case <-ctx.Done():
		errs = errors.Join(errs, fmt.Errorf("wait for calls to end: %w", context.Cause(ctx)))
	}
	if err := d.hypervisor.Close(); err != nil {
		errs = errors.Join(errs, fmt.Errorf("close the hypervisor: %w", err))
	}
	return errs
}

// stopAll stops every VM, all at once, so that none keeps the machine busy while
// others are cleaned up, and cleans up those that have ended.
func (d *Daemon) stopAll(ctx context.Context) error {
	var (
		group errgroup.Group
		mu    sync.Mutex
		errs  error
	)
	for _, v := range d.vms.left() {
		group.Go(func() error {
			if err := d.stop(ctx, v, "the daemon has ended"); err != nil && !errors.Is(err, errGone) {
				mu.Lock()
				defer mu.Unlock()
				errs = errors.Join(errs, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; their errors are in errs
	return errs
}

// bind returns a context that also ends, with cause, when over is closed.
// atEnd, unless nil, is called then. release must be called; it returns when
// nothing of the binding runs any more.
func bind(ctx context.Context, over <-chan struct{}, cause error, atEnd func()) (bound context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-over:
			if atEnd != nil {
				atEnd()
			}
			cancel(cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-done
	}
}
