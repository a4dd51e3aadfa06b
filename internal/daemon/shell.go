package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// The types of a shell's messages. Each message is a header of shellHeader
// bytes, the type and the payload's length as a big-endian 32-bit number, and
// the payload.
const (
	shellData      = 1 // the terminal's bytes
	shellSize      = 2 // the window's size, see parseSize
	shellShutdown  = 3 // hang up
	shellHeartbeat = 4 // answered with the same payload
	shellClose     = 5 // the session is over

	shellHeader = 5

	// maxShell bounds the payload of a message that is taken, shellChunk that
	// of one that is sent: clients take 32 KiB, unless they say otherwise.
	maxShell   = 1 << 20
	shellChunk = 32<<10 - shellHeader

	// hangupGrace is how long a command may live on after its terminal is
	// hung up.
	hangupGrace = 2 * time.Second

	// A command's last output has come when nothing has for quietTime: what it
	// left running may keep the terminal open. outputGrace is how long that
	// may take in all.
	quietTime   = 100 * time.Millisecond
	outputGrace = 10 * time.Second
)

// parseShell reads a shell call: the user's login shell, unless named.
func parseShell(q query) (*Command, error) {
	cmd := &Command{Dir: q.text("cwd"), Env: []string{"TERM=xterm-256color"}}
	var err error
	if cmd.UID, err = q.id("uid"); err != nil {
		return nil, err
	}
	if cmd.GID, err = q.id("gid"); err != nil {
		return nil, err
	}
	if err := checkDir(cmd.Dir); err != nil {
		return nil, err
	}
	shell := q.text("shell")
	switch {
	case shell == "":
		shell = "/bin/bash"
	case strings.ContainsRune(shell, 0):
		return nil, refuse(http.StatusBadRequest, "shell has a NUL byte")
	}
	cmd.Argv = []string{shell, "-l"}
	return cmd, nil
}

// shell serves GET /vm/{vm}/shell: a login shell on a terminal, as the messages
// of a WebSocket. The session ends with the shell, the client or the VM.
func (d *Daemon) shell(w http.ResponseWriter, r *http.Request, q query, v *vm) error {
	cmd, err := parseShell(q)
	if err != nil {
		return err
	}
	ctx, kill := context.WithCancelCause(r.Context())
	defer kill(context.Canceled)
	term, err := v.terminal(ctx, cmd)
	if err != nil {
		if isRefusal(err) {
			return err
		}
		return refuse(http.StatusBadRequest, "the shell could not be started: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// However it ended, the session is over.
		_, _ = v.await(ctx, term)
	}()
	ws, err := upgrade(w, r, shellHeader+maxShell)
	if err != nil {
		kill(err)
		term.Close()
		<-ended
		return err
	}
	s := &shellSession{ws: ws, term: term, msgs: context.WithoutCancel(ctx), over: v.over}
	s.run(ctx, kill, ended)
	return nil
}

// terminal starts cmd on a terminal of v's guest.
func (v *vm) terminal(ctx context.Context, cmd *Command) (Terminal, error) {
	if !v.gate.tryEnter() {
		return nil, v.errPaused()
	}
	defer v.gate.leave()
	term, err := v.guest.Terminal(ctx, cmd, TerminalSize{Rows: 24, Cols: 80})
	if errors.Is(err, ErrEnded) || err != nil && isClosed(v.over) {
		return nil, v.errGone()
	}
	return term, err
}

// shellSession is one client at one terminal.
type shellSession struct {
	ws   *socketConn
	term Terminal
	msgs context.Context // of messages: it doesn't end, so that there is time for a close

	over <-chan struct{} // closed when the VM ends

	// moves rises when output has been read and when it has been sent: an odd
	// number says that it is on its way.
	moves atomic.Int64

	closing sync.Once
}

// run carries bytes both ways until the command ends, the client leaves or ctx
// ends, and ends the command. kill ends ctx, and the command with it; ended is
// closed when the command has ended.
func (s *shellSession) run(ctx context.Context, kill context.CancelCauseFunc, ended <-chan struct{}) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		s.fromClient()
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.fromTerminal()
	}()

	select {
	case <-ended:
		s.awaitQuiet(ctx, left, sent)
	case <-left:
		s.term.Close()
		grace := time.NewTimer(hangupGrace)
		defer grace.Stop()
		select {
		case <-ended:
		case <-grace.C:
		}
	case <-ctx.Done():
	}
	if isClosed(s.over) {
		s.end(websocket.StatusGoingAway, "the VM has ended")
	} else {
		s.end(websocket.StatusNormalClosure, "")
	}
	s.term.Close()
	kill(context.Canceled)
	<-ended
	<-left
	<-sent
}

