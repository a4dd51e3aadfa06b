package app_test

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestHTTPMistakesOnTheCommandLine(t *testing.T) {
	w := newWorld(t)
	certFile, keyFile := certificate(t, w.home)
	write(t, filepath.Join(w.home, "short"), "0123456789abcde\n")
	write(t, filepath.Join(w.home, "odd"), "0123456789abcdef 0123\n")
	write(t, filepath.Join(w.home, "empty"), "\n")
	write(t, filepath.Join(w.home, "good"), callersToken)
	const usage, other = 2, 1
	tests := []struct {
		name  string
		token string
		args  []string
		code  int
		want  string
	}{
		{"an unknown transport", "", []string{"--transport", "sse"}, usage, `--transport is stdio or http, not "sse"`},
		{"an address on standard input", "", []string{"--transport", "stdio", "--listen", "127.0.0.1:1"}, usage, "--listen is of --transport http"},
		{"a token's file on standard input", "", []string{"--transport", "stdio", "--auth-token-file", "good"}, usage, "--auth-token-file is of --transport http"},
		{"a certificate on standard input", "", []string{"--transport", "stdio", "--tls-cert", certFile}, usage, "--tls-cert is of --transport http"},
		{"a key on standard input", "", []string{"--transport", "stdio", "--tls-key", keyFile}, usage, "--tls-key is of --transport http"},
		{"an origin on standard input", "", []string{"--transport", "stdio", "--allow-origin", "http://a"}, usage, "--allow-origin is of --transport http"},
		{"a host on standard input", "", []string{"--transport", "stdio", "--allow-host", "a"}, usage, "--allow-host is of --transport http"},
		{"idle sessions on standard input", "", []string{"--transport", "stdio", "--session-idle", "1m"}, usage, "--session-idle is of --transport http"},
		{"statelessness on standard input", "", []string{"--transport", "stdio", "--stateless"}, usage, "--stateless is of --transport http"},

		{"no address", "", []string{"--listen", ""}, usage, "--listen wants host:port"},
		{"an address without a port", "", []string{"--listen", "127.0.0.1"}, usage, "--listen is host:port"},
		{"every address without a token", "", []string{"--listen", ":8090"}, usage, "add --auth-token-file or set SLICERVM_MCP_TOKEN"},
		{"every address of IPv4 without a token", "", []string{"--listen", "0.0.0.0:0"}, usage, "add --auth-token-file or set SLICERVM_MCP_TOKEN"},
		{"every address of IPv6 without a token", "", []string{"--listen", "[::]:0"}, usage, "add --auth-token-file or set SLICERVM_MCP_TOKEN"},
		{"a name that need not be this machine's without a token", "", []string{"--listen", "example.com:8090"}, usage, "add --auth-token-file or set SLICERVM_MCP_TOKEN"},

		{"a token of white space", " \t", nil, usage, "the token of SLICERVM_MCP_TOKEN is empty"},
		{"a token that is too short", "0123456789abcde", nil, usage, "the token of SLICERVM_MCP_TOKEN is too short to be safe: 16 characters are the least"},
		{"a token that is too long", strings.Repeat("a", 1025), nil, usage, "is too long: 1024 characters are the most"},
		{"a token with a space", "0123456789abcdef 0123", nil, usage, "has a character that can't be in an Authorization header"},
		{"a token with a control character", "0123456789abcdef\x01", nil, usage, "has a character that can't be in an Authorization header"},
		{"a token beyond ASCII", "0123456789abcdefé", nil, usage, "has a character that can't be in an Authorization header"},
		{"a token of = alone", "================", nil, usage, "has a character that can't be in an Authorization header"},
		{"a file with a short token", "", []string{"--auth-token-file", "../short"}, usage, "the token of --auth-token-file is too short"},
		{"a file with an odd token", "", []string{"--auth-token-file", "../odd"}, usage, "the token of --auth-token-file has a character"},
		{"a file that is empty", "", []string{"--auth-token-file", "../empty"}, other, "--auth-token-file: "},
		{"a file in no folder", "", []string{"--auth-token-file", "none/token"}, other, "--auth-token-file: "},
		{"no file", "", []string{"--auth-token-file", ""}, usage, "--auth-token-file wants a file"},
		{"a token's file that tools could copy", "", []string{"--auth-token-file", "../good", "--root", ".."}, usage, "--auth-token-file lies in a folder that tools may copy from"},
		{"a key that tools could copy", "", []string{"--tls-cert", certFile, "--tls-key", keyFile, "--root", w.home}, usage, "--tls-key lies in a folder that tools may copy from"},
		{"a secret of the server's own token", callersToken, []string{"--secret-env", "SLICERVM_MCP_TOKEN"}, usage, "would give this server's own token to VMs"},

		{"a certificate without its key", "", []string{"--tls-cert", certFile}, usage, "--tls-cert and --tls-key go together"},
		{"a key without its certificate", "", []string{"--tls-key", keyFile}, usage, "--tls-cert and --tls-key go together"},
		{"a certificate that isn't there", "", []string{"--tls-cert", "none", "--tls-key", keyFile}, other, "--tls-cert and --tls-key: "},
		{"a key that is none", "", []string{"--tls-cert", certFile, "--tls-key", certFile}, other, "--tls-cert and --tls-key: "},

		{"any origin", "", []string{"--allow-origin", "*"}, usage, "--allow-origin is scheme://host[:port]"},
		{"any origin of a scheme", "", []string{"--allow-origin", "https://*"}, usage, "--allow-origin is scheme://host[:port]"},
		{"the origin of no page", "", []string{"--allow-origin", "null"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin without a scheme", "", []string{"--allow-origin", "chat.example.com"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin without a host", "", []string{"--allow-origin", "https://"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with a path", "", []string{"--allow-origin", "https://chat.example.com/"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with a user", "", []string{"--allow-origin", "https://me@chat.example.com"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with a query", "", []string{"--allow-origin", "https://chat.example.com?a"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with a fragment", "", []string{"--allow-origin", "https://chat.example.com#"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with an empty port", "", []string{"--allow-origin", "https://chat.example.com:"}, usage, "--allow-origin is scheme://host[:port]"},
		{"an origin with a port that is none", "", []string{"--allow-origin", "https://chat.example.com:70000"}, usage, "--allow-origin is scheme://host[:port]"},
		{"two origins in one", "", []string{"--allow-origin", "https://a.example,https://b.example"}, usage, "--allow-origin is scheme://host[:port]"},
		{"a good origin and a bad one", "", []string{"--allow-origin", "https://a.example", "--allow-origin", "b"}, usage, `not "b"`},

		{"any host", "", []string{"--allow-host", "*"}, usage, "--allow-host is a name without scheme and port"},
		{"no host", "", []string{"--allow-host", ""}, usage, "--allow-host is a name without scheme and port"},
		{"a host with a port", "", []string{"--allow-host", "a.example:80"}, usage, "--allow-host is a name without scheme and port"},
		{"a URL for a host", "", []string{"--allow-host", "http://a.example"}, usage, "--allow-host is a name without scheme and port"},
		{"a name in brackets", "", []string{"--allow-host", "[a.example]"}, usage, "--allow-host is a name without scheme and port"},

		{"no idle time", "", []string{"--session-idle", "0"}, usage, "--session-idle is more than 0"},
		{"an idle time below zero", "", []string{"--session-idle", "-1m"}, usage, "--session-idle is more than 0"},
		{"an idle time that is none", "", []string{"--session-idle", "long"}, usage, "--session-idle"},
		{"an idle time of no sessions", "", []string{"--stateless", "--owner", "me", "--session-idle", "1m"}, usage, "--session-idle means nothing with --stateless"},
		{"replicas that don't share an owner", "", []string{"--stateless"}, usage, "--stateless needs --owner"},

		{"what is right, up to the daemon", callersToken, []string{
			"--auth-token-file", "../good", "--tls-cert", certFile, "--tls-key", keyFile, "--listen", ":0", "--stateless", "--owner", "me",
			"--allow-origin", "HTTPS://Chat.example.com:443", "--allow-origin", "vscode-webview://abc", "--allow-origin", "http://[::1]:5173",
			"--allow-host", "MCP.example.com", "--allow-host", "[::1]", "--allow-host", "10.0.0.1",
		}, other, "--url is neither an address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{root: w.root, home: w.home, dir: w.dir, env: map[string]string{"HOME": w.home, "SLICERVM_MCP_TOKEN": tt.token}}
			// The URL is wrong, so that what isn't refused ends too.
			got := w.run(hello, append([]string{"--transport", "http", "--url", "ftp://x", "--log-level", "error"}, tt.args...)...)
			if got.code != tt.code || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%q = %+v, want exit %d, nothing on standard output, and one line with %q", tt.args, got, tt.code, tt.want)
			}
			for _, token := range []string{tt.token, "0123456789abcde", callersToken} {
				if len(token) > 2 && strings.Contains(got.stderr, token) {
					t.Errorf("the error %q tells the token", got.stderr)
				}
			}
		})
	}
}

func TestHTTPTokenIsForItsUserAlone(t *testing.T) {
	w := newWorld(t)
	p, _ := w.serveHTTP(t, "--url", nowhere, "--auth-token-file", "token")
	p.end(t)
	first := readFile(t, filepath.Join(w.dir, "token"))
	if len(strings.TrimSpace(first)) < 16 {
		t.Errorf("the token that it makes is %q, want 16 characters at least", first)
	}
	p, _ = w.serveHTTP(t, "--url", nowhere, "--auth-token-file", "token")
	p.end(t)
	if again := readFile(t, filepath.Join(w.dir, "token")); again != first {
		t.Errorf("a second start makes the token %q, want the one that is there", again)
	}
}
