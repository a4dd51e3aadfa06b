package app

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Where a Slicer daemon's files usually are. The token belongs to the first
// socket; the second, of Slicer for Mac, is under the home folder and needs
// none.
const (
	systemSocket = "/var/run/slicer/api.sock"
	systemToken  = "/var/lib/slicer/auth/token"
	homeSocket   = "slicer-mac/slicer.sock"
)

// maxTokenFile is more than any token is long, in bytes.
const maxTokenFile = 64 << 10

// errNoDaemon names the ways to have a daemon.
var errNoDaemon = errors.New("no Slicer daemon found: start Slicer on this machine (its socket is found by itself), " +
	"or set --url or SLICER_URL to a daemon's address (and SLICER_TOKEN or SLICER_TOKEN_FILE), " +
	"or use --embedded to try it in Linux namespaces")

// endpoint is a daemon that somebody else runs.
type endpoint struct {
	url   string
	token string
	how   string // how it was found
}

// String is the endpoint's address without what may be secret in it.
func (e endpoint) String() string {
	u, err := url.Parse(e.url)
	if err != nil {
		return e.url // a path of a socket; checkURL has refused all else
	}
	u.RawQuery = ""
	return u.Redacted()
}

// findEndpoint finds the daemon: the one that flagURL or SLICER_URL names,
// else one with a socket at a well-known place. The token is that of
// SLICER_TOKEN or SLICER_TOKEN_FILE, else the daemon's own file's.
func findEndpoint(p Process, flagURL string) (endpoint, error) {
	token, err := tokenFromEnv(p)
	if err != nil {
		return endpoint{}, err
	}
	if flagURL != "" {
		return endpoint{flagURL, token, "--url"}, checkURL("--url", flagURL)
	}
	if env := p.Getenv("SLICER_URL"); env != "" {
		return endpoint{env, token, "SLICER_URL"}, checkURL("SLICER_URL", env)
	}
	if socket := filepath.Join("/", p.Root, systemSocket); isSocket(socket) {
		if token == "" {
			// Without the right to read it, the daemon says what it wants.
			token, _ = readToken(filepath.Join("/", p.Root, systemToken))
		}
		return endpoint{socket, token, "well-known socket"}, nil
	}
	if home := homeDir(p); home != "" {
		if socket := filepath.Join(home, homeSocket); isSocket(socket) {
			return endpoint{socket, token, "well-known socket"}, nil
		}
	}
	return endpoint{}, errNoDaemon
}

// checkURL refuses what no daemon can be reached by. source is where raw
// comes from. The text of raw stays out of the error: it may hold a password.
func checkURL(source, raw string) error {
	if strings.HasSuffix(raw, ".sock") || strings.HasPrefix(raw, "unix://") {
		return nil
	}
	for _, prefix := range []string{"/", "./", "../", "~/"} {
		if strings.HasPrefix(raw, prefix) {
			return nil
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is neither an address (http://host:port, https://host) nor a Unix socket (/path/to/api.sock)", source)
	}
	return nil
}

// tokenFromEnv returns the token that the environment sets, "" if none.
func tokenFromEnv(p Process) (string, error) {
	if token := strings.TrimSpace(p.Getenv("SLICER_TOKEN")); token != "" {
		return token, nil
	}
	name := p.Getenv("SLICER_TOKEN_FILE")
	if name == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(homeDir(p), rest)
	}
	token, err := readToken(name)
	if err != nil {
		return "", fmt.Errorf("read the token that SLICER_TOKEN_FILE names: %w", err)
	}
	return token, nil
}

// readToken reads a token's file. An empty one is an error.
func readToken(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return token, nil
}

func isSocket(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// homeDir is the user's home folder, "" if unknown.
func homeDir(p Process) string {
	if home := p.Getenv("HOME"); home != "" {
		return home
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "" // then nothing is looked for there
	}
	return home
}
