package slicer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// parseBaseURL returns the URL that requests are made from and, if raw names a
// Unix socket, the path to dial. Its errors repeat nothing of raw, which may
// hold a password.
func parseBaseURL(raw string) (base *url.URL, socket string, err error) {
	if raw == "" {
		return nil, "", errors.New("no URL of a Slicer daemon")
	}
	if socket, ok := socketPath(raw); ok {
		socket, err := expandHome(socket)
		if err != nil {
			return nil, "", fmt.Errorf("find the Slicer daemon's socket: %w", err)
		}
		if socket == "" {
			return nil, "", errors.New("the Slicer daemon's URL names no socket")
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, socket, nil
	}
	base, err = url.Parse(raw)
	if err != nil {
		return nil, "", errors.New("the Slicer daemon's URL is malformed")
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, "", errors.New("the Slicer daemon's URL must begin with http:// or https://, or be the path of a Unix socket")
	}
	if base.RawQuery != "" || base.Fragment != "" {
		return nil, "", errors.New("the Slicer daemon's URL must have no query and no fragment")
	}
	base.RawPath = strings.TrimRight(base.EscapedPath(), "/")
	if base.Path, err = url.PathUnescape(base.RawPath); err != nil {
		return nil, "", errors.New("the Slicer daemon's URL has a malformed path")
	}
	return base, "", nil
}

// socketPath reports whether raw names a Unix socket, and which.
func socketPath(raw string) (string, bool) {
	if path, ok := strings.CutPrefix(raw, "unix://"); ok {
		return path, true
	}
	for _, prefix := range []string{"/", "./", "../", "~/"} {
		if strings.HasPrefix(raw, prefix) {
			return raw, true
		}
	}
	return raw, strings.HasSuffix(raw, ".sock") && !strings.Contains(raw, "://")
}

// expandHome replaces a leading ~/ by the user's home folder.
func expandHome(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, "~/")
	if !ok {
		return name, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, rest), nil
}

// newHTTPClient returns the client to use for a base URL: a private one if
// given is nil, else a copy of given that differs as little as can be.
func newHTTPClient(given *http.Client, socket string) (*http.Client, error) {
	client := &http.Client{}
	if given != nil {
		*client = *given
	}
	if client.CheckRedirect == nil {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	if given != nil && socket == "" {
		return client, nil
	}

	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // frames and copies are to arrive as they are written
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport.DialContext = dialer.DialContext
	if given != nil && given.Transport != nil {
		theirs, ok := given.Transport.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("a Unix socket needs an HTTP client whose transport is an *http.Transport, not a %T", given.Transport)
		}
		transport = theirs.Clone()
		transport.DialTLSContext = nil
	}
	if socket != "" {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	client.Transport = transport
	return client, nil
}
