package daemon

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxProxyClients = 1000
	maxProxySecrets = 1000
	maxProxyRules   = 1000 // of one client
	maxProxyToken   = 4096 // bytes
	maxProxyValue   = 64 << 10

	proxyTokenPrefix = "spt_"
	proxyTokenBytes  = 32
)

var (
	// proxyName is the name of a client or an upstream secret.
	proxyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)
	// proxyHost is an exact host, all below one, or any; not an IPv6 address.
	proxyHost = regexp.MustCompile(`^(\*|(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*)$`)
)

const maxProxyHost = 253

// proxyStore is what the egress proxy's admin calls tell of: its clients,
// their allow rules, and the upstream secrets. No traffic passes here, so that
// tokens are kept as hashes and the secrets' values not at all.
type proxyStore struct {
	mu      sync.Mutex
	clients map[string]*proxyClient
	secrets map[string]proxySecretJSON
}

type proxyClient struct {
	token     [sha256.Size]byte
	createdAt time.Time
	rules     []proxyRule // in the order in which they were added
}

func newProxyStore() *proxyStore {
	return &proxyStore{clients: make(map[string]*proxyClient), secrets: make(map[string]proxySecretJSON)}
}

func (s *proxyStore) client(name string) (*proxyClient, error) {
	c := s.clients[name]
	if c == nil {
		return nil, refuse(http.StatusNotFound, "no proxy client named %q", name)
	}
	return c, nil
}

type proxyClientJSON struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// listProxyClients serves GET /proxy/v1/clients.
func (d *Daemon) listProxyClients(w http.ResponseWriter, _ *http.Request, _ query) error {
	d.proxy.mu.Lock()
	list := make([]proxyClientJSON, 0, len(d.proxy.clients))
	for _, name := range slices.Sorted(maps.Keys(d.proxy.clients)) {
		list = append(list, proxyClientJSON{name, d.proxy.clients[name].createdAt})
	}
	d.proxy.mu.Unlock()
	return writeJSON(w, http.StatusOK, list)
}

