package tools

import (
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// What the daemon takes.
const (
	largestSecret    = 1 << 20 // bytes
	largestSecretUID = 65535   // of its file's owner
)

// secretSources is where the values of secrets may come from, beside host files
// and chance.
type secretSources struct {
	env    []string // names of variables
	getenv func(string) string
	values bool // an argument may hold a value
}

func newSecretSources(cfg Config) secretSources {
	s := secretSources{env: cfg.SecretEnv, getenv: cfg.Getenv, values: cfg.AllowSecretValues}
	if s.getenv == nil {
		s.getenv = func(string) string { return "" }
	}
	return s
}

// knownAtStart knows the values that cfg names and those of the variables that
// secrets may be made from. One that is too short to be told from ordinary text
// is left out; it can't be made a secret either.
func knownAtStart(cfg Config) *redactor {
	r := newRedactor()
	for name, value := range cfg.Known {
		_, _ = r.learn(name, value)
	}
	s := newSecretSources(cfg)
	for _, name := range s.env {
		_, _ = r.learn(name, s.getenv(name))
	}
	return r
}

// secretSource is embedded by the inputs of tools that set a secret. At most one
// field is set.
type secretSource struct {
	FromEnv  string `json:"from_env,omitempty" jsonschema:"minLength=1,maxLength=253" jsonschema_description:"A variable that the operator allowed"`
	FromFile string `json:"from_file,omitempty" jsonschema:"minLength=1,maxLength=4096" jsonschema_description:"Host file under an allowed folder"`
	Generate int    `json:"generate,omitempty" jsonschema:"minimum=8,maximum=512" jsonschema_description:"Length of a random value"`
}

// valueArgument is embedded where the operator lets values pass through the
// model.
type valueArgument struct {
	Value string `json:"value,omitempty" jsonschema:"minLength=1,maxLength=1048576" jsonschema_description:"The value itself. It stays in the conversation; prefer the other sources"`
}

// given lists the sources that are set.
func (s secretSource) given(value string) []string {
	var names []string
	for _, source := range []struct {
		name string
		set  bool
	}{{"from_env", s.FromEnv != ""}, {"from_file", s.FromFile != ""}, {"generate", s.Generate != 0}, {"value", value != ""}} {
		if source.set {
			names = append(names, source.name)
		}
	}
	return names
}

// sourceNames are the sources that a call may choose from.
func (t *Toolset) sourceNames() string {
	if t.secrets.values {
		return "from_env, from_file, generate or value"
	}
	return "from_env, from_file or generate"
}

// secretValue finds the value that a call names, and what it came from. None is
// "" without an error.
func (t *Toolset) secretValue(s secretSource, value string) (found, from string, err error) {
	given := s.given(value)
	if len(given) > 1 {
		return "", "", refuse("%s are given, and a secret has one value. Give exactly one of %s.", strings.Join(given, " and "), t.sourceNames())
	}
	switch {
	case s.FromEnv != "":
		found, err = t.fromEnv(s.FromEnv)
	case s.FromFile != "":
		found, err = t.fromFile(s.FromFile)
	case s.Generate != 0:
		found = randomValue(s.Generate)
	default:
		found = value
	}
	if err != nil || len(given) == 0 {
		return "", "", err
	}
	return found, given[0], nil
}

// fromEnv reads a variable that the operator allowed.
func (t *Toolset) fromEnv(name string) (string, error) {
	if !slices.Contains(t.secrets.env, name) {
		allowed := "None are allowed"
		if len(t.secrets.env) > 0 {
			var names []string
			for _, n := range t.secrets.env {
				names = append(names, quote(n))
			}
			allowed = "Allowed: " + strings.Join(names, ", ")
		}
		return "", refuse("from_env %s can't be used: the operator has not allowed it, whether it is set or not. %s; another needs the user to start this server with --secret-env NAME.", quote(name), allowed)
	}
	value := t.secrets.getenv(name)
	if value == "" {
		return "", refuse("from_env %s is allowed, but it is not set or empty in this server's environment. Ask the user to set it and to restart the server.", quote(name))
	}
	if len(value) > largestSecret {
		return "", refuse("from_env %s is larger than a secret may be, which is 1 MiB.", quote(name))
	}
	return value, nil
}

// fromFile reads a host file under a root whole.
func (t *Toolset) fromFile(path string) (string, error) {
	e, err := t.roots.open("from_file", path)
	if err != nil {
		return "", err
	}
	defer e.Close()
	if e.dir != nil {
		return "", refuse("from_file %s is a folder; name the file that holds the value.", quote(path))
	}
	value, err := io.ReadAll(io.LimitReader(e.file, largestSecret+1))
	switch {
	case err != nil:
		return "", t.roots.refusal("from_file", path)
	case len(value) > largestSecret:
		return "", refuse("from_file %s is larger than a secret may be, which is 1 MiB.", quote(path))
	case len(value) == 0:
		return "", refuse("from_file %s is empty, so there is no value to keep.", quote(path))
	}
	return string(value), nil
}

// randomValue is n random characters of the URL-safe alphabet.
func randomValue(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never returns an error
	for i := range b {
		b[i] = alphabet[b[i]%byte(len(alphabet))]
	}
	return string(b)
}

// learn makes the redactor know a value before the daemon does. from is where
// it came from.
func (t *Toolset) learn(name, value, from string) (*knownSecret, error) {
	k, err := t.redactor.learn(name, value)
	switch {
	case errors.Is(err, errShortSecret):
		return nil, refuse("the value of %s has fewer than %d characters beside white space, and so short a one can't be kept out of answers and logs. Nothing was set. Use a longer value, such as generate=32.", from, shortestSecret)
	case err != nil:
		return nil, refuse("the value of %s can't be used: this server keeps at most %d values of %d MiB in all out of its answers. Nothing was set. Delete secrets that aren't needed with delete_secret, or use a smaller value.", from, mostKnown, mostKnownBytes>>20)
	}
	return k, nil
}

// settle notes whether the daemon took a value. When that isn't known it may
// have.
func (t *Toolset) settle(k *knownSecret, err error) {
	var api *slicer.APIError
	switch {
	case err == nil:
		t.redactor.settle(k, true)
	case errors.Is(err, slicer.ErrSecretExists), errors.As(err, &api) && api.StatusCode < 500:
		t.redactor.settle(k, false)
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func checkSecretName(name string) error {
	if !secretName.MatchString(name) || name == "." || name == ".." {
		return refuse("name %s can't be used: a secret's name takes letters, digits, - _ and .", quote(name))
	}
	return nil
}

// secretOwner reads the argument user of a secret's file.
func secretOwner(user string) (uid, gid uint32, err error) {
	uid, gid, err = parseUser(user)
	switch {
	case err != nil:
		return 0, 0, err
	case uid == slicer.NonRootUser:
		return ordinaryUID, ordinaryUID, nil
	case uid > largestSecretUID:
		return 0, 0, refuse("user %s can't own a secret: a uid goes up to %d. Use ubuntu, root or a smaller uid.", quote(user), largestSecretUID)
	case gid == slicer.NonRootUser:
		gid = uid
	}
	return uid, gid, nil
}
