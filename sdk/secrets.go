package slicer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ErrSecretExists is what CreateSecret returns when there is a secret of that
// name already.
var ErrSecretExists = errors.New("secret already exists")

// Secret describes a secret; its value never leaves the daemon but as a file
// under /run/slicer/secrets in a VM.
type Secret struct {
	Name        string `json:"name"`
	Size        int64  `json:"size"`          // length of the value in bytes
	Permissions string `json:"permissions"`   // of the file in a VM, in octal: "0600"
	UID         uint32 `json:"uid,omitempty"` // owner of the file in a VM; 0 is root
	GID         uint32 `json:"gid,omitempty"` // group of the file in a VM; 0 is root

	// ModifiedAt is when the secret was last changed, nil if the daemon
	// doesn't say. It is read from modified_at or mod_time.
	ModifiedAt *time.Time `json:"modified_at,omitempty"`
}

// UnmarshalJSON reads a secret as a daemon describes it; the time of its last
// change goes by two names.
func (s *Secret) UnmarshalJSON(data []byte) error {
	type fields Secret
	wire := struct {
		*fields
		ModifiedAt wireTime `json:"modified_at"`
		ModTime    wireTime `json:"mod_time"`
	}{fields: (*fields)(s)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	s.ModifiedAt = nil
	for _, at := range []time.Time{time.Time(wire.ModifiedAt), time.Time(wire.ModTime)} {
		if !at.IsZero() {
			s.ModifiedAt = &at
			break
		}
	}
	return nil
}

// CreateSecretRequest describes a secret to create.
type CreateSecretRequest struct {
	// Name of the secret and of its file in a VM.
	Name string `json:"name"`

	// Data is the value as it is to stand in the file. CreateSecret encodes
	// it for the wire.
	Data string `json:"data"`

	// Permissions of the file in octal; "" is the daemon's default, 0600.
	Permissions string `json:"permissions,omitempty"`

	// UID owns the file; 0 is root. NonRootUser leaves the choice to the
	// daemon.
	UID uint32 `json:"uid,omitempty"`

	// GID is the file's group; 0 is root. NonRootUser leaves the choice to
	// the daemon.
	GID uint32 `json:"gid,omitempty"`
}

// UpdateSecretRequest describes a change to a secret. A field left at its zero
// value is not sent and so not changed: a secret can't be made empty and its
// owner can't be set back to root by a request.
type UpdateSecretRequest struct {
	// Data is the new value as it is to stand in the file. PatchSecret
	// encodes it for the wire.
	Data string `json:"data"`

	// Permissions of the file in octal.
	Permissions string `json:"permissions,omitempty"`

	// UID is to own the file; 0 leaves the owner as it is. NonRootUser is not sent either.
	UID uint32 `json:"uid,omitempty"`

	// GID is to be the file's group; 0 leaves the group as it is. NonRootUser is not sent either.
	GID uint32 `json:"gid,omitempty"`
}

// secretWire is what a create or update call sends: the value in base64, and
// nothing that isn't meant to be set.
type secretWire struct {
	Name        string  `json:"name,omitempty"`
	Data        *string `json:"data,omitempty"`
	Permissions string  `json:"permissions,omitempty"`
	UID         *uint32 `json:"uid,omitempty"`
	GID         *uint32 `json:"gid,omitempty"`
}

// CreateSecret creates a secret (POST /secrets). It returns ErrSecretExists if
// there is one of that name.
func (c *SlicerClient) CreateSecret(ctx context.Context, request CreateSecretRequest) error {
	if request.Name == "" {
		return errors.New("create secret: a name is required")
	}
	data := base64.StdEncoding.EncodeToString([]byte(request.Data))
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"secrets"},
		json: secretWire{
			Name: request.Name, Data: &data, Permissions: request.Permissions,
			UID: idOrNil(request.UID), GID: idOrNil(request.GID),
		},
		hidden: []string{data, request.Data}, prompt: true,
	}, nil)
	if IsAPIStatus(err, http.StatusConflict) {
		return ErrSecretExists
	}
	if err != nil {
		return fmt.Errorf("create secret %q: %w", request.Name, err)
	}
	return nil
}

// ListSecrets describes all secrets, without their values (GET /secrets).
func (c *SlicerClient) ListSecrets(ctx context.Context) ([]Secret, error) {
	var secrets []Secret
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"secrets"}, prompt: true,
	}, &secrets)
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	return secrets, nil
}

// PatchSecret changes a secret's value, permissions or owner (PATCH
// /secrets/{name}); what request leaves zero stays as it is.
func (c *SlicerClient) PatchSecret(ctx context.Context, secretName string, request UpdateSecretRequest) error {
	wire := secretWire{Permissions: request.Permissions}
	if request.UID != 0 {
		wire.UID = idOrNil(request.UID)
	}
	if request.GID != 0 {
		wire.GID = idOrNil(request.GID)
	}
	var hidden []string
	if request.Data != "" {
		data := base64.StdEncoding.EncodeToString([]byte(request.Data))
		wire.Data = &data
		hidden = []string{data, request.Data}
	}
	err := c.call(ctx, apiRequest{
		method: http.MethodPatch, path: []string{"secrets", secretName}, json: wire, hidden: hidden, prompt: true,
	}, nil)
	if err != nil {
		return fmt.Errorf("update secret %q: %w", secretName, err)
	}
	return nil
}

// DeleteSecret removes a secret (DELETE /secrets/{name}).
func (c *SlicerClient) DeleteSecret(ctx context.Context, secretName string) error {
	err := c.call(ctx, apiRequest{method: http.MethodDelete, path: []string{"secrets", secretName}, prompt: true}, nil)
	if err != nil {
		return fmt.Errorf("delete secret %q: %w", secretName, err)
	}
	return nil
}

// idOrNil turns the sentinel that is never sent into what omitempty leaves out.
func idOrNil(id uint32) *uint32 {
	if id == NonRootUser {
		return nil
	}
	return &id
}
