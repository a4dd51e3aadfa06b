package app_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// callersToken is a token that callers over HTTP must bring.
const callersToken = "callers-0123456789abcdef"

// serveHTTP starts the program over HTTP and returns the URL that it prints.
func (w *world) serveHTTP(t *testing.T, args ...string) (p *program, url string) {
	t.Helper()
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	p = w.start(t, append([]string{"serve", "--transport", "http"}, args...)...)
	return p, p.address(t)
}

// through is an HTTP client that reaches the program at url, as it prints it,
// and that trusts the certificates of a file, unless that is "".
func through(t *testing.T, url, certFile string) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	if certFile != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(readFile(t, certFile)))
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if socket, ok := strings.CutPrefix(url, "unix://"); ok {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// httpURL is the URL of requests to the program at url.
func httpURL(url string) string {
	if strings.HasPrefix(url, "unix://") {
		return "http://localhost/mcp"
	}
	return url
}

// connectHTTP is an MCP client of the program at url, as it prints it, that
// brings token.
func connectHTTP(t *testing.T, url, token, certFile string) *client.Client {
	t.Helper()
	return connect(t, httpURL(url), token, "2025-06-18", through(t, url, certFile))
}

// connect is an MCP client, of a revision of the protocol, of the server at url.
func connect(t *testing.T, url, token, version string, over *http.Client) *client.Client {
	t.Helper()
	opts := []transport.StreamableHTTPCOption{
		transport.WithHTTPBasicClient(over),
		transport.WithHTTPLogger(slog.New(slog.DiscardHandler)),
	}
	if token != "" {
		opts = append(opts, transport.WithHTTPHeaders(map[string]string{"Authorization": "Bearer " + token}))
	}
	c, err := client.NewStreamableHttpClient(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var init mcp.InitializeRequest
	init.Params.ProtocolVersion = version
	init.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	if _, err := c.Initialize(t.Context(), init); err != nil {
		t.Fatalf("initialize at %s: %v", url, err)
	}
	return c
}

// ask calls a tool and returns its text, and whether it is an error.
func ask(t *testing.T, c *client.Client, name string, args map[string]any) (text string, failed bool) {
	t.Helper()
	var req mcp.CallToolRequest
	req.Params.Name, req.Params.Arguments = name, args
	res, err := c.CallTool(t.Context(), req)
	if err != nil {
		t.Fatalf("%s(%v): %v", name, args, err)
	}
	for _, content := range res.Content {
		if part, ok := content.(mcp.TextContent); ok {
			text += part.Text
		}
	}
	return text, res.IsError
}

// must is ask for a call that works.
func must(t *testing.T, c *client.Client, name string, args map[string]any) string {
	t.Helper()
	text, failed := ask(t, c, name, args)
	if failed {
		t.Fatalf("%s(%v) = error %q, want a result", name, args, text)
	}
	return text
}

// get is the answer to a GET of path, beside the URL that is served.
func get(t *testing.T, url, path, token, certFile string) (int, string) {
	t.Helper()
	edit := func(*http.Request) {}
	if token != "" {
		edit = bearer(token)
	}
	return fetch(t, through(t, url, certFile), strings.TrimSuffix(httpURL(url), "/mcp")+path, edit)
}

// certificate makes a certificate for 127.0.0.1, in two files.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return cert, key
}

func TestHTTPServes(t *testing.T) {
	tests := []struct {
		name  string
		args  func(w *world) []string
		url   func(w *world) string // a regular expression
		token func(w *world) string
		tls   bool
	}{
		{name: "on a port that it picks"},
		{
			name: "on a Unix socket that only its user can open",
			args: func(w *world) []string { return []string{"--listen", filepath.Join(w.home, "mcp.sock")} },
			url:  func(w *world) string { return regexp.QuoteMeta("unix://" + filepath.Join(w.home, "mcp.sock")) },
		},
		{
			name: "over TLS",
			args: func(*world) []string { return []string{"--tls-cert", "../cert.pem", "--tls-key", "../key.pem"} },
			url:  func(*world) string { return `https://127\.0\.0\.1:\d+/mcp` },
			tls:  true,
		},
		{
			name: "with the environment's token",
			args: func(w *world) []string {
				w.env["SLICERVM_MCP_TOKEN"] = callersToken + "\n"
				return nil
			},
			token: func(*world) string { return callersToken },
		},
		{
			name:  "with a token that it makes",
			args:  func(*world) []string { return []string{"--auth-token-file", "token"} },
			token: func(w *world) string { return strings.TrimSpace(readFile(t, filepath.Join(w.dir, "token"))) },
		},
		{
			name: "without sessions",
			args: func(*world) []string { return []string{"--stateless", "--owner", "me"} },
		},
		{
			name: "to every machine that has the token",
			args: func(w *world) []string {
				w.env["SLICERVM_MCP_TOKEN"] = callersToken
				return []string{"--listen", "0.0.0.0:0", "--allow-origin", "https://chat.example.com", "--allow-host", "mcp.example.com"}
			},
			url:   func(*world) string { return `http://(0\.0\.0\.0|\[::\]):\d+/mcp` },
			token: func(*world) string { return callersToken },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			certFile, _ := certificate(t, w.home)
			args := []string{"--url", slicertest.NewServer(t).URL}
			if tt.args != nil {
				args = append(args, tt.args(w)...)
			}
			p, url := w.serveHTTP(t, args...)
			want := `http://127\.0\.0\.1:\d+/mcp`
			if tt.url != nil {
				want = tt.url(w)
			}
			if !regexp.MustCompile("^" + want + "$").MatchString(url) {
				t.Fatalf("the program prints %q, want %s", url, want)
			}
			url = regexp.MustCompile(`0\.0\.0\.0|\[::\]`).ReplaceAllString(url, "127.0.0.1")
			token := ""
			if tt.token != nil {
				token = tt.token(w)
			}
			if !tt.tls {
				certFile = ""
			}

			c := connectHTTP(t, url, token, certFile)
			must(t, c, "create_vm", map[string]any{"name": "web"})
			if text := must(t, c, "list_vms", nil); !strings.Contains(text, "web") {
				t.Errorf("list_vms = %q, want the VM that was created", text)
			}
			for path, token := range map[string]string{"/healthz": "", "/readyz": token, "/metrics": token} {
				if status, body := get(t, url, path, token, certFile); status != http.StatusOK {
					t.Errorf("GET %s = %d %q, want 200", path, status, body)
				}
			}
			if token != "" {
				for _, path := range []string{"/mcp", "/readyz", "/metrics", "/sse", "/message", "/metrics?access_token=" + token, "/"} {
					if status, body := get(t, url, path, "", certFile); status != http.StatusUnauthorized || strings.Contains(body, token) {
						t.Errorf("GET %s without the token = %d %q, want 401", path, status, body)
					}
				}
			}
			if socket, ok := strings.CutPrefix(url, "unix://"); ok {
				info, err := os.Stat(socket)
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the socket has %v, %v, want the mode 0600", info, err)
				}
			}
			p.end(t)
			if strings.Contains(p.stderr.String(), callersToken) {
				t.Errorf("the log tells the token:\n%s", p.stderr.String())
			}
		})
	}
}

func TestHTTPAsksForTheTokenAlsoWithoutAPath(t *testing.T) {
	w := newWorld(t)
	w.env["SLICERVM_MCP_TOKEN"] = callersToken
	p, url := w.serveHTTP(t, "--url", nowhere)
	at := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("OPTIONS * without the token = %d, want 401", resp.StatusCode)
	}
	conn.Close()
	p.end(t)
}

func TestHTTPOverTLSWantsTLS12(t *testing.T) {
	w := newWorld(t)
	certFile, keyFile := certificate(t, w.home)
	p, url := w.serveHTTP(t, "--url", nowhere, "--tls-cert", certFile, "--tls-key", keyFile)
	old := through(t, url, certFile)
	config := old.Transport.(*http.Transport).TLSClientConfig //nolint:errcheck,forcetypeassert // through made it
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(url, "/mcp")+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := old.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a client of TLS 1.1 is answered with %d, want no connection", resp.StatusCode)
	}
	p.end(t)
}
