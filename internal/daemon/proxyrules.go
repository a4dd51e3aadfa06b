package daemon

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxProxyFilters = 256 // methods or paths of one rule
	maxProxyTTL     = 10 * 365 * 24 * 60 * 60
)

var proxyMethod = regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`)

// proxyRule is an allow rule, as the calls show it.
type proxyRule struct {
	Host        string     `json:"host"`
	Secret      string     `json:"secret,omitempty"`
	Methods     []string   `json:"methods,omitempty"` // in upper case; none is any
	Paths       []string   `json:"paths,omitempty"`   // none is any
	Passthrough bool       `json:"passthrough,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
}

// same reports whether two rules are for the same requests.
func (r proxyRule) same(other proxyRule) bool {
	return r.Host == other.Host && sameSet(r.Methods, other.Methods) && sameSet(r.Paths, other.Paths)
}

// sameSet compares lists as sets.
func sameSet(a, b []string) bool {
	set := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	return slices.Equal(set(a), set(b))
}

// live returns c's rules that have not expired, and forgets the others.
func (c *proxyClient) live() []proxyRule {
	now := time.Now()
	c.rules = slices.DeleteFunc(c.rules, func(r proxyRule) bool { return r.Expires != nil && !now.Before(*r.Expires) })
	return c.rules
}

// listProxyRules serves GET /proxy/v1/clients/{name}.
func (d *Daemon) listProxyRules(w http.ResponseWriter, r *http.Request, _ query) error {
	d.proxy.mu.Lock()
	c, err := d.proxy.client(r.PathValue("name"))
	rules := []proxyRule{}
	if err == nil {
		rules = append(rules, c.live()...)
	}
	d.proxy.mu.Unlock()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, rules)
}

type proxyAllowBody struct {
	Client      string   `json:"client"`
	Host        string   `json:"host"`
	Secret      string   `json:"secret"`
	Methods     []string `json:"methods"`
	Paths       []string `json:"paths"`
	Passthrough bool     `json:"passthrough"`
	TTLSeconds  int64    `json:"ttl_seconds"`
}

// rule is the rule that the body asks for.
func (b *proxyAllowBody) rule() (proxyRule, error) {
	host, err := parseProxyHost(b.Host)
	if err != nil {
		return proxyRule{}, err
	}
	rule := proxyRule{Host: host, Secret: b.Secret, Paths: b.Paths, Passthrough: b.Passthrough}
	switch {
	case b.Passthrough && (b.Secret != "" || len(b.Methods) > 0 || len(b.Paths) > 0):
		return proxyRule{}, refuse(http.StatusBadRequest, "passthrough can't be used together with secret, methods or paths")
	case len(b.Methods) > maxProxyFilters || len(b.Paths) > maxProxyFilters:
		return proxyRule{}, refuse(http.StatusBadRequest, "a rule has %d methods and %d paths at most", maxProxyFilters, maxProxyFilters)
	case b.TTLSeconds < 0 || b.TTLSeconds > maxProxyTTL:
		return proxyRule{}, refuse(http.StatusBadRequest, "ttl_seconds must be from 0, which is for ever, to %d", maxProxyTTL)
	}
	for _, method := range b.Methods {
		method = strings.ToUpper(method)
		if !proxyMethod.MatchString(method) {
			return proxyRule{}, refuse(http.StatusBadRequest, "%q is no HTTP method", method)
		}
		rule.Methods = append(rule.Methods, method)
	}
	for _, p := range b.Paths {
		if !validProxyPath(p) {
			return proxyRule{}, refuse(http.StatusBadRequest, "path %q must be *, or begin with / and have a * only as /* at its end", p)
		}
	}
	if b.TTLSeconds > 0 {
		expires := time.Now().UTC().Add(time.Duration(b.TTLSeconds) * time.Second)
		rule.Expires = &expires
	}
	return rule, nil
}

func validProxyPath(p string) bool {
	if p == "*" {
		return true
	}
	return len(p) <= maxPath && strings.HasPrefix(p, "/") && headerText(p) && !strings.Contains(strings.TrimSuffix(p, "/*"), "*")
}

// addProxyRule serves POST /proxy/v1/allows.
func (d *Daemon) addProxyRule(w http.ResponseWriter, r *http.Request, _ query) error {
	var body proxyAllowBody
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	if body.Client == "" {
		return refuse(http.StatusBadRequest, "client is required")
	}
	rule, err := body.rule()
	if err != nil {
		return err
	}
	if err := d.proxy.addRule(body.Client, rule); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, rule)
}

func (s *proxyStore) addRule(client string, rule proxyRule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[client]
	if c == nil {
		return refuse(http.StatusBadRequest, "no proxy client named %q", client)
	}
	if _, ok := s.secrets[rule.Secret]; rule.Secret != "" && !ok {
		return refuse(http.StatusBadRequest, "no proxy secret named %q", rule.Secret)
	}
	if slices.ContainsFunc(c.live(), rule.same) {
		return refuse(http.StatusConflict, "client %q has a rule for the same host, methods and paths", client)
	}
	if len(c.rules) >= maxProxyRules {
		return refuse(http.StatusInsufficientStorage, "the limit of %d rules of one client is reached", maxProxyRules)
	}
	c.rules = append(c.rules, rule)
	return nil
}

// deleteProxyRules serves DELETE /proxy/v1/allows/{client}/{host}: all rules
// of the client for the host go.
func (d *Daemon) deleteProxyRules(w http.ResponseWriter, r *http.Request, _ query) error {
	host, err := parseProxyHost(r.PathValue("host"))
	if err != nil {
		return err
	}
	d.proxy.mu.Lock()
	defer d.proxy.mu.Unlock()
	c, err := d.proxy.client(r.PathValue("client"))
	if err != nil {
		return err
	}
	before := len(c.live())
	c.rules = slices.DeleteFunc(c.rules, func(r proxyRule) bool { return r.Host == host })
	if len(c.rules) == before {
		return refuse(http.StatusNotFound, "client %q has no rule for %q", r.PathValue("client"), host)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