// awaitQuiet returns when the last output of a command that has ended is sent.
func (s *shellSession) awaitQuiet(ctx context.Context, left, sent <-chan struct{}) {
	grace := time.NewTimer(outputGrace)
	defer grace.Stop()
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case <-sent:
			return
		case <-left:
			return
		case <-ctx.Done():
			return
		case <-grace.C:
			return
		case <-tick.C:
		}
		now := s.moves.Load()
		if now == last && now%2 == 0 {
			return
		}
		last = now
	}
}

// end tells the client that the session is over, once, and closes.
func (s *shellSession) end(code websocket.StatusCode, reason string) {
	s.closing.Do(func() {
		s.ws.hurry()
		_ = s.send(shellClose, nil) // a client that isn't there any more can't be told
		s.ws.finish(code, reason)
	})
}

// send sends one message.
func (s *shellSession) send(kind byte, payload []byte) error {
	message := make([]byte, shellHeader, shellHeader+len(payload))
	message[0] = kind
	binary.BigEndian.PutUint32(message[1:], uint32(len(payload)))
	return s.ws.Write(s.msgs, websocket.MessageBinary, append(message, payload...))
}

// fromTerminal sends what the terminal shows until nobody has it open. What
// the client doesn't take any more is read off.
func (s *shellSession) fromTerminal() {
	chunk := make([]byte, shellChunk)
	for {
		n, err := s.term.Read(chunk)
		if n > 0 {
			s.moves.Add(1)
			if s.send(shellData, chunk[:n]) != nil {
				_, _ = io.Copy(io.Discard, s.term)
				return
			}
			s.moves.Add(1)
		}
		if err != nil {
			return
		}
	}
}

var errBadMessage = errors.New("bad message")

// fromClient does what the client's messages say. It returns when the client
// has left, or has sent what is no message.
func (s *shellSession) fromClient() {
	for {
		kind, message, err := s.ws.Read(s.msgs)
		if err != nil {
			return
		}
		var payload []byte
		if kind == websocket.MessageBinary && len(message) >= shellHeader {
			payload = message[shellHeader:]
		}
		if payload == nil || uint64(binary.BigEndian.Uint32(message[1:])) != uint64(len(payload)) {
			s.end(websocket.StatusProtocolError, "a message is 5 bytes of header and as many of payload as that says")
			return
		}
		over, err := s.handle(message[0], payload)
		if err != nil {
			s.end(websocket.StatusProtocolError, err.Error())
		}
		if over || err != nil {
			return
		}
	}
}

// handle does what one message says. It reports whether the client has left.
func (s *shellSession) handle(kind byte, payload []byte) (over bool, err error) {
	switch kind {
	case shellData:
		// A terminal that takes nothing any more is about to end the session.
		_, _ = s.term.Write(payload)
	case shellSize:
		size, err := parseSize(payload)
		if err != nil {
			return false, err
		}
		_ = s.term.Resize(size) // as above
	case shellHeartbeat:
		return s.send(shellHeartbeat, payload) != nil, nil
	case shellShutdown, shellClose:
		return true, nil
	default:
		return false, fmt.Errorf("%w: unknown type %d", errBadMessage, kind)
	}
	return false, nil
}

// parseSize reads a window's size: rows and columns as two big-endian numbers
// of 16 or 32 bits, or as the first two of four of 16 bits, as in a winsize.
func parseSize(p []byte) (TerminalSize, error) {
	be := binary.BigEndian
	var size TerminalSize
	switch {
	case len(p) == 4, len(p) == 8 && be.Uint16(p) != 0:
		size = TerminalSize{Rows: be.Uint16(p), Cols: be.Uint16(p[2:])}
	case len(p) == 8 && be.Uint16(p[4:]) == 0:
		size = TerminalSize{Rows: be.Uint16(p[2:]), Cols: be.Uint16(p[6:])}
	}
	if size.Rows == 0 || size.Cols == 0 {
		return size, fmt.Errorf("%w: no window size", errBadMessage)
	}
	return size, nil
}
