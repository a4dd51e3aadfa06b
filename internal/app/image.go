package app

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxOSRelease = 16 << 10 // bytes read of an os-release file
	maxImageWord = 32       // bytes of each word of an image's name
)

// hostImage names what a sandbox's disk begins as: this machine's own system,
// as host:debian-12, or just host where it doesn't say which it is.
func hostImage(p Process) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		f, err := os.Open(filepath.Join("/", p.Root, name))
		if err != nil {
			continue // the second is where the first usually points
		}
		defer f.Close()
		return imageName(io.LimitReader(f, maxOSRelease))
	}
	return "host"
}

// imageName makes an image's name of an os-release file.
func imageName(r io.Reader) string {
	var id, version string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "ID":
			id = imageWord(value)
		case "VERSION_ID":
			version = imageWord(value)
		}
	}
	switch {
	case id == "":
		return "host"
	case version == "":
		return "host:" + id
	}
	return "host:" + id + "-" + version
}

// imageWord keeps of a value what a name may have.
func imageWord(value string) string {
	word := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(strings.Trim(strings.TrimSpace(value), `"'`)))
	return word[:min(len(word), maxImageWord)]
}
