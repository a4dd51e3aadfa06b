package app

import (
	"context"
	"net/http"
)

// What tests reach of the inside.
var (
	ReadGroups    = readGroups
	ImageName     = imageName
	ListenSocket  = listenSocket
	NewRedactable = newRedactable
)

// ImportKeys fetches a user's keys from base instead of GitHub, over the
// transport that it needs.
func ImportKeys(ctx context.Context, base string, transport http.RoundTripper, user string) ([]string, error) {
	s := newKeySource()
	s.base, s.http.Transport = base, transport
	return s.keys(ctx, user)
}
