package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// keysLimit bounds the fetch of a user's keys, in time; maxKeys in bytes.
	keysLimit = 10 * time.Second
	maxKeys   = 64 << 10
)

// keySource fetches users' public SSH keys from GitHub.
type keySource struct {
	base string
	http *http.Client
}

func newKeySource() *keySource {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: keysLimit,
		ForceAttemptHTTP2:   true,
		DisableKeepAlives:   true, // the next fetch is days away
	}
	return &keySource{base: "https://github.com", http: &http.Client{
		Transport:     transport,
		CheckRedirect: stayOnHost,
		Timeout:       keysLimit,
	}}
}

// stayOnHost lets a redirect change no more than the path.
func stayOnHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return errors.New("redirected to another host")
	}
	if len(via) >= 3 {
		return errors.New("redirected too often")
	}
	return nil
}

// keys returns a GitHub user's public SSH keys, a line each without its end.
// Somebody without keys is an error.
func (s *keySource) keys(ctx context.Context, user string) (_ []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch the SSH keys of GitHub's user %q: %w", user, err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+url.PathEscape(user)+".keys", http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "slicervm-mcp/"+version())
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, errors.New("there is no such user")
	default:
		return nil, fmt.Errorf("the answer is status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err != nil {
		return nil, withoutURL(err)
	}
	if len(body) > maxKeys {
		return nil, fmt.Errorf("the answer has more than %d KiB", maxKeys>>10)
	}
	return parseKeys(body)
}

func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// parseKeys reads one public key a line.
func parseKeys(body []byte) ([]string, error) {
	var keys []string
	for line := range bytes.Lines(body) {
		key := strings.TrimSpace(string(line))
		if key == "" {
			continue
		}
		if !isPublicKey(key) {
			return nil, fmt.Errorf("line %d of the answer is no SSH key", len(keys)+1)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the user has no SSH key there")
	}
	return keys, nil
}

// isPublicKey reports whether key is a type, the key in base64 and perhaps a
// comment, in printable ASCII. Options, which authorized_keys could take before
// the type, are none.
func isPublicKey(key string) bool {
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	kind, rest, _ := strings.Cut(key, " ")
	blob, _, _ := strings.Cut(rest, " ")
	data, err := base64.StdEncoding.DecodeString(blob)
	if err != nil || len(data) < 4 {
		return false
	}
	// The key says its type again, behind four bytes of length.
	length := int(data[0])<<24 | int(data[1])<<16 | int(data[2])<<8 | int(data[3])
	return length == len(kind) && bytes.HasPrefix(data[4:], []byte(kind))
}
