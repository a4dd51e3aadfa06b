package tools

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var updateSecretTool = Tool{
	Name:        "update_secret",
	Title:       "Update a secret",
	Description: "Update a secret's value, mode or owner; what is left out stays. Running microVMs get it at once; the old value is lost.",
	Toolset:     toolsetSecrets,
	Effect:      Destroys,
}

var _ = define(takingValues(updateSecretTool, (*Toolset).updateSecretOfValue), (*Toolset).updateSecret)

type updateSecretInput struct {
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"The secret"`
	secretSource
	Mode string `json:"mode,omitempty" jsonschema:"maxLength=4" jsonschema_description:"Octal, of its file"`
	User string `json:"user,omitempty" jsonschema:"maxLength=32" jsonschema_description:"Owner: ubuntu or a uid"`
}

type updateSecretOfValueInput struct {
	updateSecretInput
	valueArgument
}

func (t *Toolset) updateSecret(ctx context.Context, in updateSecretInput) (Result, error) {
	return t.updateSecretOfValue(ctx, updateSecretOfValueInput{updateSecretInput: in})
}

func (t *Toolset) updateSecretOfValue(ctx context.Context, in updateSecretOfValueInput) (Result, error) {
	if err := checkSecretName(in.Name); err != nil {
		return Result{}, err
	}
	req, err := secretChange(in.updateSecretInput)
	if err != nil {
		return Result{}, err
	}
	value, from, err := t.secretValue(in.secretSource, in.Value)
	if err != nil {
		return Result{}, err
	}
	if from == "" && in.Mode == "" && in.User == "" {
		return Result{}, refuse("update_secret needs something to change. Give one of %s, or mode, or user.", t.sourceNames())
	}
	var known *knownSecret
	if from != "" {
		if known, err = t.learn(in.Name, value, from); err != nil {
			return Result{}, err
		}
		req.Data = value
	}
	err = t.client.PatchSecret(ctx, in.Name, req)
	if known != nil {
		t.settle(known, err)
	}
	if slicer.IsAPIStatus(err, http.StatusNotFound) {
		return Result{}, t.noSecret(ctx, in.Name)
	}
	if err != nil {
		return Result{}, err
	}
	rec := secretSet{Name: in.Name, Path: secretPath + in.Name, Source: from, Bytes: len(value), Mode: req.Permissions, User: in.User}
	return Result{Text: rec.updated(), Record: rec}, nil
}

// secretChange is what an update changes beside the value.
func secretChange(in updateSecretInput) (req slicer.UpdateSecretRequest, err error) {
	if in.Mode != "" {
		if req.Permissions, err = parseMode(in.Mode); err != nil {
			return req, err
		}
	}
	if in.User == "" {
		return req, nil
	}
	if req.UID, req.GID, err = secretOwner(in.User); err != nil {
		return req, err
	}
	if req.UID == 0 {
		return req, refuse("user %s can't be set by an update: the API takes no change of owner to root. Delete the secret with delete_secret and create it again with user=%q.", quote(in.User), "root")
	}
	return req, nil
}

func (r secretSet) updated() string {
	var changes []string
	if r.Source != "" {
		changes = append(changes, fmt.Sprintf("a new value from %s (%s)", r.Source, count(int64(r.Bytes), "byte")))
	}
	if r.Mode != "" {
		changes = append(changes, "mode "+r.Mode)
	}
	if r.User != "" {
		changes = append(changes, "owner "+r.User)
	}
	return fmt.Sprintf("Secret %s is updated: %s. VMs find it at %s.", r.Name, strings.Join(changes, ", "), r.Path)
}

// noSecret says that there is no such secret, and which may be meant.
func (t *Toolset) noSecret(ctx context.Context, name string) error {
	text := fmt.Sprintf("there is no secret named %s.", quote(name))
	secrets, err := t.client.ListSecrets(ctx)
	if err == nil {
		var names []string
		for _, s := range secrets {
			names = append(names, s.Name)
		}
		if near := nearest(name, names); near != "" {
			text += " Did you mean " + quote(near) + "?"
		}
	}
	return refuse("%s Call list_secrets to see which there are, or create_secret for a new one.", text)
}
