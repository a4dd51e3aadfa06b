//go:build linux && !amd64 && !arm64

package sandbox

// filterCalls does nothing: system calls are filtered on amd64 and arm64.
func filterCalls(idmapKind) error { return nil }
