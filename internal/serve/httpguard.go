package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// headerSession carries the id of a session of the older era.
const headerSession = "Mcp-Session-Id"

// What a web page of an allowed origin may send, and read of an answer.
const (
	corsRequestHeaders = "Accept, Authorization, Content-Type, Last-Event-ID, " +
		"Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Mcp-Session-Id"
	corsResponseHeaders = "Mcp-Session-Id, Retry-After, WWW-Authenticate"
)

// access decides who may call.
type access struct {
	origins map[string]bool // normalized
	hosts   map[string]bool // lower case
	token   *[sha256.Size]byte
}

func newAccess(opts HTTPOptions) *access {
	a := &access{origins: make(map[string]bool), hosts: make(map[string]bool)}
	for _, o := range opts.AllowOrigins {
		if o, _, ok := parseOrigin(o); ok {
			a.origins[o] = true
		}
	}
	for _, host := range opts.AllowHosts {
		if host != "" {
			a.hosts[strings.ToLower(host)] = true
		}
	}
	if opts.Token != "" {
		sum := sha256.Sum256([]byte(opts.Token))
		a.token = &sum
	}
	return a
}

// admit checks who calls rt, and answers those who may not, and preflights.
// It reports whether the request is to be served: the one it returns, which no
// longer tells the token.
func (a *access) admit(w http.ResponseWriter, r *http.Request, rt route) (*http.Request, bool) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Origin")
	if !a.hostAllowed(r) {
		refuse(w, http.StatusForbidden, "call this server as localhost or 127.0.0.1, or start it with --allow-host and the name that you use")
		return nil, false
	}
	origin, ok := a.originAllowed(r)
	if !ok {
		refuse(w, http.StatusForbidden, "web pages of this origin may not call: start the server with --allow-origin and the page's origin to let them")
		return nil, false
	}
	if origin != "" {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Expose-Headers", corsResponseHeaders)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", strings.Join(rt.methods, ", "))
			header.Set("Access-Control-Allow-Headers", corsRequestHeaders)
			header.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return nil, false
		}
	}
	if !a.tokenAllowed(r) && (!rt.open || !rt.takes(r.Method)) {
		header.Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "this server wants the header Authorization: Bearer and its token")
		return nil, false
	}
	served := *r
	served.Header = r.Header.Clone()
	served.Header.Del("Authorization")
	return &served, true
}

// hostAllowed keeps out web pages that point their own site's name at this
// machine. Over a connection from elsewhere a token is what counts.
func (a *access) hostAllowed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() {
		return true
	}
	host := strings.ToLower(r.Host)
	name := withoutPort(host)
	return isLoopback(name) || a.hosts[host] || a.hosts[name]
}

// withoutPort is the host of a Host header, without an address's brackets.
func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

// isLoopback reports whether a name in lower case always means this machine.
func isLoopback(name string) bool {
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// originAllowed reports whether the page that calls may, and gives its origin
// as it wrote it. "" is a caller that is no web page.
func (a *access) originAllowed(r *http.Request) (origin string, ok bool) {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return "", true
	}
	if len(values) > 1 {
		return "", false
	}
	normal, u, ok := parseOrigin(values[0])
	if !ok {
		return "", false
	}
	web := u.Scheme == "http" || u.Scheme == "https"
	if a.origins[normal] || web && isLoopback(strings.ToLower(u.Hostname())) {
		return values[0], true
	}
	return "", false
}

// parseOrigin takes scheme://host[:port] and nothing else. normal is its form
// to compare.
func parseOrigin(text string) (normal string, u *url.URL, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || !strings.EqualFold(text, u.Scheme+"://"+u.Host) {
		return "", nil, false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, u, true
}

// tokenAllowed compares in constant time.
func (a *access) tokenAllowed(r *http.Request) bool {
	if a.token == nil {
		return true
	}
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	same := subtle.ConstantTimeCompare(sum[:], a.token[:]) == 1
	return strings.EqualFold(scheme, "Bearer") && same
}

// refuse answers with one plain line.
func refuse(w http.ResponseWriter, status int, line string) { say(w, status, line) }

// busy refuses a request that may be sent again.
func busy(w http.ResponseWriter, line string) {
	w.Header().Set("Retry-After", "1")
	say(w, http.StatusServiceUnavailable, line)
}

func say(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") // a client that has gone needs no answer
}
