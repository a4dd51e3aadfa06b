package slicer

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
)

// ProxyClient is who may use the egress proxy: a name that rules are kept under,
// and a token that only CreateProxyClient returns.
type ProxyClient struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// CreateProxyClientRequest describes a client of the egress proxy to create.
type CreateProxyClientRequest struct {
	Name string `json:"name"`

	// Token is what the client is to show the proxy; with "" the daemon makes
	// one.
	Token string `json:"token,omitempty"`
}

// ProxyClientCreated is a new client of the egress proxy, with its token, which
// nothing returns a second time.
type ProxyClientCreated struct {
	Name      string    `json:"name"`
	Token     string    `json:"token"`
	CreatedAt time.Time `json:"created_at"`
}

// ProxySecret describes a credential that the egress proxy puts into requests to
// a host; its value is never returned.
type ProxySecret struct {
	Name      string    `json:"name"`
	Host      string    `json:"host"`           // the host that it is for
	Type      string    `json:"type,omitempty"` // "bearer" or "basic"; "" is bearer
	CreatedAt time.Time `json:"created_at"`
}

// CreateProxySecretRequest describes a credential for the egress proxy.
type CreateProxySecretRequest struct {
	Name string `json:"name"`
	Host string `json:"host"`           // the host that it is for
	Type string `json:"type,omitempty"` // "bearer" or "basic"; "" is bearer

	// Value is the token as it is for the type bearer, user:password for the
	// type basic. Unlike that of CreateSecret it isn't encoded for the wire.
	Value string `json:"value"`
}

// ProxyAllowRule lets a client of the egress proxy make requests to a host. Of a
// client's rules the first that matches counts; what none matches is refused.
type ProxyAllowRule struct {
	Host        string   `json:"host"`                  // api.github.com, *.github.com, or * for any
	Secret      string   `json:"secret,omitempty"`      // the secret to put into the request; "" leaves it as it is
	Methods     []string `json:"methods,omitempty"`     // HTTP methods; none is any
	Paths       []string `json:"paths,omitempty"`       // /exact, /below/* or *; none is any
	Passthrough bool     `json:"passthrough,omitempty"` // hand TLS through unread; excludes Secret, Methods and Paths

	// Expires is when the rule ends; nil is never.
	Expires *time.Time `json:"expires,omitempty"`
}

// AddProxyAllowRequest describes a rule to add after those that a client of the
// egress proxy has; the fields that it shares with ProxyAllowRule are the same.
type AddProxyAllowRequest struct {
	Client      string   `json:"client"` // the client's name
	Host        string   `json:"host"`
	Secret      string   `json:"secret,omitempty"`
	Methods     []string `json:"methods,omitempty"`
	Paths       []string `json:"paths,omitempty"`
	Passthrough bool     `json:"passthrough,omitempty"`

	// TTLSeconds is after how many seconds the rule expires; 0 is never.
	TTLSeconds int64 `json:"ttl_seconds,omitempty"`
}

// ListProxyClients returns the clients of the egress proxy, without their tokens
// (GET /proxy/v1/clients).
func (c *SlicerClient) ListProxyClients(ctx context.Context) ([]ProxyClient, error) {
	var clients []ProxyClient
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"proxy", "v1", "clients"}, prompt: true,
	}, &clients)
	if err != nil {
		return nil, fmt.Errorf("list proxy clients: %w", err)
	}
	return clients, nil
}

// CreateProxyClient creates a client of the egress proxy and returns its token,
// which can't be had again (POST /proxy/v1/clients). A name or token that is
// taken is refused with 409.
func (c *SlicerClient) CreateProxyClient(ctx context.Context, request CreateProxyClientRequest) (*ProxyClientCreated, error) {
	var created ProxyClientCreated
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"proxy", "v1", "clients"}, json: request, prompt: true,
		hidden: []string{request.Token},
	}, &created)
	if err != nil {
		return nil, fmt.Errorf("create proxy client %q: %w", request.Name, err)
	}
	return &created, nil
}

