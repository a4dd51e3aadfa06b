package sandbox

import (
	"errors"
	"fmt"
	"strings"
)

const sudoUsage = `usage: sudo [-bEHknS] [-u user] [-g group] [-D folder] [-p prompt] [VAR=value] [-i | -s] [command [arg ...]]
       sudo -l [command]
       sudo -h | -K | -k | -V | -v
`

const sudoHelp = `sudo - run a command as another user of this VM

` + sudoUsage + `
  -b, --background          run the command in the background
  -D, --chdir=folder        run the command in another folder
  -E, --preserve-env[=LIST] keep the caller's variables, or those of a list
  -g, --group=group         run the command with a group, a name or #id
  -H, --set-home            set HOME to the user's
  -h, --help                show this and exit
  -i, --login               run the user's shell as a login starts it
  -l, --list                say what the caller may run, or where a command is
  -p, --prompt=prompt       taken and not used: no password is asked for
  -s, --shell               run the caller's shell
  -u, --user=user           run the command as a user, a name or #id (root)
  -V, --version             say what this is and exit
  -v, --validate            say whether the caller may use sudo
  --                        end the options

-A, -B, -k, -K, -N, -n and -S are taken and change nothing: no password is
asked for and none is remembered.
`

// sudoAction is what a shim was started for.
type sudoAction int

const (
	sudoExec    sudoAction = iota // run a command
	sudoList                      // -l
	sudoAllowed                   // -v
	sudoForget                    // -k or -K alone
	sudoSayHelp
	sudoSayVersion
)

// sudoCommandLine is a shim's command line.
type sudoCommandLine struct {
	action      sudoAction
	user, group string
	chdir       string
	login       bool
	shell       bool
	keepAll     bool
	keep        []string
	setHome     bool
	background  bool
	vars        []string
	command     []string
}

// sudoLong are the long options by their letter. A letter's value begins
// behind = there, in the same word or the next elsewhere.
var sudoLong = map[string]byte{
	"askpass": 'A', "background": 'b', "bell": 'B', "chdir": 'D', "group": 'g', "help": 'h', "list": 'l', "login": 'i',
	"no-update": 'N', "non-interactive": 'n', "preserve-env": 'E', "prompt": 'p', "remove-timestamp": 'K',
	"reset-timestamp": 'k', "set-home": 'H', "shell": 's', "stdin": 'S', "user": 'u', "validate": 'v', "version": 'V',
}

// sudoValued are the letters that take a value.
const sudoValued = "Dgpu"

// parseSudo reads the arguments behind sudo. Options end with -- or the first
// word that is neither one nor a variable.
func parseSudo(args []string) (*sudoCommandLine, error) {
	l := &sudoCommandLine{}
	for len(args) > 0 {
		word := args[0]
		switch {
		case word == "--":
			l.command = args[1:]
			return l, l.check()
		case strings.HasPrefix(word, "--"):
			rest, err := l.long(word[2:], args[1:])
			if err != nil {
				return nil, err
			}
			args = rest
		case strings.HasPrefix(word, "-") && word != "-":
			rest, err := l.short(word[1:], args[1:])
			if err != nil {
				return nil, err
			}
			args = rest
		case strings.IndexByte(word, '=') > 0 && !strings.HasPrefix(word, "/"):
			l.vars = append(l.vars, word)
			args = args[1:]
		default:
			l.command = args
			return l, l.check()
		}
	}
	return l, l.check()
}

// long reads one long option and returns the arguments behind it.
func (l *sudoCommandLine) long(word string, rest []string) ([]string, error) {
	name, value, inline := strings.Cut(word, "=")
	letter, ok := sudoLong[name]
	if !ok {
		return nil, fmt.Errorf("unrecognized option '--%s'", name)
	}
	if letter == 'E' && inline {
		l.keep = append(l.keep, strings.Split(value, ",")...)
		return rest, nil
	}
	if strings.IndexByte(sudoValued, letter) < 0 {
		if inline {
			return nil, fmt.Errorf("option '--%s' doesn't allow an argument", name)
		}
		return rest, l.flag(letter)
	}
	if !inline {
		if len(rest) == 0 {
			return nil, fmt.Errorf("option '--%s' requires an argument", name)
		}
		value, rest = rest[0], rest[1:]
	}
	return rest, l.value(letter, value)
}

// short reads one word of short options and returns the arguments behind it.
func (l *sudoCommandLine) short(letters string, rest []string) ([]string, error) {
	for i := range len(letters) {
		c := letters[i]
		if strings.IndexByte(sudoValued, c) < 0 {
			if err := l.flag(c); err != nil {
				return nil, err
			}
			continue
		}
		if value := letters[i+1:]; value != "" {
			return rest, l.value(c, value)
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("option requires an argument -- '%c'", c)
		}
		return rest[1:], l.value(c, rest[0])
	}
	return rest, nil
}

func (l *sudoCommandLine) flag(c byte) error {
	switch c {
	case 'A', 'B', 'N', 'n', 'S': // no password is asked for
	case 'b':
		l.background = true
	case 'E':
		l.keepAll = true
	case 'H':
		l.setHome = true
	case 'h':
		l.action = sudoSayHelp
	case 'i':
		l.login = true
	case 'K', 'k':
		if l.action == sudoExec {
			l.action = sudoForget
		}
	case 'l':
		l.action = sudoList
	case 's':
		l.shell = true
	case 'V':
		l.action = sudoSayVersion
	case 'v':
		l.action = sudoAllowed
	default:
		return fmt.Errorf("invalid option -- '%c'", c)
	}
	return nil
}

func (l *sudoCommandLine) value(c byte, value string) error {
	if value == "" && c != 'p' {
		return fmt.Errorf("option requires an argument -- '%c'", c)
	}
	switch c {
	case 'D':
		l.chdir = value
	case 'g':
		l.group = value
	case 'u':
		l.user = value
	}
	return nil
}

// errNoCommand says that nothing was asked for.
var errNoCommand = errors.New("no command")

// check looks at the whole of the line.
func (l *sudoCommandLine) check() error {
	if l.login && l.shell {
		return errors.New("you may not specify both the -i and -s options")
	}
	if l.action == sudoForget && (len(l.command) > 0 || l.login || l.shell) {
		l.action = sudoExec // -k beside a command is the command's
	}
	if l.action == sudoExec && len(l.command) == 0 && !l.login && !l.shell {
		return errNoCommand
	}
	return nil
}
