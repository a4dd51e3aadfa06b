package sandbox_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon/daemontest"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

// TestAPI runs the API's tests against guests that are sandboxes. Those against
// the scripted guest are in internal/daemon.
func TestAPI(t *testing.T) {
	lacks := make(map[daemontest.Ability]string)
	if isSingle(t, boot(t, newHypervisor(t), daemon.GuestSpec{Hostname: "probe"})) {
		lacks[daemontest.Owns] = "an ordinary user without a range of ids has one for all users of a guest"
	}
	daemontest.Run(t, func(t testing.TB, cfg daemontest.Config) daemontest.Server {
		srv := serveAPI(t, daemon.Config{
			Groups: []daemon.HostGroup{{
				Name: daemontest.Group, Count: cfg.Protected, CPUs: daemontest.GroupCPUs, RAMBytes: daemontest.GroupRAMBytes,
			}},
			Token:        cfg.Token,
			LegacyFrames: cfg.LegacyFrames,
			Version:      "test",
		})
		srv.Lacks = lacks
		return srv
	})
}

// serveAPI starts a daemon of sandboxes, and ends it with the test.
func serveAPI(t testing.TB, cfg daemon.Config) daemontest.Server {
	t.Helper()
	s := &apiServer{t: t, state: filepath.Join(t.TempDir(), "state"), cfg: cfg}
	s.start()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.daemon.Load().ServeHTTP(w, r) }))
	t.Cleanup(func() {
		s.stop()
		srv.Close()
	})
	return daemontest.Server{URL: srv.URL, Client: srv.Client(), Restart: func() {
		s.stop()
		s.start()
	}}
}

// apiServer has one daemon after the other on the same state folder.
type apiServer struct {
	t      testing.TB
	state  string
	cfg    daemon.Config
	daemon atomic.Pointer[daemon.Daemon]
}

func (s *apiServer) start() {
	s.t.Helper()
	hypervisor, err := sandbox.New(sandbox.Config{StateDir: s.state})
	if err != nil {
		skipWithoutSandbox(s.t, err)
	}
	cfg := s.cfg
	cfg.Hypervisor = hypervisor
	d, err := daemon.New(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatalf("daemon.New() = %v", err)
	}
	s.daemon.Store(d)
}

// stop closes the daemon, and the hypervisor with it.
func (s *apiServer) stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.daemon.Load().Close(ctx); err != nil {
		s.t.Errorf("Close() = %v", err)
	}
}
