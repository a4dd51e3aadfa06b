package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"path"
	"slices"
	"strings"
	"sync"
)

const (
	// mostCopied bounds the files and folders of a copy, mostCopiedNames the
	// bytes of their names.
	mostCopied      = 200_000
	mostCopiedNames = 32 << 20
)

var (
	errManyFiles = errors.New("more files and folders than one copy takes")
	errBigCopy   = errors.New("more bytes than one copy out of a VM takes")
)

// digest makes one checksum of the files of a folder: the SHA-256 of the list of
// their checksums and names, sorted by name, as sha256sum writes it. It is the
// same for a folder and its copy. It is safe for concurrent use.
type digest struct {
	mu    sync.Mutex
	files map[string][sha256.Size]byte
	names int // bytes
}

// file notes a file whose content has gone through h. One that comes again
// takes the place of the first.
func (d *digest) file(name string, h hash.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = make(map[string][sha256.Size]byte)
	}
	d.files[path.Clean(name)] = [sha256.Size]byte(h.Sum(nil))
}

// room takes note of another name, unless there are too many.
func (d *digest) room(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names += len(name) + 1
	if d.names > mostCopiedNames {
		return errManyFiles
	}
	return nil
}

// sum is the checksum in hexadecimal.
func (d *digest) sum() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	all := sha256.New()
	for _, name := range names {
		one := d.files[name]
		all.Write([]byte(strings.Join([]string{hex.EncodeToString(one[:]), "  ", name, "\n"}, "")))
	}
	return hex.EncodeToString(all.Sum(nil))
}
