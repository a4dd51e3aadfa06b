package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCopyEtcShowsOnlyWhatProgramsNeed(t *testing.T) {
	source := t.TempDir()
	for name, mode := range map[string]fs.FileMode{
		"services":                0o644,
		"ssl/certs/ca.crt":        0o644,
		"ssl/private/host.key":    0o644,
		"ssl/server.key":          0o644,
		"default/locale":          0o644,
		"default/docker":          0o644,
		"shadow":                  0o644,
		"passwd":                  0o644,
		"hosts":                   0o644,
		"machine-id":              0o644,
		"profile":                 0o600,
		"maven/settings.xml":      0o644,
		"maven/m2.conf":           0o644,
		"python3/debian_config":   0o644,
		"NetworkManager/wifi.nmc": 0o644,
	} {
		file := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/share/zoneinfo/UTC", filepath.Join(source, "localtime")); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "etc")
	if err := copyEtc(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(target, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			rel, _ := filepath.Rel(target, name)
			got = append(got, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"default/locale", "localtime", "maven/m2.conf", "python3/debian_config", "services", "ssl/certs/ca.crt"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("copied files differ (-want +got):\n%s", diff)
	}
}
