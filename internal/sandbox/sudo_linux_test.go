package sandbox_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestSudo(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	type command struct {
		name   string
		script string
		want   string // on standard output
	}
	tests := []command{
		{"the command is root's", "sudo id -un; sudo id -u; sudo id -g", "root\n0\n0\n"},
		{"input and output are the caller's", "echo x | sudo tee /root/f; sudo cat /root/f", "x\nx\n"},
		{"a redirection is the caller's file", "sudo id -un >~/owned; stat -c %u ~/owned >/dev/null; cat ~/owned", "root\n"},
		{"errors go to standard error", "sudo sh -c 'echo out; echo err >&2' 2>/dev/null", "out\n"},
		{"the exit code is passed on", "sudo sh -c 'exit 42'; echo $?", "42\n"},
		{"death by a signal is passed on", "sh -c 'sudo sh -c \"kill -KILL \\$\\$\"'; echo $?", "137\n"},
		{"death by a signal that the runtime catches is passed on", "sh -c 'sudo sh -c \"kill -SEGV \\$\\$\"' 2>/dev/null; echo $?", "139\n"},
		{"the folder is the caller's", "cd /var/tmp && sudo pwd", "/var/tmp\n"},
		{"a folder that the user can't enter is kept", "sudo sh -c 'cd /root && sudo -u ubuntu readlink /proc/self/cwd'", "/root\n"},
		{"another folder", "sudo -D /var/tmp pwd; sudo --chdir=/no/such pwd 2>&1", "/var/tmp\nsudo: unable to change directory to /no/such\n"},
		{"the file mask is kept", "umask 077; sudo sh -c umask; umask 0; sudo sh -c umask", "0077\n0022\n"},
		{"arguments stay whole", `sudo printf '%s|' 'a b' '' '$HOME' "it's"`, "a b||$HOME|it's|"},
		{"arguments need not be text", `sudo printf '%s' "$(printf '\377\376')" | od -An -tx1`, " ff fe\n"},
		{"options end at the command", "sudo echo -u x; sudo -- echo -n y", "-u x\ny"},
		{"a user by name and by id", "sudo -u www-data id -un; sudo -u '#33' id -u; sudo --user=daemon id -un; sudo -udaemon id -u", "www-data\n33\ndaemon\n1\n"},
		{"a group", "sudo -g staff id -gn; sudo -u root --group '#50' id -g; sudo -g staff id -un", "staff\n50\nubuntu\n"},
		{"root needs no more than ubuntu", "sudo sudo -u ubuntu id -un", "ubuntu\n"},
		{"the environment is reset", "FOO=bar LC_ALL=C.UTF-8 TERM=vt100 DISPLAY=:1 sudo env | cut -d= -f1 | sort | tr '\\n' ' '", "HOME LANG LC_ALL LOGNAME MAIL PATH SHELL SUDO_COMMAND SUDO_GID SUDO_UID SUDO_USER TERM USER "},
		{"it is the user's", "sudo sh -c 'echo $HOME $LOGNAME $USER $SHELL $MAIL'", "/root root root /bin/bash /var/mail/root\n"},
		{"it tells who called", "sudo sh -c 'echo $SUDO_USER $SUDO_UID $SUDO_GID $SUDO_COMMAND' | cut -c1-40", "ubuntu 1000 1000 /usr/bin/sh -c echo $SU\n"},
		{"variables on the command line are set", "sudo A=1 B='x y' sh -c 'echo $A $B'", "1 x y\n"},
		{"all variables are kept on request", "FOO=bar sudo -E sh -c 'echo $FOO $HOME $USER'; FOO=bar sudo -EH sh -c 'echo $HOME'", "bar /home/ubuntu root\n/root\n"},
		{"some variables are kept on request", "FOO=1 BAR=2 sudo --preserve-env=FOO,HOME sh -c 'echo $FOO $BAR $HOME'", "1 /home/ubuntu\n"},
		{"a login", "cd /tmp; sudo -i pwd; sudo -i printf '%s|' 'a  b' \"it's\" 'x\ny'; sudo -u ubuntu -i echo '$0'; echo 'shopt -q login_shell && id -un' | sudo -i", "/root\na  b|it's|x\ny|-bash\nroot\n"},
		{"a shell", `SHELL=/bin/sh sudo -s echo 'a  b;c'; echo 'echo $0; id -un' | SHELL=/bin/sh sudo -s`, "a  b;c\n/bin/sh\nroot\n"},
		{"options of a password change nothing", "echo line | sudo -SknAB -p x cat; sudo -K; sudo -k; echo $?", "line\n0\n"},
		{"a script without its first line is the shell's", "printf 'echo script $1\\n' >~/s; chmod +x ~/s; cd; sudo ./s a", "script a\n"},
		{"what may be run is listed", "sudo -l; sudo -l tee; sudo -v; echo $?", "User ubuntu may run the following commands on sbox-1:\n    (ALL : ALL) NOPASSWD: ALL\n/usr/bin/tee\n0\n"},
		{"help and version", "sudo -h | head -1; sudo --version | grep -c sudo", "sudo - run a command as another user of this VM\n1\n"},
		{"a missing command", "sudo no-such-command 2>&1; echo $?", "sudo: no-such-command: command not found\n1\n"},
		{"a folder as command", "sudo /tmp 2>&1; echo $?", "sudo: /tmp: command not found\n1\n"},
		{"a file that can't be executed", "touch ~/plain; sudo /home/ubuntu/plain 2>&1; echo $?", "sudo: unable to execute /home/ubuntu/plain: permission denied\n1\n"},
		{"a missing user and group", "sudo -u nosuch id 2>&1; sudo -g nosuch id 2>&1; echo $?", "sudo: unknown user nosuch\nsudo: unknown group nosuch\n1\n"},
		{"no command", "sudo 2>&1 | head -1 | cut -c1-11; sudo 2>/dev/null; echo $?", "usage: sudo\n1\n"},
		{"an unknown option", "sudo -Z id 2>&1 | head -1; sudo --zap id 2>&1 | head -1; sudo -Z id 2>/dev/null; echo $?", "sudo: invalid option -- 'Z'\nsudo: unrecognized option '--zap'\n1\n"},
		{"an option without its value", "sudo -u 2>&1 | head -1; sudo --user 2>&1 | head -1", "sudo: option requires an argument -- 'u'\nsudo: option '--user' requires an argument\n"},
		{"login and shell exclude each other", "sudo -is 2>&1 | head -1", "sudo: you may not specify both the -i and -s options\n"},
		{"another user is refused", "sudo -u www-data sudo id 2>&1; echo $?; sudo -u www-data sudo -v 2>&1", "www-data is not in the sudoers file.\n1\nSorry, user www-data may not run sudo on sbox-1.\n"},
		{"the group sudo is allowed", "sudo sed -i 's/^sudo:.*/&,man/' /etc/group; sudo -u man sudo id -un", "root\n"},
		{"an ignored signal stays ignored", "nohup sudo sh -c 'kill -HUP $PPID; echo on' 2>/dev/null", "on\n"},
		{"no descriptor but the streams goes along", "sudo ls /proc/self/fd 9</etc/passwd | tr '\\n' ' '", "0 1 2 3 "},
	}
	if !isSingle(t, g) { // with one id no other user can be become without the agent
		tests = append(tests, []command{
			{"su works as root", "sudo su -c 'id -un' root; sudo su - ubuntu -c pwd; sudo -s su ubuntu -c 'id -un'", "root\n/home/ubuntu\nubuntu\n"},
			{"a user without a name is refused", "sudo perl -e '$) = $( = 4321; $> = $< = 4321; exec \"sudo\", \"id\"' 2>&1", "sudo: you do not exist in the passwd database\n"},
		}...)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, g, false, tt.script); got.stdout != tt.want {
				t.Errorf("%q printed %q (stderr %q), want %q", tt.script, got.stdout, got.stderr, tt.want)
			}
		})
	}
}

