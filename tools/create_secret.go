package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "create_secret",
	Title:       "Create a secret",
	Description: "Create a secret from a host file, so that its value never passes through the conversation. microVMs, running and later ones, get it as the file /run/slicer/secrets/NAME. It stays until the user removes it.",
	Toolset:     toolsetSecrets,
	Effect:      Adds,
}, (*Toolset).createSecret)

type createSecretInput struct {
	Name     string `json:"name" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"Name of the secret and of its file: letters, digits, - _ and ."`
	FromFile string `json:"from_file" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Host file that holds the value, under an allowed folder; taken byte for byte, up to 1 MiB"`
	Mode     string `json:"mode,omitempty" jsonschema:"maxLength=4,default=0600" jsonschema_description:"Octal permissions of the file"`
	User     string `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"Who owns the file: ubuntu, root or a uid"`
}

// createdSecret is create_secret's answer.
type createdSecret struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
	Mode  string `json:"mode"`
	User  string `json:"user"`
}

// What the daemon takes.
const (
	largestSecret    = 1 << 20 // bytes
	largestSecretUID = 65535   // of its file's owner
)

var secretName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func (t *Toolset) createSecret(ctx context.Context, in createSecretInput) (Result, error) {
	if !secretName.MatchString(in.Name) || in.Name == "." || in.Name == ".." {
		return Result{}, refuse("name %s can't be used: a secret's name takes letters, digits, - _ and .", quote(in.Name))
	}
	mode, err := parseMode(in.Mode)
	if err != nil {
		return Result{}, err
	}
	uid, gid, err := parseUser(in.User)
	if err != nil {
		return Result{}, err
	}
	switch {
	case uid == slicer.NonRootUser:
		uid, gid = ordinaryUID, ordinaryUID
	case uid > largestSecretUID:
		return Result{}, refuse("user %s can't own a secret: a uid goes up to %d. Use ubuntu, root or a smaller uid.", quote(in.User), largestSecretUID)
	case gid == slicer.NonRootUser:
		gid = uid
	}
	value, err := t.readSecret(in.FromFile)
	if err != nil {
		return Result{}, err
	}
	err = t.client.CreateSecret(ctx, slicer.CreateSecretRequest{Name: in.Name, Data: string(value), Permissions: mode, UID: uid, GID: gid})
	if errors.Is(err, slicer.ErrSecretExists) {
		return Result{}, refuse("a secret named %s exists already, and was left as it is. Use it, choose another name, or ask the user to remove it; list_secrets shows it.", quote(in.Name))
	}
	if err != nil {
		return Result{}, err
	}
	rec := createdSecret{Name: in.Name, Path: secretPath + in.Name, Bytes: len(value), Mode: mode, User: in.User}
	return Result{
		Text:   fmt.Sprintf("Secret %s is created: VMs find it at %s (%s, mode %s, owner %s).", rec.Name, rec.Path, count(int64(rec.Bytes), "byte"), rec.Mode, rec.User),
		Record: rec,
	}, nil
}

// readSecret reads a host file under a root whole.
func (t *Toolset) readSecret(path string) ([]byte, error) {
	e, err := t.roots.open("from_file", path)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if e.dir != nil {
		return nil, refuse("from_file %s is a folder; name the file that holds the value.", quote(path))
	}
	value, err := io.ReadAll(io.LimitReader(e.file, largestSecret+1))
	switch {
	case err != nil:
		return nil, t.roots.refusal("from_file", path)
	case len(value) > largestSecret:
		return nil, refuse("from_file %s is larger than a secret may be, which is 1 MiB.", quote(path))
	case len(value) == 0:
		return nil, refuse("from_file %s is empty, so there is no value to keep.", quote(path))
	}
	return value, nil
}

// parseMode reads an octal permission and writes it with four digits.
func parseMode(mode string) (string, error) {
	n, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || n > 0o777 {
		return "", refuse("mode %s can't be used: it is octal permissions from 0000 to 0777, such as 0600.", quote(mode))
	}
	return fmt.Sprintf("%04o", n), nil
}
