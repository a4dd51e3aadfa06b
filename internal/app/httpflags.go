package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The transports, as --transport names them.
const (
	transportStdio = "stdio"
	transportHTTP  = "http"
)

const (
	// mcpTokenVariable is the environment variable with the token that callers
	// over HTTP must bring.
	mcpTokenVariable = "SLICERVM_MCP_TOKEN"

	defaultListen      = "127.0.0.1:8090"
	defaultSessionIdle = 30 * time.Minute
)

// httpFlags are the flags of --transport http.
type httpFlags struct {
	listen       string
	tokenFile    string
	tlsCert      string
	tlsKey       string
	allowOrigins []string
	allowHosts   []string
	sessionIdle  time.Duration
	stateless    bool
}

// httpSettings are what the flags come to.
type httpSettings struct {
	at          listenAddress
	token       string
	tls         *tls.Config // nil is plain HTTP
	origins     []string
	hosts       []string
	sessionIdle time.Duration
	stateless   bool
}

// names of the flags that add defines.
func (h *httpFlags) names() []string {
	return []string{"listen", "auth-token-file", "tls-cert", "tls-key", "allow-origin", "allow-host", "session-idle", "stateless"}
}

func (h *httpFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&h.listen, "listen", defaultListen, "http: `address`, host:port where port 0 picks one, or a Unix socket's path")
	f.StringVar(&h.tokenFile, "auth-token-file", "", "http: `file` with the token that callers must bring, made with a random one if it isn't there\n(default $"+mcpTokenVariable+", else none, on loopback and Unix sockets only)")
	f.StringVar(&h.tlsCert, "tls-cert", "", "http: `file` with the certificates to serve TLS with, PEM")
	f.StringVar(&h.tlsKey, "tls-key", "", "http: `file` with the key of --tls-cert, PEM")
	f.StringArrayVar(&h.allowOrigins, "allow-origin", nil, "http: `origin`, scheme://host[:port], whose web pages may call; may be repeated (default this machine's)")
	f.StringArrayVar(&h.allowHosts, "allow-host", nil, "http: `name` by which a proxy on this machine may call; may be repeated (default localhost)")
	f.DurationVar(&h.sessionIdle, "session-idle", defaultSessionIdle, "http: how long a session lives after its last answer, a `time` such as 10m")
	f.BoolVar(&h.stateless, "stateless", false, "http: keep no sessions, for replicas behind a load balancer; they need the same --owner")
}

// check refuses flags that are wrong in themselves, or for the transport.
func (h *httpFlags) check(cmd *cobra.Command, o *options) error {
	switch o.transport {
	case transportStdio:
		for _, name := range h.names() {
			if cmd.Flags().Changed(name) {
				return usageError{fmt.Sprintf("--%s is of --transport http; on standard input and output it means nothing", name)}
			}
		}
		return nil
	case transportHTTP:
	default:
		return usageError{fmt.Sprintf("--transport is stdio or http, not %q", o.transport)}
	}
	switch {
	case h.listen == "":
		return usageError{"--listen wants host:port or a Unix socket (unix:///path/to/mcp.sock)"}
	case cmd.Flags().Changed("auth-token-file") && h.tokenFile == "":
		return usageError{"--auth-token-file wants a file"}
	case (h.tlsCert == "") != (h.tlsKey == ""):
		return usageError{"--tls-cert and --tls-key go together: one of them is missing"}
	case h.sessionIdle <= 0:
		return usageError{fmt.Sprintf("--session-idle is more than 0, not %v", h.sessionIdle)}
	case h.stateless && cmd.Flags().Changed("session-idle"):
		return usageError{"--session-idle means nothing with --stateless, which has no sessions"}
	case h.stateless && o.owner == "":
		return usageError{"--stateless needs --owner: replicas know their VMs by it, so it must be the same for all of them"}
	}
	return nil
}

