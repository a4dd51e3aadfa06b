package daemontest

// Programs are what the tests run in a guest beside true, false, echo, cat,
// sleep and sh: shell scripts, which the tests copy to /usr/local/bin. A guest
// that runs no real programs needs one of its own in the place of each.
func Programs() map[string]string {
	return map[string]string{
		// say OUT ERR CODE prints both, each on its stream, and exits.
		"say": "#!/bin/sh\n" + `printf %s "$1"; printf %s "$2" >&2; exit "$3"` + "\n",

		// where prints the user, the group, the working folder and $GREETING.
		"where": "#!/bin/sh\n" + `echo "$(id -u) $(id -g) $(pwd) $GREETING"` + "\n",

		// owner FILE prints a file's user, group and octal permissions.
		"owner": "#!/bin/sh\n" + `exec stat -c "%u %g %a" "$1"` + "\n",

		// link TARGET NAME makes a symlink.
		"link": "#!/bin/sh\n" + `exec ln -s "$1" "$2"` + "\n",

		// until FILE WORD CODE prints started, and the word once the file is
		// there, and exits.
		"until": "#!/bin/sh\n" + `echo started; while ! test -e "$1"; do sleep 0.02; done; echo "$2"; exit "$3"` + "\n",

		// family has a child and a child of that, and waits for them; running
		// prints how many of the processes of all families run.
		"family":  "#!/bin/sh\n" + `sh -c "sleep 4711 & wait" & sleep 4711 & echo born; wait` + "\n",
		"running": "#!/bin/sh\n" + `cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\000" " " | grep -oE "sleep 471[1]|bin/famil[y]" | wc -l` + "\n",

		// listen tcp|unix ADDRESS prints ready, takes one connection, and sends
		// back the line that it reads.
		"listen": "#!/usr/bin/perl\n" + `use IO::Socket; use IO::Socket::UNIX; $| = 1;
my ($kind, $at) = @ARGV;
my $s = $kind eq "unix" ? IO::Socket::UNIX->new(Listen => 1, Local => $at)
	: IO::Socket::INET->new(Listen => 1, LocalAddr => $at, ReuseAddr => 1);
die "listen: $!" unless $s;
print "ready\n"; my $c = $s->accept; my $line = <$c>; print $c "back: $line"; close $c;
`,
	}
}

// createVM makes a VM and returns its hostname.
func (a *api) createVM(body string) string {
	a.t.Helper()
	created := a.ok(201, "POST", "/hostgroup/"+Group+"/nodes", body).object(createdFields)
	return created["hostname"].(string)
}

// furnishedVM makes a VM that has the Programs, and returns the path of its
// routes.
func (a *api) furnishedVM() string {
	a.t.Helper()
	return a.furnishedVMWith("{}")
}

// furnishedVMWith is furnishedVM with a body for the create call.
func (a *api) furnishedVMWith(body string) string {
	a.t.Helper()
	vm := "/vm/" + a.createVM(body)
	var files []entry
	for name, text := range Programs() {
		files = append(files, entry{name: name, text: text, mode: 0o755})
	}
	a.ok(200, "POST", vm+"/cp"+params("path", "/usr/local/bin", "mode", "tar", "uid", "0", "gid", "0"), archive(a.t, files...))
	return vm
}

// output runs a command and returns what it prints; it must end with 0.
func (a *api) output(vm string, argv ...string) string {
	a.t.Helper()
	got := a.buffered(vm, argv)
	if got["exit_code"] != 0.0 {
		a.t.Fatalf("%q ended with %v: %v", argv, got["exit_code"], got["stderr"])
	}
	return got["stdout"].(string)
}

// buffered runs a command and returns the buffered answer; more is name, value,
// name, value, … of the query.
func (a *api) buffered(vm string, argv []string, more ...string) map[string]any {
	a.t.Helper()
	query := execQuery(argv, append(more, "buffered", "true")...)
	return a.ok(200, "POST", vm+"/exec"+query, "").object(bufferedFields)
}

// execQuery is the query of an exec call.
func execQuery(argv []string, more ...string) string {
	pairs := append([]string{"cmd", argv[0]}, more...)
	for _, arg := range argv[1:] {
		pairs = append(pairs, "args", arg)
	}
	return params(pairs...)
}
