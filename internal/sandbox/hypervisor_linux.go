package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// bootLimit bounds a guest's boot, whatever the caller's context allows.
const bootLimit = 20 * time.Second

// Hypervisor boots guests. It implements daemon.Hypervisor.
type Hypervisor struct {
	log     *slog.Logger
	idmap   idmap
	run     *runDir
	groups  *cgroups
	program *os.File // a sealed copy of this program in memory
	threads *spawner

	hostDirs []string
	links    []link

	mu        sync.Mutex
	boots     int
	processes int // how many processes and threads each guest may have
	closed    bool

	work  sync.WaitGroup // guests whose folder isn't removed yet, boots, and calls on disks
	disks *diskStore

	hostNetwork bool

	etc        chan struct{} // closed when /etc and sudo have been copied
	etcErr     error         // what the copies met; read after etc
	stopCopies context.CancelFunc
}

// closeLimit bounds how long Close waits for what is under way.
const closeLimit = 30 * time.Second

var _ daemon.Hypervisor = (*Hypervisor)(nil)

// New makes a Hypervisor and proves, by booting a guest once, that this
// machine allows it. Otherwise the error says in one line what is missing and
// how to allow it. Close it after use.
func New(cfg Config) (*Hypervisor, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	stateDir, err := stateDir(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	run, err := newRunDir(stateDir)
	if err != nil {
		return nil, err
	}
	h := &Hypervisor{log: log, idmap: findIdmap(), run: run, processes: maxProcesses, hostNetwork: cfg.HostNetwork}
	h.disks = &diskStore{
		path:   filepath.Join(stateDir, disksFolder),
		ids:    h.idmap.describe(),
		copy:   h.copyTree,
		remove: h.removeAll,
		log:    log,
		users:  map[string]int{},
	}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	err = h.probe(ctx)
	if err != nil {
		h.Close()
		return nil, explain(err, h.idmap.Kind, stateDir)
	}
	if h.idmap.Kind == idmapSingle {
		log.Warn("VMs have one user id for all their files", "unenforced", oneIDNote)
	}
	if cfg.HostNetwork {
		log.Warn("VMs share this machine's network: its ports, abstract Unix sockets and services on loopback")
	}
	return h, nil
}

// probe boots a guest, with an empty /etc: the copy may take longer than all
// the rest, and the first real guest waits for it.
func (h *Hypervisor) probe(ctx context.Context) error {
	empty := filepath.Join(h.run.path, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		return err
	}
	guest, err := h.bootIn(ctx, daemon.GuestSpec{Hostname: "probe"}, empty)
	if err != nil {
		return err
	}
	return guest.Stop(ctx)
}

func (h *Hypervisor) prepare() error {
	var err error
	if h.program, err = sealedProgram(); err != nil {
		return err
	}
	if err := writeAgentLayers(h.agentDir(), h.program); err != nil {
		return err
	}
	h.threads = newSpawner()
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt"} {
		info, err := os.Lstat("/" + name)
		switch {
		case err != nil:
			continue // this host has none
		case info.IsDir():
			h.hostDirs = append(h.hostDirs, name)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink("/" + name)
			if err != nil {
				return err
			}
			h.links = append(h.links, link{Name: name, Target: target})
		}
	}
	h.run.sweep(h.removeAll, h.log)
	h.groups = newCgroups(h.run.path, h.log)
	ctx, cancel := context.WithCancel(context.Background())
	h.etc, h.stopCopies = make(chan struct{}), cancel
	go func() {
		defer close(h.etc)
		placed := make(chan error, 1)
		go func() { placed <- writeSudoLayer(h.sudoDir(), h.program) }()
		err := h.copyEtc(ctx)
		h.etcErr = errors.Join(err, <-placed)
	}()
	return nil
}

func (h *Hypervisor) etcDir() string { return filepath.Join(h.run.path, "etc") }

func (h *Hypervisor) agentDir() string { return filepath.Join(h.run.path, "agent") }

func (h *Hypervisor) sudoDir() string { return filepath.Join(h.run.path, sudoLayer) }

// RunDir is a folder that only this user may enter and that Close removes.
func (h *Hypervisor) RunDir() string { return h.run.path }

var errClosed = errors.New("the hypervisor has been closed")

// begin counts a piece of work, which Close waits for until done is called.
func (h *Hypervisor) begin() (done func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	h.work.Add(1)
	return h.work.Done, nil
}

// Close removes the run folder. Every guest must have been stopped, or be
// stopping: their folders' removal is waited for, and so are calls on disks, for
// 30 seconds at most. What is left then the next server removes. Calls after it
// are refused.
func (h *Hypervisor) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.work.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(closeLimit):
		return errors.New("files of guests are still being copied or removed; the next start removes what is left")
	}
	h.disks.close()
	if h.stopCopies != nil {
		h.stopCopies()
		<-h.etc
	}
	if h.threads != nil {
		h.threads.close()
	}
	if h.program != nil {
		h.program.Close()
	}
	return errors.Join(h.groups.close(), h.run.remove())
}

