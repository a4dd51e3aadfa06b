package tools

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var createSecretTool = Tool{
	Name:        "create_secret",
	Title:       "Create a secret",
	Description: "Create a secret from one of from_env, from_file and generate; its value is never shown. microVMs get it as /run/slicer/secrets/NAME.",
	Toolset:     toolsetSecrets,
	Effect:      Adds,
}

var _ = define(takingValues(createSecretTool, (*Toolset).createSecretOfValue), (*Toolset).createSecret)

// takingValues gives tool another form, with a parameter for the value, which
// takes its place where the operator allows that.
func takingValues[In any](tool Tool, handle func(t *Toolset, ctx context.Context, in In) (Result, error)) Tool {
	tool.withValue = new(build(tool, handle))
	return tool
}

type createSecretInput struct {
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"Letters, digits, - _ and ."`
	secretSource
	Mode string `json:"mode,omitempty" jsonschema:"maxLength=4,default=0600" jsonschema_description:"Octal, of its file"`
	User string `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"Owner: ubuntu, root or a uid"`
}

type createSecretOfValueInput struct {
	createSecretInput
	valueArgument
}

// secretSet is what create_secret and update_secret answer. A field that an
// update leaves alone is empty.
type secretSet struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Source string `json:"source,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	Mode   string `json:"mode,omitempty"`
	User   string `json:"user,omitempty"`
}

func (t *Toolset) createSecret(ctx context.Context, in createSecretInput) (Result, error) {
	return t.createSecretOfValue(ctx, createSecretOfValueInput{createSecretInput: in})
}

func (t *Toolset) createSecretOfValue(ctx context.Context, in createSecretOfValueInput) (Result, error) {
	if err := checkSecretName(in.Name); err != nil {
		return Result{}, err
	}
	mode, err := parseMode(in.Mode)
	if err != nil {
		return Result{}, err
	}
	uid, gid, err := secretOwner(in.User)
	if err != nil {
		return Result{}, err
	}
	value, from, err := t.secretValue(in.secretSource, in.Value)
	if err != nil {
		return Result{}, err
	}
	if from == "" {
		return Result{}, refuse("create_secret needs a value. Give exactly one of %s.", t.sourceNames())
	}
	known, err := t.learn(in.Name, value, from)
	if err != nil {
		return Result{}, err
	}
	err = t.client.CreateSecret(ctx, slicer.CreateSecretRequest{Name: in.Name, Data: value, Permissions: mode, UID: uid, GID: gid})
	t.settle(known, err)
	if errors.Is(err, slicer.ErrSecretExists) {
		return Result{}, refuse("a secret named %s exists already, and was left as it is. Use it, choose another name, or change it with update_secret; list_secrets shows it.", quote(in.Name))
	}
	if err != nil {
		return Result{}, err
	}
	rec := secretSet{Name: in.Name, Path: secretPath + in.Name, Source: from, Bytes: len(value), Mode: mode, User: in.User}
	return Result{
		Text: fmt.Sprintf("Secret %s is created from %s: VMs find it at %s (%s, mode %s, owner %s).",
			rec.Name, rec.Source, rec.Path, count(int64(rec.Bytes), "byte"), rec.Mode, rec.User),
		Record: rec,
	}, nil
}

// parseMode reads an octal permission and writes it with four digits.
func parseMode(mode string) (string, error) {
	n, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || n > 0o777 {
		return "", refuse("mode %s can't be used: it is octal permissions from 0000 to 0777, such as 0600.", quote(mode))
	}
	return fmt.Sprintf("%04o", n), nil
}
