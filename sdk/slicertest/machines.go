package slicertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const secretsDir = "/run/slicer/secrets"

// machines is the daemon.Hypervisor of scripted guests.
type machines struct {
	tb   testing.TB
	opts Options

	mu     sync.Mutex
	guests map[string]*guest
	disks  map[string]*disk // those that are kept
}

func newMachines(tb testing.TB, opts Options) *machines {
	return &machines{tb: tb, opts: opts, guests: make(map[string]*guest), disks: make(map[string]*disk)}
}

func (m *machines) find(hostname string) *guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guests[hostname]
}

// Boot implements daemon.Hypervisor.
func (m *machines) Boot(ctx context.Context, spec daemon.GuestSpec) (daemon.Guest, error) {
	if m.opts.Boot != nil {
		if err := m.opts.Boot(ctx, spec.Hostname); err != nil {
			return nil, err
		}
	}
	g := &guest{
		machines: m,
		hostname: spec.Hostname,
		disk:     spec.Disk,
		tree:     newMemTree(m.opts.DiskBytes),
		born:     time.Now(),
		procs:    make(map[*process]bool),
		done:     make(chan struct{}),
	}
	eject, err := m.insert(spec, g.tree)
	if err != nil {
		return nil, err
	}
	if err := g.furnish(ctx, spec); err != nil {
		eject()
		return nil, err
	}
	g.tree.busy = g.checkThawed
	m.mu.Lock()
	defer m.mu.Unlock()
	m.guests[spec.Hostname] = g
	return g, nil
}

// Close implements daemon.Hypervisor.
func (m *machines) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.guests) > 0 {
		return fmt.Errorf("%d guests are still there", len(m.guests))
	}
	return nil
}

func (m *machines) forget(g *guest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.guests[g.hostname] == g {
		delete(m.guests, g.hostname)
	}
}

// program returns the program called name, nil when there is none.
func (m *machines) program(name string) Program {
	if p := m.opts.Programs[name]; p != nil {
		return p
	}
	return defaultProgram(name)
}

// guest is a scripted guest.
type guest struct {
	machines *machines
	hostname string
	disk     string // the disk that it has, "" when that goes with it
	tree     *memTree
	net      guestNet
	born     time.Time

	mu     sync.Mutex
	frozen bool
	ended  bool
	pid    int // the last one given
	procs  map[*process]bool
	stats  *Stats // nil is its own
	done   chan struct{}
}

