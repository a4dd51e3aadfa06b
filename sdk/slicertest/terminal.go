package slicertest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Terminal is the terminal that a program runs on in a shell session. Its bytes
// are the program's Stdin and Stdout: as they were typed, nothing is echoed,
// no key makes a signal. Stderr is the same as Stdout. When the session ends
// the program's context is done with Signal("HUP").
type Terminal struct {
	mu      sync.Mutex
	rows    uint16
	cols    uint16
	changed chan struct{}
}

// Size is the window's size in characters, 24 rows of 80 columns until the
// client has said otherwise, and a channel that is closed when it changes.
func (t *Terminal) Size() (rows, cols int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return int(t.rows), int(t.cols), t.changed
}

func (t *Terminal) resize(size daemon.TerminalSize) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows, t.cols = size.Rows, size.Cols
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Terminal implements daemon.Guest.
func (g *guest) Terminal(_ context.Context, cmd *daemon.Command, size daemon.TerminalSize) (daemon.Terminal, error) {
	g.checkThawed("Terminal")
	keys, typed := io.Pipe()
	screen, shown := io.Pipe()
	onTerminal := *cmd
	onTerminal.Stdin, onTerminal.Stdout, onTerminal.Stderr = keys, shown, shown
	p, program, err := g.prepare(&onTerminal)
	if err != nil {
		return nil, err
	}
	p.Terminal = new(Terminal)
	p.Terminal.resize(size)
	m := &terminalMaster{terminal: p.Terminal, typed: typed, screen: screen}
	// Whatever ends the process lets what it is writing go.
	m.process, err = g.launch(p, program, keys, func() { screen.CloseWithError(errHungUp) })
	if err != nil {
		return nil, err
	}
	go func() { // ends with the process, which the guest's Stop waits for
		<-m.done
		shown.Close()
		keys.Close()
	}()
	return m, nil
}

var errHungUp = errors.New("the terminal is hung up")

// terminalMaster is the daemon's side of a terminal.
type terminalMaster struct {
	*process
	terminal *Terminal
	typed    *io.PipeWriter
	screen   *io.PipeReader
}

var _ daemon.Terminal = (*terminalMaster)(nil)

// Read implements daemon.Terminal.
func (m *terminalMaster) Read(p []byte) (int, error) {
	n, err := m.screen.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// Write implements daemon.Terminal.
func (m *terminalMaster) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return m.typed.Write(p)
}

// Resize implements daemon.Terminal.
func (m *terminalMaster) Resize(size daemon.TerminalSize) error {
	m.terminal.resize(size)
	return nil
}

// Close implements daemon.Terminal.
func (m *terminalMaster) Close() error {
	m.kill("HUP")
	return nil
}
