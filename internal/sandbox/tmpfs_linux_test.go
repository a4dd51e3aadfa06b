package sandbox_test

import (
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestFileSystemsInMemoryAreBounded(t *testing.T) {
	h := newHypervisor(t)
	small := boot(t, h, daemon.GuestSpec{Hostname: "small", RAMBytes: 64 << 20})
	free := boot(t, h, daemon.GuestSpec{Hostname: "free"})
	for _, dir := range []string{"/run", "/dev/shm"} {
		t.Run("bytes in "+dir, func(t *testing.T) {
			got := run(t, small, true, "head -c 30000000 /dev/zero >"+dir+"/fits; echo $?; head -c 10000000 /dev/zero >"+dir+"/big; rm "+dir+"/fits "+dir+"/big")
			if got.stdout != "0\n" || !strings.Contains(got.stderr, "No space left on device") {
				t.Errorf("writing 30 and 10 MB printed %q and %q, want room for the first alone", got.stdout, got.stderr)
			}
		})
		t.Run("files in "+dir, func(t *testing.T) {
			got := run(t, small, true, "mkdir "+dir+`/many; perl -e 'for (1..5000) { open(my $f, ">", "$ARGV[0]/many/$_") or print("$!\n"), last }' `+dir+"; rm -r "+dir+"/many").stdout
			if got != "No space left on device\n" {
				t.Errorf("making 5000 files printed %q, want that there is no space for all", got)
			}
		})
		t.Run("without a limit of memory "+dir, func(t *testing.T) {
			if got := run(t, free, false, "echo $(($(stat -f -c '%b * %S' "+dir+")))").stdout; got != "536870912\n" {
				t.Errorf("%s has %q bytes, want 512 MiB", dir, got)
			}
		})
	}
	tiny := boot(t, h, daemon.GuestSpec{Hostname: "tiny", RAMBytes: 1}) // half of it must not be 0, which is no bound
	if got := run(t, tiny, false, "echo $(($(stat -f -c '%b * %S' /dev/shm)))").stdout; got != "1048576\n" {
		t.Errorf("/dev/shm of a tiny VM has %q bytes, want 1 MiB", got)
	}
}