// furnish makes the folders and files that a guest begins with.
func (g *guest) furnish(ctx context.Context, spec daemon.GuestSpec) error {
	root, ubuntu := uint32(0), uint32(ordinaryUser)
	for _, dir := range []struct {
		name string
		mode fs.FileMode
		id   *uint32
	}{
		{"/bin", 0o755, &root},
		{"/etc", 0o755, &root},
		{"/home", 0o755, &root},
		{"/home/ubuntu", 0o755, &ubuntu},
		{"/root", 0o700, &root},
		{"/tmp", 0o777, &root},
		{"/usr/bin", 0o755, &root},
		{"/var", 0o755, &root},
		{secretsDir, 0o755, &root},
	} {
		if err := g.tree.Mkdir(ctx, dir.name, daemon.FileAttr{Mode: dir.mode, UID: dir.id, GID: dir.id}, true); err != nil {
			return err
		}
	}
	if err := g.tree.put("/etc/hostname", []byte(spec.Hostname+"\n"), daemon.FileAttr{UID: &root, GID: &root}); err != nil {
		return err
	}
	for _, s := range spec.Secrets {
		if err := g.PutSecret(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// checkThawed fails the test when the daemon asks something of a frozen guest.
func (g *guest) checkThawed(what string) {
	g.mu.Lock()
	frozen := g.frozen
	g.mu.Unlock()
	if frozen {
		g.machines.tb.Errorf("slicertest: %s on the frozen guest of VM %q", what, g.hostname)
	}
}

// Start implements daemon.Guest.
func (g *guest) Start(_ context.Context, cmd *daemon.Command) (daemon.Process, error) {
	g.checkThawed("Start")
	p, program, err := g.prepare(cmd)
	if err != nil {
		return nil, err
	}
	proc, err := g.launch(p, program, cmd.Stdin, nil)
	if err != nil {
		return nil, err
	}
	return proc, nil
}

// launch starts a program. A signal closes its input and calls hangup, unless
// that is nil.
func (g *guest) launch(p *Proc, program Program, stdin io.Reader, hangup func()) (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return nil, fmt.Errorf("start: %w", daemon.ErrEnded)
	}
	g.pid++
	proc := newProcess(g, firstPid+g.pid, stdin)
	proc.hangup = hangup
	g.procs[proc] = true
	proc.run(p, program)
	return proc, nil
}

// prepare finds cmd's program and makes its Proc.
func (g *guest) prepare(cmd *daemon.Command) (*Proc, Program, error) {
	p := &Proc{
		Args: cmd.Argv, UID: ordinaryUser, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
		Hostname: g.hostname, guest: g,
	}
	if cmd.UID != nil {
		p.UID = *cmd.UID
	}
	p.GID = p.UID
	if cmd.GID != nil {
		p.GID = *cmd.GID
	}
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	if p.Stdout == nil {
		p.Stdout = io.Discard
	}
	if p.Stderr == nil {
		p.Stderr = io.Discard
	}
	user, home := userOf(p.UID)
	p.Env = append([]string{"HOME=" + home, "USER=" + user, "PATH=/usr/local/bin:/usr/bin:/bin"}, cmd.Env...)
	p.Dir = cmd.Dir
	if rest, ok := strings.CutPrefix(cmd.Dir, "~"); ok || cmd.Dir == "" {
		p.Dir = path.Clean(home + rest)
	}
	if info, err := p.Files().Stat(p.Dir); err != nil {
		return nil, nil, fmt.Errorf("change to %s: %w", p.Dir, err)
	} else if !info.IsDir() {
		return nil, nil, fmt.Errorf("change to %s: not a directory", p.Dir)
	}
	program, err := p.lookup(cmd.Argv)
	return p, program, err
}

// Files implements daemon.Guest.
func (g *guest) Files() daemon.FileTree { return g.tree }

// PutSecret implements daemon.Guest.
func (g *guest) PutSecret(_ context.Context, s daemon.SecretFile) error {
	g.checkThawed("PutSecret")
	return g.tree.put(path.Join(secretsDir, s.Name), s.Data, daemon.FileAttr{Mode: s.Mode, UID: &s.UID, GID: &s.GID})
}

// RemoveSecret implements daemon.Guest.
func (g *guest) RemoveSecret(ctx context.Context, name string) error {
	g.checkThawed("RemoveSecret")
	err := g.tree.Remove(ctx, path.Join(secretsDir, name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Freeze implements daemon.Guest. Programs run on: it is the daemon that
// keeps calls out of a paused VM.
func (g *guest) Freeze(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = true
	return nil
}

// Thaw implements daemon.Guest.
func (g *guest) Thaw(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = false
	return nil
}

// Stop implements daemon.Guest.
func (g *guest) Stop(ctx context.Context) error {
	g.mu.Lock()
	g.ended = true
	procs := make([]*process, 0, len(g.procs))
	for p := range g.procs {
		procs = append(procs, p)
	}
	g.mu.Unlock()
	g.net.close()
	for _, p := range procs {
		p.kill("KILL")
	}
	for _, p := range procs {
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for program %q, which must end with its context: %w", p.name, context.Cause(ctx))
		}
	}
	g.machines.keep(g)
	g.machines.forget(g)
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.done:
	default:
		close(g.done)
	}
	return nil
}

// end ends the guest by itself.
func (g *guest) end() {
	// Without a deadline Stop waits for the programs alone.
	_ = g.Stop(context.Background())
}

// Done implements daemon.Guest.
func (g *guest) Done() <-chan struct{} { return g.done }

// Uptime implements daemon.Guest.
func (g *guest) Uptime() time.Duration { return time.Since(g.born) }

// EndReason implements daemon.Guest.
func (g *guest) EndReason() string { return "" }

// Unenforced implements daemon.Guest.
func (g *guest) Unenforced() []string { return nil }