// Boot implements daemon.Hypervisor.
func (h *Hypervisor) Boot(ctx context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	select {
	case <-h.etc:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(bootLimit):
		return nil, errors.New("copying /etc takes too long")
	}
	if h.etcErr != nil {
		return nil, fmt.Errorf("copy what guests share: %w", h.etcErr)
	}
	return h.bootIn(ctx, spec, h.etcDir())
}

// bootIn boots a guest with etcDir below its own /etc.
func (h *Hypervisor) bootIn(ctx context.Context, spec daemon.GuestSpec, etcDir string) (daemon.Guest, error) {
	done, err := h.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	h.mu.Lock()
	h.boots++
	dir := filepath.Join(h.run.path, fmt.Sprintf("guest-%d", h.boots))
	h.mu.Unlock()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	disk, err := h.disks.hold(ctx, &spec, dir)
	if err != nil {
		return nil, errors.Join(err, h.removeAll(dir))
	}
	// A copy takes the time that it takes; the boot doesn't.
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	g, err := h.boot(ctx, dir, etcDir, spec, disk)
	if err != nil {
		return nil, errors.Join(err, disk.drop(), h.removeAll(dir))
	}
	if err := disk.keep(); err != nil {
		return nil, errors.Join(err, g.Stop(context.WithoutCancel(ctx)), disk.drop())
	}
	g.hold(disk)
	return g, nil
}

func (h *Hypervisor) boot(ctx context.Context, dir, etcDir string, spec daemon.GuestSpec, disk *heldDisk) (_ *guest, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	console, err := os.OpenFile(filepath.Join(dir, "console"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		theirs.Close()
		ours.Close()
		return nil, err
	}
	defer console.Close()

	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if !h.hostNetwork {
		flags |= unix.CLONE_NEWNET
	}
	first, err := h.launch(dir, spec, flags, theirs, console)
	theirs.Close() // while it is open here, nobody sees the agent's end
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	g := newGuest(h, dir, spec, first, ours)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.discard())
		}
	}()
	if err := first.mapped(); err != nil {
		return nil, err
	}
	agentDir, err := filepath.Rel(disk.dir, h.agentDir())
	if err != nil {
		return nil, err
	}
	cfg := &bootConfig{
		Dir:      disk.dir,
		AgentDir: agentDir,
		Used:     disk.used,
		Was:      disk.was,
		Hostname: spec.Hostname,
		Idmap:    h.idmap,
		HostDirs: h.hostDirs,
		Links:    h.links,

		MaxProcesses: userLimit(h.idmap.Kind, first.group),
		RAMBytes:     spec.RAMBytes,
	}
	// Guests see an overlay's options: relative ones tell less of the host.
	if cfg.EtcDir, err = filepath.Rel(disk.dir, etcDir); err != nil {
		return nil, err
	}
	if etcDir == h.etcDir() { // what they share has been copied
		if cfg.SudoDir, err = filepath.Rel(disk.dir, h.sudoDir()); err != nil {
			return nil, err
		}
		if cfg.FoldersDir, err = h.foldersFrom(disk.dir); err != nil {
			return nil, err
		}
	}
	if h.hostNetwork {
		cfg.HostNetwork = true
		if cfg.Resolver, err = hostResolver(); err != nil {
			h.log.Warn("the guest finds no names on the network", "hostname", spec.Hostname, "error", err)
		}
	}
	if err := disk.note(first.cmd.Process.Pid); err != nil {
		return nil, err
	}
	if err := g.handshake(ctx, cfg); err != nil {
		return nil, err
	}
	for _, s := range spec.Secrets {
		if err := g.PutSecret(ctx, s); err != nil {
			return nil, fmt.Errorf("place secret: %w", err)
		}
	}
	return g, nil
}

// command executes this program again. Its environment is empty: nothing of
// the server's is the guest's business.
func (h *Hypervisor) command() *exec.Cmd {
	//nolint:noctx // the process lives as long as its guest
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", h.program.Fd()))
	cmd.Env = []string{"PATH=" + defaultPath}
	return cmd
}

// explain says what a failed first boot means and how to allow it.
func explain(err error, kind idmapKind, stateDir string) error {
	const advice = "; or use a Slicer daemon: --url"
	because := func(reason string) error {
		return fmt.Errorf("the embedded sandbox can't start: %s%s (%w)", reason, advice, err)
	}
	namespaced := kind != idmapRoot
	switch {
	case namespaced && sysctl("kernel/unprivileged_userns_clone") == "0":
		return because("user namespaces are switched off for ordinary users; allow them with: sudo sysctl -w kernel.unprivileged_userns_clone=1")
	case namespaced && sysctl("user/max_user_namespaces") == "0":
		return because("the limit of user namespaces is 0; allow them with: sudo sysctl -w user.max_user_namespaces=15000")
	case namespaced && sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return because("AppArmor restricts user namespaces; allow them with: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
	case errors.Is(err, errOverlay):
		return because(fmt.Sprintf("overlay mounts don't work on the file system of %q; name a folder on ext4, xfs or btrfs with --state-dir", stateDir))
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES):
		return because("this system doesn't let the process make namespaces and mounts; in a container, start it with --privileged or on the host itself")
	}
	return because("booting a guest failed")
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
