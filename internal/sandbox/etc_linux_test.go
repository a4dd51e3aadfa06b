package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeFiles makes files below dir, each with its name as its text.
func writeFiles(t *testing.T, dir string, files map[string]fs.FileMode) {
	t.Helper()
	for name, mode := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// copiedEtc are the files that copyEtc copies from source.
func copiedEtc(t *testing.T, source string, more ...string) (names []string) {
	t.Helper()
	target := filepath.Join(t.TempDir(), "etc")
	if err := copyEtc(t.Context(), source, target, more...); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(target, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			rel, _ := filepath.Rel(target, name)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCopyEtcShowsOnlyWhatProgramsNeed(t *testing.T) {
	source := t.TempDir()
	writeFiles(t, source, map[string]fs.FileMode{
		"apt/sources.list":        0o644,
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
	})
	if err := os.Symlink("/usr/share/zoneinfo/UTC", filepath.Join(source, "localtime")); err != nil {
		t.Fatal(err)
	}
	want := []string{"default/locale", "localtime", "maven/m2.conf", "python3/debian_config", "services", "ssl/certs/ca.crt"}
	if diff := cmp.Diff(want, copiedEtc(t, source)); diff != "" {
		t.Errorf("copied files differ (-want +got):\n%s", diff)
	}
}

func TestCopyEtcShowsNoSecretOfApts(t *testing.T) {
	source := t.TempDir()
	writeFiles(t, source, map[string]fs.FileMode{
		"apt/auth.conf":                  0o644,
		"apt/auth.conf.d/private.conf":   0o644,
		"apt/sources.list":               0o644,
		"apt/apt.conf.d/20own":           0o600,
		"apt/trusted.gpg.d/debian.asc":   0o644,
		"apt/apt.conf.d/10periodic":      0o644,
		"apt/keyrings/client-secret.pem": 0o644,
	})
	for name, text := range map[string]string{
		"apt.conf.d/proxy":          `Acquire::http::Proxy "http://proxy.example:3128/";`,
		"apt.conf.d/userproxy":      `Acquire::http::Proxy "http://someone:word@proxy.example:3128/";`,
		"apt.conf.d/ftp":            `Acquire::ftp::ProxyLogin { "USER someone"; };`,
		"sources.list.d/own.list":   "deb [arch=amd64] https://token@packages.example/debian stable main # me\n",
		"sources.list.d/other.list": "deb https://packages.example/debian stable main # ask someone@example.org\n",
		"client.pem":                "-----BEGIN PRIVATE KEY-----\n",
	} {
		file := filepath.Join(source, "apt", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"apt/apt.conf.d/10periodic", "apt/apt.conf.d/proxy", "apt/sources.list", "apt/sources.list.d/other.list",
		"apt/trusted.gpg.d/debian.asc",
	}
	if diff := cmp.Diff(want, copiedEtc(t, source, etcPackages)); diff != "" {
		t.Errorf("copied files differ (-want +got):\n%s", diff)
	}
}
