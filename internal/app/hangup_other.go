//go:build !unix

package app

import "io"

// hungUp returns nil: this system doesn't tell whether the other end of a pipe
// has been closed before something is written to it.
func hungUp(io.Writer) func() bool { return nil }