// isSingle says whether the guest has one id under several numbers.
func isSingle(t *testing.T, g daemon.Guest) bool {
	t.Helper()
	return run(t, g, true, "test $(awk '{s += $3} END {print s}' /proc/self/uid_map) = 1").status.Code == 0
}

func TestSudoPassesSignalsOn(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	for _, name := range []string{"TERM", "INT", "HUP", "QUIT", "USR1", "USR2"} {
		t.Run(name, func(t *testing.T) {
			out := &waitFor{want: "up", seen: make(chan struct{})}
			script := fmt.Sprintf("trap 'echo got; exit 7' %s; echo up; while :; do sleep 0.01; done", name)
			p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sudo", "sh", "-c", script}, Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			<-out.seen
			if err := p.Signal(name); err != nil {
				t.Fatal(err)
			}
			status, err := p.Wait()
			if err != nil || status.Code != 7 || out.got.String() != "up\ngot\n" {
				t.Errorf("the command printed %q and ended with %+v, %v, want that it got the signal", out.got.String(), status, err)
			}
		})
	}
	t.Run("the command's end is the caller's", func(t *testing.T) {
		out := &waitFor{want: "up", seen: make(chan struct{})}
		p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sudo", "sh", "-c", "echo up; exec sleep 1000"}, Stdout: out})
		if err != nil {
			t.Fatal(err)
		}
		<-out.seen
		if err := p.Signal("TERM"); err != nil {
			t.Fatal(err)
		}
		if status, err := p.Wait(); err != nil || status.Signal != "TERM" {
			t.Errorf("Wait() = %+v, %v, want signal TERM", status, err)
		}
	})
}

