package slicer

// GiB returns gb gibibytes in bytes, for fields such as
// [SlicerCreateNodeRequest.RamBytes].
func GiB(gb int64) int64 {
	return gb << 30
}

// MiB returns mb mebibytes in bytes.
func MiB(mb int64) int64 {
	return mb << 20
}