// settle reads what the flags name. Roots are the host folders that tools may
// copy from, in which neither the token nor the key may lie.
func (h *httpFlags) settle(p Process, roots []string, log *slog.Logger) (httpSettings, error) {
	dir, err := p.dir()
	if err != nil {
		return httpSettings{}, err
	}
	s := httpSettings{sessionIdle: h.sessionIdle, stateless: h.stateless}
	if s.at, err = parseListen(h.listen, dir); err != nil {
		return httpSettings{}, err
	}
	for _, raw := range h.allowOrigins {
		origin, err := parseOrigin(raw)
		if err != nil {
			return httpSettings{}, err
		}
		s.origins = append(s.origins, origin)
	}
	for _, raw := range h.allowHosts {
		host, err := parseHost(raw)
		if err != nil {
			return httpSettings{}, err
		}
		s.hosts = append(s.hosts, host)
	}
	for flag, name := range map[string]string{"--auth-token-file": h.tokenFile, "--tls-key": h.tlsKey} {
		for _, root := range roots {
			if name != "" && contains(root, under(dir, name)) {
				return httpSettings{}, usageError{fmt.Sprintf("%s lies in a folder that tools may copy from (%s): keep it elsewhere", flag, root)}
			}
		}
	}
	if s.at.tcp != "" && !s.at.isLoopback() && h.tokenFile == "" && p.Getenv(mcpTokenVariable) == "" {
		return httpSettings{}, usageError{fmt.Sprintf("--listen %s lets other machines use the tools and asks for no token: add --auth-token-file or set %s, or listen on 127.0.0.1", s.at.tcp, mcpTokenVariable)}
	}
	if s.tls, err = h.loadTLS(dir, log); err != nil {
		return httpSettings{}, err
	}
	if s.token, err = h.token(p, dir, log); err != nil {
		return httpSettings{}, err
	}
	if s.at.tcp == "" {
		return s, nil
	}
	if s.token == "" {
		log.Warn("no token is asked for: every user and program of this machine can use the tools; --auth-token-file asks for one")
	}
	if s.tls == nil && !s.at.isLoopback() {
		log.Warn("the token and all else cross the network in the clear: add --tls-cert and --tls-key, unless a proxy in front does TLS")
	}
	return s, nil
}

// token is what callers must bring, "" for nothing.
func (h *httpFlags) token(p Process, dir string, log *slog.Logger) (string, error) {
	if h.tokenFile != "" {
		token, err := tokenFromFile(under(dir, h.tokenFile), log)
		if err != nil {
			return "", fmt.Errorf("--auth-token-file: %w", err)
		}
		if err := checkMCPToken(token); err != nil {
			return "", usageError{"the token of --auth-token-file " + err.Error()}
		}
		return token, nil
	}
	raw := p.Getenv(mcpTokenVariable)
	if raw == "" {
		return "", nil
	}
	token := strings.TrimSpace(raw)
	if err := checkMCPToken(token); err != nil {
		return "", usageError{"the token of " + mcpTokenVariable + " " + err.Error()}
	}
	return token, nil
}

// checkMCPToken says what is wrong with a token, without saying the token.
func checkMCPToken(token string) error {
	const shortest, longest = 16, 1024
	const others = "-._~+/" // beside letters and digits; = may end it
	switch {
	case token == "":
		return errors.New("is empty")
	case len(token) < shortest:
		return fmt.Errorf("is too short to be safe: %d characters are the least", shortest)
	case len(token) > longest:
		return fmt.Errorf("is too long: %d characters are the most", longest)
	}
	body := strings.TrimRight(token, "=")
	odd := strings.ContainsFunc(body, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(others, r)
	})
	if odd || body == "" {
		return fmt.Errorf("has a character that can't be in an Authorization header: use letters, digits and %s", others)
	}
	return nil
}

// loadTLS reads the certificate. Without one it returns nil.
func (h *httpFlags) loadTLS(dir string, log *slog.Logger) (*tls.Config, error) {
	if h.tlsCert == "" {
		return nil, nil
	}
	key := under(dir, h.tlsKey)
	cert, err := tls.LoadX509KeyPair(under(dir, h.tlsCert), key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	warnIfReadable(key, log)
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// warnIfReadable logs if others than its user may read a file that holds a secret.
func warnIfReadable(name string, log *slog.Logger) {
	if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 { // it could be read
		log.Warn("other users may read a file that holds a secret", "file", name, "mode", info.Mode().Perm().String())
	}
}

// parseOrigin reads --allow-origin. It returns the origin as browsers write it:
// in lower case and without the scheme's own port.
func parseOrigin(raw string) (string, error) {
	bad := usageError{fmt.Sprintf("--allow-origin is scheme://host[:port], such as https://chat.example.com, not %q", raw)}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.ContainsAny(u.Host, "* ,") {
		return "", bad
	}
	if raw = strings.ToLower(raw); raw != u.Scheme+"://"+strings.ToLower(u.Host) { // there is more: a user, a path, a query
		return "", bad
	}
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return "", bad
		}
		return raw, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", bad
	}
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		raw = strings.TrimSuffix(raw, ":"+port)
	}
	return raw, nil
}

// parseHost reads --allow-host: a name or an IP address, without a port.
func parseHost(raw string) (string, error) {
	host := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(raw, "["), "]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_'
	}
	if host == "" || host != strings.ToLower(raw) || strings.ContainsFunc(host, func(r rune) bool { return !plain(r) }) {
		return "", usageError{fmt.Sprintf("--allow-host is a name without scheme and port, such as mcp.example.com, not %q", raw)}
	}
	return host, nil
}
