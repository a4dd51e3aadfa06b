package tools

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "delete_secret",
	Title:       "Delete a secret",
	Description: "Delete a secret for good, from every microVM that has it; the answer says which.",
	Toolset:     toolsetSecrets,
	Effect:      Destroys,
}, (*Toolset).deleteSecret)

type deleteSecretInput struct {
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=253" jsonschema_description:"The secret"`
}

// deletedSecret is delete_secret's answer.
type deletedSecret struct {
	Name    string   `json:"name"`
	LostBy  []string `json:"lost_by"`           // VMs that had it
	Unknown []string `json:"unknown,omitempty"` // VMs that couldn't be asked
}

const (
	// holderTime bounds the look into the VMs, and looksAtOnce how many are
	// looked into at a time.
	holderTime  = 5 * time.Second
	looksAtOnce = 8
)

func (t *Toolset) deleteSecret(ctx context.Context, in deleteSecretInput) (Result, error) {
	if err := checkSecretName(in.Name); err != nil {
		return Result{}, err
	}
	secrets, err := t.client.ListSecrets(ctx)
	if err != nil {
		return Result{}, err
	}
	if !slices.ContainsFunc(secrets, func(s slicer.Secret) bool { return s.Name == in.Name }) {
		return Result{}, t.noSecret(ctx, in.Name)
	}
	rec, err := t.holders(ctx, in.Name)
	if err != nil {
		return Result{}, err
	}
	err = t.client.DeleteSecret(ctx, in.Name)
	if slicer.IsAPIStatus(err, http.StatusNotFound) {
		return Result{}, t.noSecret(ctx, in.Name)
	}
	if err != nil {
		return Result{}, err
	}
	t.redactor.retire(in.Name)
	text := fmt.Sprintf("Secret %s is deleted. ", rec.Name)
	if len(rec.LostBy) == 0 {
		text += "No running VM had it."
	} else {
		text += fmt.Sprintf("%s lost it: %s.", count(int64(len(rec.LostBy)), "VM"), strings.Join(rec.LostBy, ", "))
	}
	if len(rec.Unknown) > 0 {
		text += fmt.Sprintf(" Not known of VMs that don't answer, such as paused ones: %s.", strings.Join(rec.Unknown, ", "))
	}
	return Result{Text: text, Record: rec}, nil
}

// holders looks which VMs have a secret. The API doesn't tell, so each is asked
// for the file.
func (t *Toolset) holders(ctx context.Context, name string) (deletedSecret, error) {
	rec := deletedSecret{Name: name, LostBy: []string{}}
	vms, err := t.client.ListVMs(ctx)
	if err != nil {
		return rec, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(holderTime, t.within(2*killTime)))
	defer cancel()
	const has, hasNot, unknown = 1, 2, 3
	found := make([]int, len(vms))
	var looks sync.WaitGroup
	turns := make(chan struct{}, looksAtOnce)
	for i, vm := range vms {
		turns <- struct{}{}
		looks.Go(func() {
			defer func() { <-turns }()
			there, err := t.client.Exists(ctx, vm.Hostname, secretPath+name)
			switch {
			case err != nil:
				found[i] = unknown
			case there:
				found[i] = has
			default:
				found[i] = hasNot
			}
		})
	}
	looks.Wait()
	for i, vm := range vms {
		switch found[i] {
		case has:
			rec.LostBy = addName(rec.LostBy, vm)
		case unknown:
			rec.Unknown = addName(rec.Unknown, vm)
		}
	}
	return rec, nil
}

// addName adds a VM's name to a list that an answer shows, an ellipsis for the
// first that is too many.
func addName(list []string, vm slicer.SlicerNode) []string {
	switch {
	case len(list) < mostListed:
		return append(list, oneLine(handle(vm), 253))
	case len(list) == mostListed:
		return append(list, "…")
	}
	return list
}