// DeleteProxyClient ends a client of the egress proxy: its token and all of its
// rules (DELETE /proxy/v1/clients/{name}).
func (c *SlicerClient) DeleteProxyClient(ctx context.Context, name string) error {
	err := c.call(ctx, apiRequest{
		method: http.MethodDelete, path: []string{"proxy", "v1", "clients", name}, prompt: true,
	}, nil)
	if err != nil {
		return fmt.Errorf("delete proxy client %q: %w", name, err)
	}
	return nil
}

// ListProxyAllowRules returns the rules of a client of the egress proxy, in the
// order in which they are tried (GET /proxy/v1/clients/{name}).
func (c *SlicerClient) ListProxyAllowRules(ctx context.Context, client string) ([]ProxyAllowRule, error) {
	var rules []ProxyAllowRule
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"proxy", "v1", "clients", client}, prompt: true,
	}, &rules)
	if err != nil {
		return nil, fmt.Errorf("list rules of proxy client %q: %w", client, err)
	}
	return rules, nil
}

// AddProxyAllowRule adds a rule after those that the client has (POST
// /proxy/v1/allows); the narrowest is to come first. The same host, methods and
// paths a second time are refused with 409.
func (c *SlicerClient) AddProxyAllowRule(ctx context.Context, request AddProxyAllowRequest) (*ProxyAllowRule, error) {
	var rule ProxyAllowRule
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"proxy", "v1", "allows"}, json: request, prompt: true,
	}, &rule)
	if err != nil {
		return nil, fmt.Errorf("add rule to proxy client %q: %w", request.Client, err)
	}
	return &rule, nil
}

// RemoveProxyAllowRule removes a client's rules for a host, which is written as
// in the rule, wildcards included (DELETE /proxy/v1/allows/{client}/{host}).
func (c *SlicerClient) RemoveProxyAllowRule(ctx context.Context, client, host string) error {
	err := c.call(ctx, apiRequest{
		method: http.MethodDelete, path: []string{"proxy", "v1", "allows", client, host}, prompt: true,
	}, nil)
	if err != nil {
		return fmt.Errorf("remove rule of proxy client %q: %w", client, err)
	}
	return nil
}

// ListProxySecrets describes the egress proxy's credentials (GET
// /proxy/v1/secrets).
func (c *SlicerClient) ListProxySecrets(ctx context.Context) ([]ProxySecret, error) {
	var secrets []ProxySecret
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"proxy", "v1", "secrets"}, prompt: true,
	}, &secrets)
	if err != nil {
		return nil, fmt.Errorf("list proxy secrets: %w", err)
	}
	return secrets, nil
}

// CreateProxySecret gives the egress proxy a credential that rules can name
// (POST /proxy/v1/secrets). It returns ErrSecretExists if there is one of that
// name.
func (c *SlicerClient) CreateProxySecret(ctx context.Context, request CreateProxySecretRequest) (*ProxySecret, error) {
	var secret ProxySecret
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"proxy", "v1", "secrets"}, json: request, prompt: true,
		hidden: []string{request.Value, base64.StdEncoding.EncodeToString([]byte(request.Value))},
	}, &secret)
	if IsAPIStatus(err, http.StatusConflict) {
		return nil, fmt.Errorf("create proxy secret %q: %w: %w", request.Name, ErrSecretExists, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create proxy secret %q: %w", request.Name, err)
	}
	return &secret, nil
}

// DeleteProxySecret removes a credential from the egress proxy (DELETE
// /proxy/v1/secrets/{name}). Rules that name it match nothing from then on.
func (c *SlicerClient) DeleteProxySecret(ctx context.Context, name string) error {
	err := c.call(ctx, apiRequest{
		method: http.MethodDelete, path: []string{"proxy", "v1", "secrets", name}, prompt: true,
	}, nil)
	if err != nil {
		return fmt.Errorf("delete proxy secret %q: %w", name, err)
	}
	return nil
}
