//go:build !unix

package app

import "context"

// lockFolder does nothing: no VM runs on this system, and so no daemon.
func lockFolder(context.Context, string) (unlock func(), err error) { return func() {}, nil }
