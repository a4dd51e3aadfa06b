package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	loopback = "127.0.0.1"

	// maxSpec bounds a spec's text, in bytes.
	maxSpec = 4 << 10
)

// Endpoint is one side of a forwarding. It is a net.Addr's worth of text: "tcp"
// with host:port, or "unix" with the path of a socket.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string
}

// String returns the endpoint as ParseSpec reads it: host:port or unix:path.
func (e Endpoint) String() string {
	if e.Network == "unix" {
		return "unix:" + e.Address
	}
	return e.Address
}

// Spec says what is forwarded: connections to Local, on this machine, go to
// Remote, as the VM sees it.
type Spec struct {
	Local  Endpoint
	Remote Endpoint
}

// String returns the spec in the form that ParseSpec reads.
func (s Spec) String() string { return s.Local.String() + ":" + s.Remote.String() }

// ParseSpec reads LOCAL:REMOTE, the local side first as with ssh -L.
//
// LOCAL is a port, on 127.0.0.1; or host:port, of which * as the host is every
// interface; or the path of a Unix socket to make. The port 0 is any free one.
// REMOTE is a port, on the VM's 127.0.0.1; or host:port, of which the host is
// looked up in the VM; or the absolute path of a Unix socket in the VM. A port
// alone stands for both sides. A path begins with /, ./ or ../, or is written
// unix:path, and holds no colon. An IPv6 address stands in brackets.
//
//	8080                             127.0.0.1:8080 to the VM's port 8080
//	8080:80                          127.0.0.1:8080 to the VM's port 80
//	0:80                             a free port to the VM's port 80
//	*:8080:10.0.0.2:80               every interface to a host that the VM reaches
//	127.0.0.1:8080:[::1]:80          the same in full
//	2375:/var/run/docker.sock        a port to a socket in the VM
//	/tmp/x.sock:80                   a socket to a port
//	unix:x.sock:unix:/run/x.sock     a socket to a socket
func ParseSpec(text string) (Spec, error) {
	spec, err := parseSpec(text)
	if err != nil {
		return Spec{}, fmt.Errorf("forward spec %q: %w", abridge(text), err)
	}
	return spec, nil
}

func parseSpec(text string) (Spec, error) {
	parts, err := splitSpec(text)
	if err != nil {
		return Spec{}, err
	}
	local, rest, err := takeEndpoint(parts, loopback)
	if err != nil {
		return Spec{}, fmt.Errorf("local side: %w", err)
	}
	if len(rest) == 0 {
		// A port alone is both sides; a host or a path alone names only one.
		if len(parts) != 1 || parts[0].kind != partPort {
			return Spec{}, errors.New("the side in the VM is missing")
		}
		rest = parts
	}
	remote, rest, err := takeEndpoint(rest, loopback)
	if err != nil {
		return Spec{}, fmt.Errorf("side in the VM: %w", err)
	}
	if len(rest) > 0 {
		return Spec{}, errors.New("there is more than two sides")
	}
	if err := checkRemote(remote); err != nil {
		return Spec{}, fmt.Errorf("side in the VM: %w", err)
	}
	return Spec{Local: local, Remote: remote}, nil
}

// partKind is what stands between two colons of a spec.
type partKind int

const (
	partPort partKind = iota // digits
	partPath                 // of a Unix socket
	partHost                 // a name, an address without its brackets, or *
)

type part struct {
	kind partKind
	text string
}

// splitSpec takes a spec apart at its colons.
func splitSpec(text string) ([]part, error) {
	if text == "" {
		return nil, errors.New("it is empty")
	}
	if len(text) > maxSpec {
		return nil, fmt.Errorf("it is longer than %d bytes", maxSpec)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return nil, errors.New("it has control characters")
	}
	var parts []part
	for more := true; more; {
		var p part
		var err error
		p, text, more, err = takePart(text)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// takePart takes the part before the first colon of text that ends one. more
// tells whether there was such a colon.
func takePart(text string) (p part, rest string, more bool, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner, rest, ok = strings.Cut(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() {
			return part{}, "", false, errors.New("brackets hold an IPv6 address")
		}
		if rest == "" {
			return part{partHost, inner}, "", false, nil
		}
		if rest, ok = strings.CutPrefix(rest, ":"); !ok {
			return part{}, "", false, errors.New("a colon must follow the brackets")
		}
		return part{partHost, inner}, rest, true, nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path, rest, more = strings.Cut(path, ":")
		if path == "" {
			return part{}, "", false, errors.New("unix: has no path")
		}
		return part{partPath, path}, rest, more, nil
	}
	text, rest, more = strings.Cut(text, ":")
	switch {
	case text == "":
		return part{}, "", false, errors.New("nothing stands before a colon or after the last one")
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"):
		return part{partPath, text}, rest, more, nil
	case strings.Trim(text, "0123456789") == "":
		return part{partPort, text}, rest, more, nil
	case !isHost(text):
		return part{}, "", false, fmt.Errorf("%q is no port, host or path", abridge(text))
	}
	return part{partHost, text}, rest, more, nil
}

// isHost reports whether text looks like a host's name or IPv4 address, or is *.
func isHost(text string) bool {
	return text == "*" || text[0] != '-' && strings.IndexFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && r != '-' && r != '.' && r != '_'
	}) < 0
}

// takeEndpoint takes the parts of one side from the front of parts. A port
// without a host is on byDefault.
func takeEndpoint(parts []part, byDefault string) (Endpoint, []part, error) {
	first, rest := parts[0], parts[1:]
	switch first.kind {
	case partPath:
		return Endpoint{"unix", first.text}, rest, nil
	case partPort:
		e, err := tcpEndpoint(byDefault, first.text)
		return e, rest, err
	}
	if len(rest) == 0 || rest[0].kind != partPort {
		return Endpoint{}, nil, fmt.Errorf("a port must follow the host %q", abridge(first.text))
	}
	e, err := tcpEndpoint(first.text, rest[0].text)
	return e, rest[1:], err
}

func tcpEndpoint(host, port string) (Endpoint, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%s is no port", abridge(port))
	}
	return Endpoint{"tcp", net.JoinHostPort(host, strconv.FormatUint(n, 10))}, nil
}

// checkRemote reports why e can't be dialled in a VM.
func checkRemote(e Endpoint) error {
	if !utf8.ValidString(e.Address) || strings.ContainsFunc(e.Address, unicode.IsControl) {
		return errors.New("the address has control characters")
	}
	switch e.Network {
	case "unix":
		if !strings.HasPrefix(e.Address, "/") {
			return errors.New("a socket's path must be absolute")
		}
		return nil
	case "tcp":
		host, port, err := net.SplitHostPort(e.Address)
		if err != nil {
			return err
		}
		if host == "" || host == "*" {
			return errors.New("the address names no host")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("the port must be a number from 1 to 65535")
		}
		return nil
	}
	return fmt.Errorf("the network must be tcp or unix, not %q", abridge(e.Network))
}

// listenAddress is e as package net listens on it.
func (e Endpoint) listenAddress() string {
	if e.Network == "tcp" {
		if port, ok := strings.CutPrefix(e.Address, "*:"); ok {
			return ":" + port
		}
	}
	return e.Address
}

// abridge bounds text that goes into an error.
func abridge(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
