package tools

import (
	"context"
	"fmt"
	"strings"
	"time"
)

var _ = define(Tool{
	Name:        "list_secrets",
	Title:       "List secrets",
	Description: "List the secrets that microVMs get as files under /run/slicer/secrets: name, size, mode and owner, never a value.",
	Toolset:     toolsetSecrets,
	Effect:      Reads,
}, (*Toolset).listSecrets)

type listSecretsInput struct{}

// secretRecord is a secret as answers show it.
type secretRecord struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Bytes    int64  `json:"bytes"`
	Mode     string `json:"mode"`
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Modified string `json:"modified,omitempty"`
}

func (r secretRecord) String() string {
	line := fmt.Sprintf("%s, %s, mode %s, uid %d, gid %d", r.Path, count(r.Bytes, "byte"), r.Mode, r.UID, r.GID)
	if r.Modified != "" {
		line += ", modified " + r.Modified
	}
	return line
}

// secretList is list_secrets's answer.
type secretList struct {
	Secrets []secretRecord `json:"secrets"`
	Hidden  int            `json:"hidden,omitempty"` // secrets that are not listed
}

// secretPath is where a VM finds a secret.
const secretPath = "/run/slicer/secrets/"

func (t *Toolset) listSecrets(ctx context.Context, _ listSecretsInput) (Result, error) {
	secrets, err := t.client.ListSecrets(ctx)
	if err != nil {
		return Result{}, err
	}
	list := secretList{Secrets: []secretRecord{}}
	for _, s := range secrets {
		if len(list.Secrets) == mostListed {
			list.Hidden++
			continue
		}
		rec := secretRecord{
			Name: oneLine(s.Name, 253), Bytes: s.Size, Mode: oneLine(s.Permissions, 16), UID: s.UID, GID: s.GID,
		}
		rec.Path = secretPath + rec.Name
		if s.ModifiedAt != nil && !s.ModifiedAt.IsZero() {
			rec.Modified = s.ModifiedAt.UTC().Format(time.RFC3339)
		}
		list.Secrets = append(list.Secrets, rec)
	}

	var text strings.Builder
	text.WriteString(count(int64(len(secrets)), "secret") + ".")
	for _, rec := range list.Secrets {
		fmt.Fprintf(&text, "\n%s", rec)
	}
	if list.Hidden > 0 {
		fmt.Fprintf(&text, "\n%s not shown.", count(int64(list.Hidden), "more secret"))
	}
	return Result{Text: text.String(), Record: list}, nil
}
