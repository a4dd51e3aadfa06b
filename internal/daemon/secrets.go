package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	maxSecretBytes  = 1 << 20
	maxSecrets      = 1000
	maxSecretsBytes = 16 << 20 // all of them together
	secretMode      = 0o600
	maxSecretID     = 65535 // of a user or group; guests need not have more
	pushTimeout     = 10 * time.Second
)

var secretName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

// secret is one secret; it is never changed, only replaced.
type secret struct {
	file    SecretFile
	version uint64 // no two secrets that ever were share one
	modTime time.Time
}

// secretStore holds the daemon's secrets in memory.
type secretStore struct {
	mu      sync.Mutex
	secrets map[string]secret
	version uint64
	bytes   int
}

func newSecretStore() *secretStore {
	return &secretStore{secrets: make(map[string]secret)}
}

// count is how many secrets there are.
func (s *secretStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.secrets)
}

// check refuses names that are not all secrets.
func (s *secretStore) check(names []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if _, ok := s.secrets[name]; !ok {
			return refuse(http.StatusBadRequest, "no secret named %q", name)
		}
	}
	return nil
}

// granted returns the secrets among grants by name, all of them when grants
// is nil, and their versions.
func (s *secretStore) granted(grants []string) ([]SecretFile, map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []SecretFile
	versions := make(map[string]uint64)
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		if grants == nil || slices.Contains(grants, name) {
			files = append(files, s.secrets[name].file)
			versions[name] = s.secrets[name].version
		}
	}
	return files, versions
}

// change replaces the secret called name by what edit makes of it; exists
// tells edit whether there is one. It returns the new one.
func (s *secretStore) change(name string, edit func(old SecretFile, exists bool) (SecretFile, error)) (secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists := s.secrets[name]
	file, err := edit(old.file, exists)
	if err != nil {
		return secret{}, err
	}
	total := s.bytes - len(old.file.Data) + len(file.Data)
	if total > maxSecretsBytes || !exists && len(s.secrets) >= maxSecrets {
		return secret{}, refuse(http.StatusInsufficientStorage, "the secrets' limit is reached: %d secrets, %d bytes", maxSecrets, maxSecretsBytes)
	}
	s.bytes = total
	s.version++
	changed := secret{file: file, version: s.version, modTime: time.Now().UTC()}
	s.secrets[name] = changed
	return changed, nil
}

// remove forgets the secret called name; it reports whether there was one.
func (s *secretStore) remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.secrets[name]
	s.bytes -= len(old.file.Data)
	delete(s.secrets, name)
	return ok
}

// pushSecrets brings v's guest what changed since it was last told. A paused
// VM gets it when it is resumed.
func (d *Daemon) pushSecrets(ctx context.Context, v *vm) {
	v.pushMu.Lock()
	defer v.pushMu.Unlock()
	if isClosed(v.over) {
		return // a relaunch brings all
	}
	files, versions := d.secrets.granted(v.grants)
	for _, file := range files {
		if v.pushed[file.Name] == versions[file.Name] || !v.gate.tryEnter() {
			continue
		}
		err := v.guest.PutSecret(ctx, file)
		v.gate.leave()
		if err != nil {
			d.logPush(v, file.Name, err)
			continue
		}
		v.pushed[file.Name] = versions[file.Name]
	}
	for name := range v.pushed {
		if _, ok := versions[name]; ok || !v.gate.tryEnter() {
			continue
		}
		err := v.guest.RemoveSecret(ctx, name)
		v.gate.leave()
		if err != nil {
			d.logPush(v, name, err)
			continue
		}
		delete(v.pushed, name)
	}
}

// logPush tells of a secret that a guest could not be told of, unless that is
// because the guest is ending. It is tried again at the next change.
func (d *Daemon) logPush(v *vm, name string, err error) {
	if !isClosed(v.over) && !errors.Is(err, ErrEnded) {
		d.log.Error("secret could not be brought to a VM", "vm", v.hostname, "secret", name, "err", err)
	}
}