func TestAKilledSudoTakesItsCommandAlong(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	out := &waitFor{want: "up", seen: make(chan struct{})}
	// A caller that is a group of several, and a command that heeds nothing.
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sh", "-c", "sudo sh -c 'trap \"\" TERM HUP INT; sleep 1234 & echo up; wait' | cat; :"}, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	<-out.seen
	if err := p.Signal("KILL"); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err != nil || status.Signal != "KILL" {
		t.Errorf("Wait() = %+v, %v, want signal KILL", status, err)
	}
	// They are the agent's children: their end can only be polled.
	got := run(t, g, true, "for i in $(seq 500); do pgrep -x sleep >/dev/null || exit 0; sleep 0.01; done; ps -ef; exit 1")
	if got.status.Code != 0 {
		t.Errorf("processes outlive the killed sudo:\n%s", got.stdout)
	}
}

func TestSudoInTheBackgroundStaysBehind(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	got := run(t, g, false, "sudo -b sh -c 'until test -e /tmp/go; do sleep 0.01; done; id -un >/tmp/done.part; mv /tmp/done.part /tmp/done' >/dev/null 2>&1; echo $?; touch /tmp/go; for i in $(seq 500); do test -e /tmp/done && break; sleep 0.01; done; cat /tmp/done")
	if got.stdout != "0\nroot\n" {
		t.Errorf("printed %q (stderr %q), want that sudo ends and the command goes on", got.stdout, got.stderr)
	}
}

func TestSuspendedSudoSuspendsItsCommand(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	got := run(t, g, true, `
state() { sed 's/.*) //' /proc/$1/stat | cut -c1; }
until_state() { for i in $(seq 500); do test "$(state $1)" = "$2" && return; sleep 0.01; done; echo "$1 is $(state $1), want $2"; }
sudo sh -c 'echo $$ >/tmp/pid.part; mv /tmp/pid.part /tmp/pid; exec sleep 1000' & shim=$!
for i in $(seq 500); do test -e /tmp/pid && break; sleep 0.01; done
kill -TSTP $shim; until_state $shim T; until_state $(cat /tmp/pid) T
kill -CONT $shim; until_state $shim S; until_state $(cat /tmp/pid) S
kill $shim; wait $shim; echo $?`)
	if got.stdout != "143\n" {
		t.Errorf("printed %q (stderr %q), want that both stop, go on and end", got.stdout, got.stderr)
	}
}

func TestSudoIsOneOfTheGuestsProcesses(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	out := &waitFor{want: "tick", seen: make(chan struct{})}
	p, err := g.Start(t.Context(), &daemon.Command{Argv: []string{"sudo", "sh", "-c", "echo $$ >/tmp/pid; while :; do echo tick; sleep 0.01; done"}, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	<-out.seen
	if err := errors.Join(g.Freeze(t.Context()), g.Thaw(t.Context()), g.Freeze(t.Context()), g.Thaw(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := run(t, g, false, "sudo id -un").stdout; got != "root\n" {
		t.Errorf("sudo after a thaw prints %q, want root", got)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatalf("Stop() with a command of sudo's = %v", err)
	}
	if status, _ := p.Wait(); status.Signal != "KILL" {
		t.Errorf("the caller's status after Stop = %+v, want signal KILL", status)
	}
}

func TestSudoManyAtOnce(t *testing.T) {
	h := newHypervisor(t)
	g := boot(t, h, daemon.GuestSpec{Hostname: "sbox-1"})
	got := run(t, g, false, "for i in $(seq 40); do sudo sh -c \"exit $i\" & pids=\"$pids $!\"; done; n=0; i=0; for p in $pids; do i=$((i+1)); wait $p; test $? = $i && n=$((n+1)); done; echo $n")
	if got.stdout != "40\n" {
		t.Errorf("%q of 40 commands ended with their own code (stderr %q)", got.stdout, got.stderr)
	}
}

func BenchmarkSudo(b *testing.B) {
	h := newHypervisor(b)
	g := boot(b, h, daemon.GuestSpec{Hostname: "sbox-1"})
	for b.Loop() {
		if got := run(b, g, false, "sudo true"); got.status.Code != 0 {
			b.Fatalf("sudo true = %+v", got)
		}
	}
}
