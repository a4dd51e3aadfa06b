package tools_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// awkward are commands that a layer between a model and a shell can spoil.
var awkward = []string{
	// Quotes.
	`echo 'single' "double" \"escaped\" plain`,
	`echo "a  b"   c`,
	`echo 'it'"'"'s'`,
	`echo "nested $(echo "inner \"quoted\"")"`,
	`echo $'tab\there' $'\x41\u00e9'`,
	`echo "back\\slash" 'back\slash' back\\slash`,
	`printf '%s\n' "a'b\"c"`,
	"echo `echo backticks`",
	`echo "\$HOME is not expanded" '$HOME neither'`,
	`X="a b"; echo $X "$X" '$X' "${X}c"`,
	`echo ''`,
	`echo "" '' ""`,
	`echo \'`,
	// Expansions.
	`echo ${UNSET:-default} ${UNSET-} ${#HOME}`,
	`A=(1 2 3); echo "${A[@]}" "${#A[@]}" "${A[-1]}"`,
	`echo {a,b}{1..3}`,
	`echo $((7*6)) $((0x1f)) $[1+1]`,
	`echo ~ | sed 's/[^/]//g' | wc -c`,
	`set -- x y z; echo $# "$@" "$*"`,
	`echo $? $0 $#`,
	`: > /dev/null; echo "[$_]" | wc -l`,
	`shopt -s extglob; v=aaab; echo ${v##+(a)}`,
	`declare -A m=([k]=v); echo ${m[k]}`,
	// Lists, pipes and redirections.
	`true && echo yes || echo no`,
	`false || echo recovered; false`,
	`(exit 3); echo $?`,
	`echo out; echo err >&2; exit 42`,
	`{ echo grouped; } 2>&1 | tr a-z A-Z`,
	`echo one | cat - | cat -n`,
	`cat < /dev/null; echo $?`,
	`set -o pipefail; false | true; echo $?`,
	`ls /no/such/place 2>/dev/null; echo $?`,
	`exec 3>&1; echo to three >&3`,
	`cat <(echo process) <(echo substitution)`,
	`echo a; echo b; echo c | tee /dev/stderr`,
	`! true; echo $?`,
	`sleep 0.01 & wait $!; echo $?`,
	`echo hi;`,
	`echo hi &
wait`,
	// Here documents and strings.
	"cat <<EOF\n$((1+1)) \"quoted\" 'single' \\$literal\nEOF",
	"cat <<'EOF'\n$HOME `uname` $(date) \\\nEOF",
	"cat <<-EOF\n\tindented\n\tEOF",
	"cat <<A; cat <<B\nfirst\nA\nsecond\nB",
	"cat <<< \"here string\"",
	"python3 - <<'PY' 2>/dev/null || cat <<'PY'\nprint('x' * 3)\nPY\nprint('x' * 3)\nPY",
	"cat <<'EOF' | while read -r line; do echo \"[$line]\"; done\n a\\b \n\n c\nEOF",
	// Unicode, control characters and other bytes.
	"echo 'grüße 😀 日本語 \u202e rtl'",
	`echo "naïve" | wc -m`,
	"printf 'a\\0b\\n' | od -c",
	"printf '\\xff\\xfe\\x80'",
	"echo 'a\tb'",
	"echo 'line one\nline two'",
	"echo a\\\nb",
	"printf 'no newline at the end'",
	"printf 'carriage\\rreturn\\n'",
	"echo $'\\e[31mred\\e[0m'",
	"\n\n\techo leading blank lines\n\n",
	"# only a comment",
	"echo '# not a comment' # a comment",
	// What a URL, JSON or printf may trip over.
	`echo '100% %s %d %20 + & = ? # /'`,
	`echo '{"json": ["a", {"b": null}]}'`,
	`echo 'a&b=c;d' | tr '&=;' '\n\n\n'`,
	`printf '%5.2f|%-5s|%05d\n' 3.14159 ab 42`,
	`echo '<html>&amp;</html>'`,
	// Options of the shell and ends.
	`set -e; false; echo never`,
	`set -u; echo $NO_SUCH_VARIABLE; echo never`,
	`trap 'echo trapped' EXIT; exit 5`,
	`kill -TERM $$`,
	`kill -KILL $$`,
	`f() { return 9; }; f`,
	`no-such-command-here`,
	`/etc/passwd`,
	`eval 'echo "evaluated"'`,
	`bash -c 'echo "$0" "$1"' zero one`,
	`env -i A=b sh -c 'echo $A'`,
	`if [[ abc =~ ^a(.)c$ ]]; then echo ${BASH_REMATCH[1]}; fi`,
	`case x in (x) echo matched;; esac`,
	`for i in 1 2 3; do echo $i; [ $i = 2 ] && break; done`,
	`while read -r x; do echo "got $x"; done < <(printf '1\n2\n')`,
	`time -p true 2>/dev/null; echo timed`,
	`echo unterminated "quote`,
	`echo "last"; exit`,
}

// ran is how a shell ended.
type ran struct {
	stdout, stderr string
	end            string
}

// runHost runs a program of this machine.
func runHost(ctx context.Context, dir, name string, argv ...string) ran {
	cmd := exec.CommandContext(ctx, name, argv...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	end := "exit 0"
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		end = exited.String()
	} else if err != nil {
		end = err.Error()
	}
	return ran{stdout.String(), stderr.String(), end}
}

// TestAwkwardCommands runs each command as exec launches it, by this machine's
// own shells, and straight, and wants the same bytes and the same end.
func TestAwkwardCommands(t *testing.T) {
	for _, program := range []string{"/bin/bash", "/bin/sh"} {
		if _, err := os.Stat(program); err != nil {
			if os.Getenv("SLICERVM_REQUIRE_SANDBOX") == "1" {
				t.Fatalf("this machine has no %s", program)
			}
			t.Skipf("this machine has no %s", program)
		}
	}
	if len(awkward) < 60 {
		t.Errorf("the corpus has %d commands, want 60 at least", len(awkward))
	}
	dir := t.TempDir()
	var got ran
	srv := slicertest.NewServer(t, slicertest.Options{Shell: func(ctx context.Context, p *slicertest.Proc, _ string) int {
		argv := slices.Clone(p.Args[1:])
		if script := argv[len(argv)-1]; strings.HasPrefix(script, "/tmp/.slicervm-mcp-script-") {
			text, err := p.Files().ReadFile(script)
			if err != nil {
				return 1
			}
			argv[len(argv)-1] = filepath.Join(dir, "script")
			if err := os.WriteFile(argv[len(argv)-1], text, 0o600); err != nil {
				return 1
			}
		}
		got = runHost(ctx, dir, "/bin/sh", argv...)
		return 0
	}})
	s := connect(t, tools.Config{Client: srv.Client()})
	s.call("create_vm", args{})
	for i, command := range awkward {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			s.call("exec", args{"command": command})
			want := runHost(t.Context(), dir, "/bin/bash", "-lc", command)
			if got != want {
				t.Errorf("exec(%q)\n gave %q\n want %q", command, got, want)
			}
		})
	}
	long := "printf '%s\\n' start\n" + strings.Repeat("# "+strings.Repeat("ü", 500)+"\n", 1000) + "echo end\n"
	s.call("exec", args{"command": long})
	if want := (ran{"start\nend\n", "", "exit 0"}); got != want {
		t.Errorf("exec of a megabyte gave %q, want %q", got, want)
	}
}
