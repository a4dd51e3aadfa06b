package sandbox_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestAGuestTakesAPartOfAUsersQuotas(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	for _, asRoot := range []bool{false, true} {
		limits := run(t, g, asRoot, "cat /proc/self/limits").stdout
		for name, most := range map[string]int{"Max pending signals": 1024, "Max msgqueue size": 256 << 10} {
			_, line, _ := strings.Cut(limits, name)
			f := strings.Fields(line)
			if len(f) < 2 {
				t.Fatalf("no %q in %q", name, limits)
			}
			for _, value := range f[:2] {
				if n, err := strconv.Atoi(value); err != nil || n > most {
					t.Errorf("%s (root %v) = %s, want %d at most", name, asRoot, value, most)
				}
			}
		}
	}
}

func TestAGuestTakesAPartOfAUsersInotify(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	if run(t, g, true, "grep -q 4294967295 /proc/self/uid_map").status.Code == 0 {
		t.Skip("without a user namespace the kernel counts a guest's with the host's")
	}
	if got := run(t, g, true, "cd /proc/sys/user; cat max_inotify_instances max_inotify_watches").stdout; got != "64\n32768\n" {
		t.Errorf("the limits are %q, want 64 and 32768", got)
	}
	script := fmt.Sprintf(`perl -e 'my $n = 0; $n++ while $n < 100 && syscall(%d, 0) >= 0; print $n'`, unix.SYS_INOTIFY_INIT1)
	for _, asRoot := range []bool{false, true} {
		got := run(t, g, asRoot, script).stdout
		if n, err := strconv.Atoi(got); err != nil || n < 1 || n > 64 {
			t.Errorf("a user of the guest (root %v) got %q inotify instances, want 64 at most", asRoot, got)
		}
	}
}
