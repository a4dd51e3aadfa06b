package sandbox

import (
	"slices"
	"strconv"
	"strings"
)

// sudoKept are the variables of the caller that a command gets without being
// asked: how its terminal, its language and its clock are.
var sudoKept = []string{"COLORTERM", "LANG", "LANGUAGE", "LINGUAS", "TERM", "TZ"}

// maxSudoCommandBytes bounds SUDO_COMMAND, so that long arguments aren't
// carried twice.
const maxSudoCommandBytes = 4096

// variables is an environment whose keys stand in it once.
type variables struct {
	list []string
	at   map[string]int // a key's place in list
}

func (v *variables) set(key, value string) {
	entry := key + "=" + value
	if i, ok := v.at[key]; ok {
		v.list[i] = entry
		return
	}
	v.at[key] = len(v.list)
	v.list = append(v.list, entry)
}

func (v *variables) has(key string) bool {
	_, ok := v.at[key]
	return ok
}

// sudoEnvironment is what a command for target gets: a login's variables and
// the few of the caller's that are kept.
func sudoEnvironment(req *sudoRequest, caller, target sudoUser) *variables {
	env := &variables{at: map[string]int{}}
	kept := map[string]bool{}
	for _, key := range slices.Concat(sudoKept, req.Keep) {
		kept[key] = true
	}
	for _, kv := range req.Env {
		key, value, ok := strings.Cut(string(kv), "=")
		if ok && key != "" && (req.KeepAll || kept[key] || strings.HasPrefix(key, "LC_")) {
			env.set(key, value)
		}
	}
	own := []struct {
		key, value string
		always     bool // also where the caller's variables are kept
	}{
		{"HOME", target.home, req.SetHome || req.Login},
		{"LOGNAME", target.name, true},
		{"MAIL", "/var/mail/" + target.name, req.Login},
		{"PATH", defaultPath, !kept["PATH"]},
		{"SHELL", target.shell, req.Login},
		{"USER", target.name, true},
		{"SUDO_GID", strconv.FormatUint(uint64(caller.gid), 10), true},
		{"SUDO_UID", strconv.FormatUint(uint64(caller.uid), 10), true},
		{"SUDO_USER", caller.name, true},
	}
	for _, o := range own {
		if o.always || !env.has(o.key) {
			env.set(o.key, o.value)
		}
	}
	for _, kv := range req.Vars {
		key, value, _ := strings.Cut(string(kv), "=")
		env.set(key, value)
	}
	return env
}

// setCommand sets SUDO_COMMAND to the program's path and its arguments.
func (v *variables) setCommand(path string, args []string) {
	text := path
	for _, a := range args {
		if len(text) > maxSudoCommandBytes {
			break
		}
		text += " " + a
	}
	v.set("SUDO_COMMAND", text[:min(len(text), maxSudoCommandBytes)])
}