// pushAll brings every running guest what changed.
func (d *Daemon) pushAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(parallelPushes)
	for _, v := range d.vms.list() {
		group.Go(func() error {
			ctx, unbind := bind(ctx, v.over, errGone, nil)
			defer unbind()
			d.pushSecrets(ctx, v)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
}

type secretJSON struct {
	Name        string    `json:"name"`
	Size        int       `json:"size"`
	Permissions string    `json:"permissions"`
	UID         uint32    `json:"uid"`
	GID         uint32    `json:"gid"`
	ModTime     time.Time `json:"mod_time"`
}

func (s secret) json() secretJSON {
	return secretJSON{
		Name: s.file.Name, Size: len(s.file.Data), Permissions: octal(s.file.Mode),
		UID: s.file.UID, GID: s.file.GID, ModTime: s.modTime,
	}
}

func octal(mode fs.FileMode) string { return fmt.Sprintf("%04o", mode.Perm()) }

// listSecrets serves GET /secrets.
func (d *Daemon) listSecrets(w http.ResponseWriter, _ *http.Request, _ query) error {
	d.secrets.mu.Lock()
	list := make([]secretJSON, 0, len(d.secrets.secrets))
	for _, s := range d.secrets.secrets {
		list = append(list, s.json())
	}
	d.secrets.mu.Unlock()
	slices.SortFunc(list, func(a, b secretJSON) int { return strings.Compare(a.Name, b.Name) })
	return writeJSON(w, http.StatusOK, list)
}

// secretBody is the body of a create or patch call; nil is not given.
type secretBody struct {
	Name        *string `json:"name"`
	Data        *string `json:"data"`
	Permissions string  `json:"permissions"`
	UID         *uint32 `json:"uid"`
	GID         *uint32 `json:"gid"`
}

// apply puts what the body gives into file.
func (b *secretBody) apply(file *SecretFile) error {
	mode, err := parsePermissions("permissions", b.Permissions)
	if err != nil {
		return err
	}
	if mode != 0 {
		file.Mode = mode
	}
	for _, id := range []struct {
		name string
		want *uint32
		into *uint32
	}{{"uid", b.UID, &file.UID}, {"gid", b.GID, &file.GID}} {
		switch {
		case id.want == nil:
		case *id.want > maxSecretID:
			return refuse(http.StatusBadRequest, "%s must be a number from 0 to %d, not %d", id.name, maxSecretID, *id.want)
		default:
			*id.into = *id.want
		}
	}
	if b.Data == nil {
		return nil
	}
	// The decoder skips line breaks, which are no base64 either.
	data, err := base64.StdEncoding.Strict().DecodeString(*b.Data)
	if err != nil || strings.ContainsAny(*b.Data, "\r\n") {
		return refuse(http.StatusBadRequest, "data is not base64")
	}
	if len(data) > maxSecretBytes {
		return refuse(http.StatusBadRequest, "the secret is larger than the limit, which is %d bytes", maxSecretBytes)
	}
	file.Data = data
	return nil
}

// createSecret serves POST /secrets.
func (d *Daemon) createSecret(w http.ResponseWriter, r *http.Request, _ query) error {
	var body secretBody
	if err := readJSON(w, r, maxJSONData, &body); err != nil {
		return err
	}
	switch {
	case body.Name == nil:
		return refuse(http.StatusBadRequest, "name is required")
	case !validSecretName(*body.Name):
		return refuse(http.StatusBadRequest, "name must be 1 to 253 letters, digits, dots, underscores and hyphens, and not . or ..")
	case body.Data == nil:
		return refuse(http.StatusBadRequest, "data is required")
	}
	name := *body.Name
	file := SecretFile{Name: name, Mode: secretMode}
	if err := body.apply(&file); err != nil {
		return err
	}
	made, err := d.secrets.change(name, func(_ SecretFile, exists bool) (SecretFile, error) {
		if exists {
			return SecretFile{}, refuse(http.StatusConflict, "secret %q already exists", name)
		}
		return file, nil
	})
	if err != nil {
		return err
	}
	d.pushAll(r.Context())
	return writeJSON(w, http.StatusCreated, made.json())
}

func validSecretName(name string) bool {
	return secretName.MatchString(name) && name != "." && name != ".."
}

// patchSecret serves PATCH /secrets/{name}: what the body doesn't give, and
// data that is empty, stays as it is.
func (d *Daemon) patchSecret(w http.ResponseWriter, r *http.Request, _ query) error {
	name := r.PathValue("name")
	var body secretBody
	if err := readJSON(w, r, maxJSONData, &body); err != nil {
		return err
	}
	if body.Name != nil && *body.Name != name {
		return refuse(http.StatusBadRequest, "a secret's name can't be changed")
	}
	if body.Data != nil && *body.Data == "" {
		body.Data = nil
	}
	changed, err := d.secrets.change(name, func(file SecretFile, exists bool) (SecretFile, error) {
		if !exists {
			return SecretFile{}, noSuchSecret(name)
		}
		err := body.apply(&file)
		return file, err
	})
	if err != nil {
		return err
	}
	d.pushAll(r.Context())
	return writeJSON(w, http.StatusOK, changed.json())
}

// deleteSecret serves DELETE /secrets/{name}.
func (d *Daemon) deleteSecret(w http.ResponseWriter, r *http.Request, _ query) error {
	name := r.PathValue("name")
	if !d.secrets.remove(name) {
		return noSuchSecret(name)
	}
	d.pushAll(r.Context())
	return writeJSON(w, http.StatusOK, struct {
		Message string `json:"message"`
	}{fmt.Sprintf("secret %q deleted", name)})
}

func noSuchSecret(name string) error {
	return refuse(http.StatusNotFound, "no secret named %q", name)
}
