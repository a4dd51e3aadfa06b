// Package daemontest tests a Slicer daemon over plain HTTP, as clients that
// nobody here wrote meet it: statuses, headers, and JSON keys and types as they
// are on the wire. It shares no type with the daemon, and knows nothing of what
// is behind it. It is for tests only.
package daemontest

import (
	"net/http"
	"sync"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

// Config says which daemon a test needs. The zero value is one with the group
// sbox, of 2 CPUs and 1 GiB, that lets every caller in.
type Config struct {
	// Token is the bearer token; "" is none.
	Token string
	// Protected is how many VMs the group's count makes.
	Protected int
	// LegacyFrames makes the agents answer as older ones do.
	LegacyFrames bool
}

// What Config's group is called and how large it is.
const (
	Group         = "sbox"
	GroupCPUs     = 2
	GroupRAMBytes = 1 << 30
)

// Server is a running daemon. Whoever started it ends it with the test.
type Server struct {
	URL    string // base URL, without a slash at its end
	Client *http.Client

	// Restart ends the daemon in order and starts another on the same disks,
	// under the same URL.
	Restart func()

	// Lacks has what the guests of this daemon can't do, and why. Cases that
	// need it are skipped with the reason.
	Lacks map[Ability]string
}

// Ability is something that not every kind of guest can do.
type Ability string

// The abilities that a Server may lack.
const (
	// Freezes is that processes stand still while their VM is paused.
	Freezes Ability = "freezes"
	// Signals is that processes have signals: they send and ignore them, and
	// belong to sessions.
	Signals Ability = "signals"
	// Owns is that files belong to different users, who are kept apart.
	Owns Ability = "owns"
	// Measures is that the figures of a VM are those of its processes.
	Measures Ability = "measures"
)

// Run tests a daemon that start starts, once for each Config that the tests
// need. It fails when a route of the daemon has no case in which it succeeds.
func Run(t *testing.T, start func(t testing.TB, cfg Config) Server) {
	t.Helper()
	s := &suite{start: start, routes: http.NewServeMux(), succeeded: make(map[string]bool)}
	for _, pattern := range daemon.Patterns() {
		s.routes.Handle(pattern, http.NotFoundHandler())
	}
	parts := []struct {
		name string
		cfg  Config
		test func(a *api)
	}{
		{"daemon", Config{}, testDaemon},
		{"every route", Config{}, testEveryRoute},
		{"token", Config{Token: token, Protected: 1}, testToken},
		{"bodies", Config{}, testBodies},
		{"vms", Config{}, testVMs},
		{"tags", Config{}, testTags},
		{"states", Config{}, testStates},
		{"what create takes", Config{}, testCreateFields},
		{"persistent VMs", Config{}, testPersistent},
		{"commits", Config{}, testCommits},
		{"exec", Config{}, testExec},
		{"exec streams", Config{}, testExecStreams},
		{"background exec", Config{}, testBackground},
		{"older agents", Config{LegacyFrames: true}, testLegacy},
		{"cp", Config{}, testCopies},
		{"hostile archives", Config{}, testHostileArchives},
		{"fs", Config{}, testFS},
		{"watch", Config{}, testWatch},
		{"secrets", Config{}, testSecrets},
		{"forward", Config{}, testForward},
		{"shell", Config{}, testShell},
		{"proxy", Config{}, testProxy},
	}
	ran := 0
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			ran++
			part.test(&api{t: t, suite: s, srv: s.server(t, part.cfg), token: part.cfg.Token})
		})
	}
	t.Run("no route is forgotten", func(t *testing.T) {
		if ran < len(parts) {
			t.Skip("only some of the tests were asked for")
		}
		for _, pattern := range daemon.Patterns() {
			if !s.succeeded[pattern] {
				t.Errorf("%s was never answered with success: it needs a case", pattern)
			}
		}
	})
}

// suite is one run of all tests.
type suite struct {
	start  func(t testing.TB, cfg Config) Server
	routes *http.ServeMux // finds the pattern that a request is for

	mu        sync.Mutex
	succeeded map[string]bool // by pattern
}

// server starts a daemon for a part of the tests.
func (s *suite) server(t *testing.T, cfg Config) Server {
	t.Helper()
	srv := s.start(t, cfg)
	if srv.URL == "" || srv.Client == nil {
		t.Fatalf("start returned %+v, want a URL and a client", srv)
	}
	return srv
}

// note remembers that a request was answered.
func (s *suite) note(req *http.Request, status int) {
	_, pattern := s.routes.Handler(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	if status < http.StatusMultipleChoices {
		s.succeeded[pattern] = true
	}
}
