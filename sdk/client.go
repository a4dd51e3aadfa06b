package slicer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// NonRootUser as a uid or gid leaves the choice to the VM's agent, which picks
// its ordinary user (ubuntu, 1000). It is never sent.
const NonRootUser = uint32(math.MaxUint32)

const (
	defaultUserAgent = "slicer-sdk-go/1.0"

	// maxTokenFile bounds what is read of SLICER_TOKEN_FILE.
	maxTokenFile = 64 << 10
)

// SlicerClient calls the REST API of one Slicer daemon. It is safe for
// concurrent use; make one with NewSlicerClient or NewClientFromEnv.
type SlicerClient struct {
	base      *url.URL // scheme, host and path prefix without a trailing slash
	baseErr   error    // why base is nil; every call returns it
	token     string
	userAgent string
	http      *http.Client
}

// NewSlicerClient returns a client for the daemon at baseURL, which is an
// http:// or https:// URL, perhaps with a path prefix, or names a Unix socket:
// /abs, ./rel, ../rel, ~/in-home, unix://path, or any name that ends in .sock.
//
// The token is sent with every request as a bearer token, or nothing is if it
// is empty. An empty userAgent is "slicer-sdk-go/1.0". A nil httpClient is a
// private one that bounds dialling to 10 seconds and nothing else; one that is
// given is used with its transport, cookies, redirect policy and timeout (which
// cuts long streams too), but is never changed: a Unix socket needs a dialler
// of its own and gets it in a copy. Redirects are refused unless httpClient has
// a CheckRedirect.
//
// The calls that only read what the daemon knows of itself, its host groups, VMs,
// commits, secrets and egress proxy give up after a minute, and so do those for a
// VM's health, stats and logs. No other call is bounded by anything but its
// context; a watch of files ends when nothing has come for a minute.
//
// Nothing is sent or opened until the first call. A baseURL that can't be used
// is reported by every call.
func NewSlicerClient(baseURL, token string, userAgent string, httpClient *http.Client) *SlicerClient {
	if userAgent == "" {
		userAgent = defaultUserAgent
	}
	c := &SlicerClient{token: strings.TrimSpace(token), userAgent: userAgent}
	base, socket, err := parseBaseURL(baseURL)
	if err != nil {
		c.baseErr = err
		return c
	}
	client, err := newHTTPClient(httpClient, socket)
	if err != nil {
		c.baseErr = err
		return c
	}
	c.base, c.http = base, client
	return c
}

// NewClientFromEnv is NewSlicerClient with what isn't given taken from the
// environment: an empty baseURL from SLICER_URL, an empty userAgent from
// SLICER_USER_AGENT, and the token from SLICER_TOKEN, or else from the file
// that SLICER_TOKEN_FILE names (a leading ~/ is the home folder; white space
// around the token is dropped). It is an error if there is no URL, if the token
// file can't be read or is empty, or if there is no token and the URL isn't
// that of a Unix socket.
func NewClientFromEnv(baseURL, userAgent string, httpClient *http.Client) (*SlicerClient, error) {
	if baseURL == "" {
		baseURL = os.Getenv("SLICER_URL")
	}
	if baseURL == "" {
		return nil, errors.New("no URL of a Slicer daemon: set SLICER_URL")
	}
	if userAgent == "" {
		userAgent = os.Getenv("SLICER_USER_AGENT")
	}
	_, socket, err := parseBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	token, err := tokenFromEnv()
	if err != nil {
		return nil, err
	}
	if token == "" && socket == "" {
		return nil, errors.New("no token for the Slicer daemon: set SLICER_TOKEN or SLICER_TOKEN_FILE")
	}
	return NewSlicerClient(baseURL, token, userAgent, httpClient), nil
}

// NewSlicerClientFromEnv is NewClientFromEnv with everything taken from the
// environment.
func NewSlicerClientFromEnv() (*SlicerClient, error) {
	return NewClientFromEnv("", "", nil)
}

// CloseIdleConnections closes the connections that no call is using. A client
// needs no other closing.
func (c *SlicerClient) CloseIdleConnections() {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// tokenFromEnv returns the token that the environment sets, "" if none.
func tokenFromEnv() (string, error) {
	if token := strings.TrimSpace(os.Getenv("SLICER_TOKEN")); token != "" {
		return token, nil
	}
	name := os.Getenv("SLICER_TOKEN_FILE")
	if name == "" {
		return "", nil
	}
	name, err := expandHome(name)
	if err != nil {
		return "", fmt.Errorf("read SLICER_TOKEN_FILE: %w", err)
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read SLICER_TOKEN_FILE: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("read SLICER_TOKEN_FILE: %w", err)
	}
	if len(data) > maxTokenFile {
		return "", fmt.Errorf("read SLICER_TOKEN_FILE: %s is too large for a token", name)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read SLICER_TOKEN_FILE: %s is empty", name)
	}
	return token, nil
}
