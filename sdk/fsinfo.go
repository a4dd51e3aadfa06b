package slicer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"time"
)

// The types of a SlicerFSInfo.
const (
	typeFile      = "file"
	typeDirectory = "directory"
	typeSymlink   = "symlink"
)

// SlicerFSInfo describes a file, folder or symlink of a VM.
type SlicerFSInfo struct {
	Name string `json:"name"` // the last part of its path
	Type string `json:"type"` // "file", "directory" or "symlink"
	Size int64  `json:"size"` // bytes

	// ModTime is when it was last changed. It is read from RFC 3339 and from
	// seconds since 1970, and zero if the daemon doesn't say.
	ModTime time.Time `json:"mtime"`

	Mode string `json:"mode"` // permission bits in octal ("0644"); FileMode reads it
}

// UnmarshalJSON reads a file as a daemon describes it; the time has two forms.
func (i *SlicerFSInfo) UnmarshalJSON(data []byte) error {
	type fields SlicerFSInfo
	wire := struct {
		*fields
		ModTime wireTime `json:"mtime"`
	}{fields: (*fields)(i)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	i.ModTime = time.Time(wire.ModTime)
	return nil
}

// IsDir reports whether it is a folder.
func (i *SlicerFSInfo) IsDir() bool { return i.Type == typeDirectory }

// FileMode returns its type and permission bits. Where the daemon names no
// permissions they are 0644, and 0755 for a folder.
func (i *SlicerFSInfo) FileMode() fs.FileMode {
	mode, ok := permissionBits(i.Mode)
	switch i.Type {
	case typeDirectory:
		if !ok {
			mode = 0o755
		}
		return fs.ModeDir | mode
	case typeSymlink:
		mode |= fs.ModeSymlink
	}
	if !ok {
		mode |= defaultFileMode
	}
	return mode
}

// FileInfo returns the description in the form of package io/fs. Its Sys is i.
func (i *SlicerFSInfo) FileInfo() fs.FileInfo { return vmFileInfo{i} }

// vmFileInfo is a SlicerFSInfo as an fs.FileInfo.
type vmFileInfo struct{ i *SlicerFSInfo }

func (v vmFileInfo) Name() string       { return v.i.Name }
func (v vmFileInfo) Size() int64        { return v.i.Size }
func (v vmFileInfo) Mode() fs.FileMode  { return v.i.FileMode() }
func (v vmFileInfo) ModTime() time.Time { return v.i.ModTime }
func (v vmFileInfo) IsDir() bool        { return v.i.IsDir() }
func (v vmFileInfo) Sys() any           { return v.i }
func (v vmFileInfo) String() string     { return fs.FormatFileInfo(v) }

// permissionBits reads the permission bits of a mode in octal or as ls writes it
// ("-rw-r--r--").
func permissionBits(mode string) (fs.FileMode, bool) {
	if bits, err := strconv.ParseUint(mode, 8, 32); err == nil {
		return fs.FileMode(bits) & fs.ModePerm, true
	}
	if len(mode) < 10 {
		return 0, false
	}
	var bits fs.FileMode
	for i, letter := range mode[len(mode)-9:] {
		switch letter {
		case rune("rwxrwxrwx"[i]):
			bits |= 1 << (8 - i)
		case '-':
		default:
			return 0, false
		}
	}
	return bits, true
}

// wireTime is a time that is written in RFC 3339 or as seconds since 1970; null
// and "" are the zero time.
type wireTime time.Time

func (t *wireTime) UnmarshalJSON(data []byte) error {
	if text := string(data); text == "null" || text == `""` {
		*t = wireTime{}
		return nil
	}
	if data[0] == '"' {
		return (*time.Time)(t).UnmarshalJSON(data)
	}
	if seconds, err := strconv.ParseInt(string(data), 10, 64); err == nil && inYears(float64(seconds)) {
		*t = wireTime(time.Unix(seconds, 0).UTC())
		return nil
	}
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || !inYears(seconds) {
		return fmt.Errorf("%.40s is not a time", data)
	}
	whole, fraction := math.Modf(seconds)
	*t = wireTime(time.Unix(int64(whole), int64(fraction*1e9)).UTC())
	return nil
}

// inYears reports whether a number of seconds since 1970 lies in the years that
// RFC 3339 can write.
func inYears(seconds float64) bool {
	return seconds >= -62167219200 && seconds < 253402300800
}
