package sandbox_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
	"github.com/slicervm-mcp/slicervm-mcp/internal/sandbox"
)

func TestNetworks(t *testing.T) {
	newHypervisor(t) // skips where there is no sandbox
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed at the test's end
			}
			_, _ = io.WriteString(c, "the host\n") // a client that leaves fails the test itself
			c.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-served
	})
	resolver, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	dial := fmt.Sprintf("perl -MIO::Socket -e '$s = IO::Socket::INET->new(%q) or print(%q), exit; print <$s>'", fmt.Sprintf("127.0.0.1:%d", port), "refused\n")
	const refused = `perl -MSocket -e 'print socket(my $s, %s) ? "open" : "refused", "\n"'`
	// The flags are those that lo has, so that nothing breaks where it isn't refused.
	const configure = `perl -MSocket -e 'socket(my $s, PF_INET, SOCK_DGRAM, 0); my $r = pack("a16s", "lo", 0x49); print ioctl($s, 0x8914, $r) ? "changed" : "refused", "\n"'`
	for _, host := range []bool{false, true} {
		var log bytes.Buffer
		h := hypervisorAt(t, sandbox.Config{StateDir: filepath.Join(t.TempDir(), "state"), HostNetwork: host, Log: slog.New(slog.NewTextHandler(&log, nil))})
		t.Cleanup(func() { closeHypervisor(t, h) })
		g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
		reached, names, warned := "refused\n", "", 0
		if host {
			reached, names, warned = "the host\n", string(resolver), 1
		}
		tests := []struct {
			name, script, want string
		}{
			{"a service on the machine's loopback", dial, reached},
			{"resolv.conf", "cat /etc/resolv.conf", names},
			{"the guest's own name", "grep sbox-1 /etc/hosts", "127.0.1.1 sbox-1\n"},
			{"a raw socket", fmt.Sprintf(refused, "PF_INET, SOCK_RAW, 1"), "refused\n"},
			{"a packet socket", fmt.Sprintf(refused, "17, SOCK_RAW, 0x300"), "refused\n"},
			{"an interface", configure, "refused\n"},
			{"network settings", "echo 0 >/proc/sys/net/ipv4/ip_forward 2>/dev/null || echo refused", "refused\n"},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("host network %v: %s", host, tt.name), func(t *testing.T) {
				if got := run(t, g, true, tt.script); got.stdout != tt.want {
					t.Errorf("%q printed %q (stderr %q), want %q", tt.script, got.stdout, got.stderr, tt.want)
				}
			})
		}
		if n := strings.Count(log.String(), "share this machine's network"); n != warned {
			t.Errorf("with the host's network %v it is logged %d times, want %d", host, n, warned)
		}
	}
}
