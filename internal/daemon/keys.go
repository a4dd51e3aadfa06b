package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxKeys     = 100
	maxKeyBytes = 16 << 10

	// maxKeysFile is how large the file may be to which keys are added.
	maxKeysFile = 4 << 20

	// importTimeout bounds the search for the keys of an import_user.
	importTimeout = 10 * time.Second
)

// The file whose keys let somebody in as the guest's ordinary user.
const (
	keysDir  = userHome + "/.ssh"
	keysFile = keysDir + "/authorized_keys"
)

// checkKeys returns the keys of a create call as lines, a key each.
func checkKeys(keys []string) ([]string, error) {
	if len(keys) > maxKeys {
		return nil, refuse(http.StatusBadRequest, "%d ssh_keys are more than the limit, which is %d", len(keys), maxKeys)
	}
	var lines []string
	for i, key := range keys {
		line, err := keyLine(key)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "ssh_keys entry %d %v", i+1, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// keyLine is a public key as a line, without its end, which files with a key
// have.
func keyLine(key string) (string, error) {
	line := strings.TrimSuffix(strings.TrimSuffix(key, "\n"), "\r")
	switch {
	case len(line) > maxKeyBytes:
		return "", fmt.Errorf("is longer than %d bytes", maxKeyBytes)
	case !printable(strings.ReplaceAll(line, "\t", " ")):
		return "", errors.New("is not one line of text")
	case strings.HasPrefix(strings.TrimSpace(line), "#") || len(strings.Fields(line)) < 2:
		return "", errors.New(`is no public key, such as "ssh-ed25519 AAAA… comment"`)
	}
	return line, nil
}

// authorize lets the keys in, beside those that are let in already.
func (v *vm) authorize(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	files := v.files()
	if err := files.Mkdir(ctx, keysDir, FileAttr{Mode: 0o700}, true); err != nil {
		return fmt.Errorf("make %s: %w", keysDir, err)
	}
	text, err := readKeys(ctx, files)
	if err != nil {
		return fmt.Errorf("read %s: %w", keysFile, err)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, key := range keys {
		if !slices.Contains(strings.Split(text, "\n"), key) {
			text += key + "\n"
		}
	}
	f, err := files.Create(ctx, keysFile, FileAttr{Mode: 0o600})
	if err != nil {
		return fmt.Errorf("write %s: %w", keysFile, err)
	}
	defer f.Abort()
	if _, err := io.WriteString(f, text); err != nil {
		return fmt.Errorf("write %s: %w", keysFile, err)
	}
	if err := f.Commit(); err != nil {
		return fmt.Errorf("write %s: %w", keysFile, err)
	}
	return nil
}

// readKeys returns the file of keys, "" when there is none.
func readKeys(ctx context.Context, files FileTree) (string, error) {
	f, _, err := files.Open(ctx, keysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeysFile+1))
	if err == nil && len(text) > maxKeysFile {
		err = fmt.Errorf("it is larger than %d bytes", maxKeysFile)
	}
	return string(text), err
}

// gitHubUser has what a name at GitHub can have, but for the length.
var gitHubUser = regexp.MustCompile(`^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`)

func checkImportUser(user string) error {
	if user != "" && (len(user) > 39 || !gitHubUser.MatchString(user)) {
		return refuse(http.StatusBadRequest, "import_user must be 1 to 39 letters, digits and inner hyphens, not %.50q", user)
	}
	return nil
}

// importUser lets a user's keys in, if they can be had. If not, the VM's
// console and the log say so.
func (d *Daemon) importUser(ctx context.Context, v *vm, user string) {
	limit := importTimeout
	if at, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(at)/2) // the VM must be ready in time without the keys as well
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("there was no answer within %s", limit.Round(time.Millisecond)))
	defer cancel()
	n, err := d.importAll(ctx, v, user)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		v.console.line("slicer: import_user %s: no key was imported: %s", user, oneLine(err.Error()))
		d.log.Error("SSH keys could not be imported", "vm", v.hostname, "import_user", user, "err", err)
		return
	}
	v.console.line("slicer: import_user %s: %d SSH keys", user, n)
}

func (d *Daemon) importAll(ctx context.Context, v *vm, user string) (int, error) {
	if d.importKeys == nil {
		return 0, errors.New("this daemon can't look up users' keys")
	}
	keys, err := d.importKeys(ctx, user)
	if err != nil {
		return 0, err
	}
	if len(keys) > maxKeys {
		return 0, fmt.Errorf("%d keys are more than the limit, which is %d", len(keys), maxKeys)
	}
	for i, key := range keys {
		if keys[i], err = keyLine(key); err != nil {
			return 0, fmt.Errorf("key %d %w", i+1, err)
		}
	}
	return len(keys), v.authorize(ctx, keys)
}

// oneLine is text of somebody else's as part of a line.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text[:min(len(text), 1000)])
}