// createProxyClient serves POST /proxy/v1/clients. The token is shown this
// once.
func (d *Daemon) createProxyClient(w http.ResponseWriter, r *http.Request, _ query) error {
	var body struct {
		Name  string `json:"name"`
		Token string `json:"token"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	switch {
	case !proxyName.MatchString(body.Name):
		return badProxyName()
	case len(body.Token) > maxProxyToken:
		return refuse(http.StatusBadRequest, "token is longer than %d bytes", maxProxyToken)
	case !headerText(body.Token) || strings.Contains(body.Token, " "):
		return refuse(http.StatusBadRequest, "token has characters that can't stand in a header")
	}
	if body.Token == "" {
		body.Token = mintProxyToken()
	}
	made, err := d.proxy.addClient(body.Name, body.Token)
	if err != nil {
		return err
	}
	d.log.Info("proxy client created", "client", body.Name)
	return writeJSON(w, http.StatusCreated, struct {
		proxyClientJSON
		Token string `json:"token"`
	}{made, body.Token})
}

func badProxyName() error {
	return refuse(http.StatusBadRequest, "name must be 1 to 253 letters, digits, dots, underscores and hyphens, beginning with a letter or digit")
}

// headerText reports whether s can stand in an HTTP header.
func headerText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func mintProxyToken() string {
	random := make([]byte, proxyTokenBytes)
	_, _ = rand.Read(random) // never fails, as it says
	return proxyTokenPrefix + base64.RawURLEncoding.EncodeToString(random)
}

func (s *proxyStore) addClient(name, token string) (proxyClientJSON, error) {
	c := &proxyClient{token: sha256.Sum256([]byte(token)), createdAt: time.Now().UTC()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[name] != nil {
		return proxyClientJSON{}, refuse(http.StatusConflict, "proxy client %q already exists", name)
	}
	for _, other := range s.clients {
		if other.token == c.token {
			return proxyClientJSON{}, refuse(http.StatusConflict, "the token is already a client's")
		}
	}
	if len(s.clients) >= maxProxyClients {
		return proxyClientJSON{}, refuse(http.StatusInsufficientStorage, "the limit of %d proxy clients is reached", maxProxyClients)
	}
	s.clients[name] = c
	return proxyClientJSON{name, c.createdAt}, nil
}

// deleteProxyClient serves DELETE /proxy/v1/clients/{name}. The client's rules
// go with it.
func (d *Daemon) deleteProxyClient(w http.ResponseWriter, r *http.Request, _ query) error {
	name := r.PathValue("name")
	d.proxy.mu.Lock()
	defer d.proxy.mu.Unlock()
	if _, err := d.proxy.client(name); err != nil {
		return err
	}
	delete(d.proxy.clients, name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type proxySecretJSON struct {
	Name      string    `json:"name"`
	Host      string    `json:"host"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"created_at"`
}

// listProxySecrets serves GET /proxy/v1/secrets.
func (d *Daemon) listProxySecrets(w http.ResponseWriter, _ *http.Request, _ query) error {
	d.proxy.mu.Lock()
	list := make([]proxySecretJSON, 0, len(d.proxy.secrets))
	for _, name := range slices.Sorted(maps.Keys(d.proxy.secrets)) {
		list = append(list, d.proxy.secrets[name])
	}
	d.proxy.mu.Unlock()
	return writeJSON(w, http.StatusOK, list)
}

// createProxySecret serves POST /proxy/v1/secrets.
func (d *Daemon) createProxySecret(w http.ResponseWriter, r *http.Request, _ query) error {
	var body struct {
		Name  string `json:"name"`
		Host  string `json:"host"`
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	host, err := parseProxyHost(body.Host)
	if err != nil {
		return err
	}
	user, _, isPair := strings.Cut(body.Value, ":")
	switch {
	case !proxyName.MatchString(body.Name):
		return badProxyName()
	case body.Type != "" && body.Type != "bearer" && body.Type != "basic":
		return refuse(http.StatusBadRequest, "type must be bearer or basic, not %q", body.Type)
	case body.Value == "":
		return refuse(http.StatusBadRequest, "value is required")
	case len(body.Value) > maxProxyValue:
		return refuse(http.StatusBadRequest, "value is longer than %d bytes", maxProxyValue)
	case body.Type == "basic" && (!isPair || user == ""):
		return refuse(http.StatusBadRequest, "the value of type basic must be user:pass")
	case body.Type != "basic" && !headerText(body.Value):
		return refuse(http.StatusBadRequest, "value has characters that can't stand in a header")
	}
	made := proxySecretJSON{Name: body.Name, Host: host, Type: body.Type, CreatedAt: time.Now().UTC()}
	if made.Type == "" {
		made.Type = "bearer"
	}
	if err := d.proxy.addSecret(made); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, made)
}

func (s *proxyStore) addSecret(made proxySecretJSON) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.secrets[made.Name]; ok {
		return refuse(http.StatusConflict, "proxy secret %q already exists", made.Name)
	}
	if len(s.secrets) >= maxProxySecrets {
		return refuse(http.StatusInsufficientStorage, "the limit of %d proxy secrets is reached", maxProxySecrets)
	}
	s.secrets[made.Name] = made
	return nil
}

// deleteProxySecret serves DELETE /proxy/v1/secrets/{name}. Rules that name it
// stay.
func (d *Daemon) deleteProxySecret(w http.ResponseWriter, r *http.Request, _ query) error {
	name := r.PathValue("name")
	d.proxy.mu.Lock()
	defer d.proxy.mu.Unlock()
	if _, ok := d.proxy.secrets[name]; !ok {
		return refuse(http.StatusNotFound, "no proxy secret named %q", name)
	}
	delete(d.proxy.secrets, name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// parseProxyHost checks a host and puts it in lower case.
func parseProxyHost(text string) (string, error) {
	host := strings.ToLower(text)
	if host == "" {
		return "", refuse(http.StatusBadRequest, "host is required")
	}
	addr, err := netip.ParseAddr(host)
	if isAddr := err == nil && addr.Zone() == ""; len(host) > maxProxyHost || !isAddr && !proxyHost.MatchString(host) {
		return "", refuse(http.StatusBadRequest, "host must be a host without a port, *.domain or *, not %q", text[:min(len(text), maxProxyHost)])
	}
	return host, nil
}
