package slicer

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
)

const (
	// endMarker is the length of the zero bytes that end an archive.
	endMarker = 1024

	// maxTrailer bounds the padding after an archive's end marker.
	maxTrailer = 1 << 20
)

// tailReader counts what has been read and how many of the last bytes were
// zero, which archive/tar doesn't tell: to it an archive may end anywhere
// between two entries.
type tailReader struct {
	r     io.Reader
	read  int64
	zeros int64
}

func (t *tailReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.read += int64(n)
	i := n
	for i > 0 && p[i-1] == 0 && n-i < endMarker {
		i--
	}
	if i > 0 && n-i < endMarker {
		t.zeros = 0
	}
	t.zeros += int64(n - i)
	return n, err
}

// drainTrailer reads the padding after an archive to where its stream ends.
func drainTrailer(r io.Reader) error {
	_, err := io.CopyN(io.Discard, r, maxTrailer+1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = errors.New("the archive goes on after its end")
	}
	return err
}

// isSparse reports whether an entry has holes, which archive/tar reads as zeros.
func isSparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
