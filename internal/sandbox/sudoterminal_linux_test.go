package sandbox_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestSudoOnATerminal(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	type step struct{ wait, send string }
	tests := []struct {
		name  string
		argv  []string
		steps []step
		wants []string
		code  int
	}{
		{
			"the command has a terminal of its own, of the same size",
			[]string{"sudo", "sh", "-c", "tty; stty size; echo x >/dev/tty; ls -l $(tty) | cut -d' ' -f3; exit 5"},
			nil,
			[]string{"/dev/pts/", "33 77\n", "x\n", "root\n"},
			5,
		},
		{
			"a line that is typed reaches it, and is echoed once",
			[]string{"sudo", "sh", "-c", "read x; echo [$x]"},
			[]step{{"", "line\r"}},
			[]string{"line\n[line]\n"},
			0,
		},
		{
			"control-C reaches the command",
			[]string{"sudo", "sh", "-c", "trap 'echo got; exit 9' INT; echo up; while :; do sleep 0.01; done"},
			[]step{{"up", "\x03"}},
			[]string{"got\n"},
			9,
		},
		{
			"control-D ends its input",
			[]string{"sudo", "sh", "-c", "echo up; cat; echo end"},
			[]step{{"up", "text\r\x04"}},
			[]string{"text\n", "end\n"},
			0,
		},
		{
			"a shell has job control",
			[]string{"sudo", "bash", "--norc"},
			[]step{{"# ", "set -o | grep monitor; sleep 1000 & jobs; kill %1; id -un; exit 3\r"}},
			[]string{"monitor        \ton\n", "Running", "root\n"},
			3,
		},
		{
			"the caller's terminal is as before after it",
			[]string{"sh", "-c", "stty -a >/tmp/a; sudo true; stty -a >/tmp/b; cmp /tmp/a /tmp/b && echo same"},
			nil,
			[]string{"same\n"},
			0,
		},
		{
			"a pipe beside a terminal is the caller's",
			[]string{"sh", "-c", "sudo sh -c 'test -t 0 && test -t 2 && ! test -t 1 && echo piped' | cat; echo in | sudo sh -c 'cat; test -t 1 && echo shown'"},
			nil,
			[]string{"piped\n", "in\n", "shown\n"},
			0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			term, err := g.Terminal(t.Context(), &daemon.Command{Argv: tt.argv}, daemon.TerminalSize{Rows: 33, Cols: 77})
			if err != nil {
				t.Fatal(err)
			}
			defer term.Close()
			shown := &bytes.Buffer{}
			for _, s := range tt.steps {
				readUntil(t, term, shown, s.wait)
				if _, err := io.WriteString(term, s.send); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.Copy(shown, term); err != nil {
				t.Fatal(err)
			}
			status, err := term.Wait()
			text := strings.ReplaceAll(shown.String(), "\r\n", "\n")
			if err != nil || status.Code != tt.code {
				t.Errorf("Wait() = %+v, %v, want code %d; it showed %q", status, err, tt.code, text)
			}
			for _, want := range tt.wants {
				if !strings.Contains(text, want) {
					t.Errorf("the terminal showed %q, want %q in it", text, want)
				}
			}
		})
	}
	t.Run("a new size reaches the command", func(t *testing.T) {
		term, err := g.Terminal(t.Context(), &daemon.Command{Argv: []string{"sudo", "sh", "-c", "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.01; done"}}, daemon.TerminalSize{Rows: 33, Cols: 77})
		if err != nil {
			t.Fatal(err)
		}
		defer term.Close()
		shown := &bytes.Buffer{}
		readUntil(t, term, shown, "up")
		if err := term.Resize(daemon.TerminalSize{Rows: 11, Cols: 22}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(shown, term); err != nil || !strings.Contains(shown.String(), "11 22") {
			t.Errorf("the terminal showed %q, %v, want the new size", shown, err)
		}
		if _, err := term.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a terminal that is closed ends the command", func(t *testing.T) {
		term, err := g.Terminal(t.Context(), &daemon.Command{Argv: []string{"sudo", "sh", "-c", "echo up; exec sleep 4321"}}, daemon.TerminalSize{Rows: 33, Cols: 77})
		if err != nil {
			t.Fatal(err)
		}
		readUntil(t, term, &bytes.Buffer{}, "up")
		if err := term.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := term.Wait(); err != nil {
			t.Error(err)
		}
		got := run(t, g, true, "for i in $(seq 500); do pgrep -f '[s]leep 4321' >/dev/null || exit 0; sleep 0.01; done; exit 1")
		if got.status.Code != 0 {
			t.Error("the command outlives its terminal")
		}
	})
}

// readUntil reads a terminal until it has shown want.
func readUntil(t *testing.T, term io.Reader, shown *bytes.Buffer, want string) {
	t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(shown.String(), want) {
		n, err := term.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatalf("the terminal ended with %v after %q, want %q", err, shown, want)
		}
	}
}
