package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxSocketPath is what a Unix socket's address holds, in bytes;
// privateName is as long as the name, below the socket's folder, under which
// listenSocket makes it.
const (
	maxSocketPath = 107
	privateName   = len("/.s0123456789/s")
)

// dialLimit bounds the question whether somebody serves a socket.
const dialLimit = 2 * time.Second

// listenAddress is where a daemon listens: a Unix socket's absolute path, or a
// TCP address. Both empty stand for a socket in the state folder.
type listenAddress struct {
	socket string
	tcp    string
}

// parseListen reads --listen. A relative path is one of dir.
func parseListen(text, dir string) (listenAddress, error) {
	path, isURL := strings.CutPrefix(text, "unix://")
	switch {
	case text == "":
		return listenAddress{}, nil
	case isURL, filepath.IsAbs(text), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"), strings.HasSuffix(text, ".sock"):
		if path == "" || strings.HasSuffix(path, "/") {
			return listenAddress{}, usageError{fmt.Sprintf("--listen %q has no socket's path; write unix:///path/to/api.sock", text)}
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return listenAddress{socket: filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" || strings.ContainsAny(host, "/@") {
		return listenAddress{}, usageError{fmt.Sprintf("--listen is host:port (127.0.0.1:0 picks a port) or a Unix socket (unix:///path/to/api.sock), not %q", text)}
	}
	return listenAddress{tcp: text}, nil
}

// isLoopback reports whether only this machine reaches the address.
func (a listenAddress) isLoopback() bool {
	host, _, err := net.SplitHostPort(a.tcp)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// listen opens the listener. The default socket is one in stateDir.
func (a listenAddress) listen(ctx context.Context, stateDir string) (net.Listener, error) {
	if a.tcp != "" {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", a.tcp)
	}
	if a.socket != "" {
		return listenSocket(ctx, a.socket)
	}
	return listenSocket(ctx, filepath.Join(stateDir, "api.sock"))
}

// listenURL is an address as clients take it.
func listenURL(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix://" + a.String()
	}
	return "http://" + a.String()
}

// socketListener is a listener on a Unix socket that was linked to its path.
type socketListener struct {
	net.Listener
	path string
	made os.FileInfo

	closing  sync.Once
	closeErr error
}

// listenPrivate listens on a Unix socket, in a folder that only this user may
// enter, and makes it one that only this user can open wherever it is linked.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listenSocket listens on a Unix socket that only this user can open, at no
// moment anybody else. A dead server's socket at path is replaced; that of a
// living one and files of other kinds are errors.
func listenSocket(ctx context.Context, path string) (_ net.Listener, err error) {
	folder := filepath.Dir(path)
	if len(path) > maxSocketPath || len(folder) > maxSocketPath-privateName {
		return nil, fmt.Errorf("%s is too long for a socket's path; name a shorter one with --listen", path)
	}
	private, err := os.MkdirTemp(folder, ".s")
	if err != nil {
		return nil, fmt.Errorf("make the socket's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	name := filepath.Join(private, "s")
	l, err := listenPrivate(ctx, name)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // of a name that is gone by then
	}
	made, err := os.Lstat(name)
	if err == nil {
		err = place(ctx, name, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &socketListener{Listener: l, path: path, made: made}, nil
}

// place gives the socket called name its path, while no other server does the
// same in that folder.
func place(ctx context.Context, name, path string) error {
	unlock, err := lockFolder(ctx, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkStale(ctx, path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(name, path) // which, unlike a rename, takes nobody's place
}

// checkStale returns an error if what is at path isn't a socket that nobody
// serves. That nothing is there is none.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there and is no socket; name another path with --listen, or remove it", path)
	}
	d := net.Dialer{Timeout: dialLimit}
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errServed(path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded): // its queue is full
		return errServed(path)
	}
	return fmt.Errorf("ask whether somebody serves %s: %w", path, err)
}

func errServed(path string) error {
	return fmt.Errorf("another daemon serves %s; stop it, or name another socket with --listen", path)
}

// Addr is the socket's path.
func (s *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening and removes the socket, unless another file is there
// by now. Later calls return what the first one did.
func (s *socketListener) Close() error {
	s.closing.Do(func() {
		s.closeErr = s.Listener.Close()
		if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.made) {
			s.closeErr = errors.Join(s.closeErr, os.Remove(s.path))
		}
	})
	return s.closeErr
}
