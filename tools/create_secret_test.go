package tools_test

import (
	"strings"
	"testing"
)

func TestSecrets(t *testing.T) {
	const value = "canary-4711\n"
	s, client, vm, root := fileSession(t)
	put(t, root, map[string]string{"key": value, "empty": "", "large": strings.Repeat("x", 1<<20+1)})
	wantText(t, "list_secrets of none", s.call("list_secrets", args{}), "0 secrets.")

	var made struct {
		Name, Path, Mode, User string
		Bytes                  int
	}
	text := s.record("create_secret", args{"name": "api.key", "from_file": "key"}, &made)
	if made.Name != "api.key" || made.Path != "/run/slicer/secrets/api.key" || made.Mode != "0600" || made.User != "ubuntu" || made.Bytes != len(value) {
		t.Errorf("create_secret = %+v, want api.key of %d bytes, 0600, ubuntu", made, len(value))
	}
	wantText(t, "create_secret", text, made.Path, "0600", "ubuntu", "12 bytes")
	s.call("create_secret", args{"name": "for-root", "from_file": "key", "mode": "400", "user": "root"})
	wantFile(t, client, vm, "/run/slicer/secrets/api.key", value)

	var list struct {
		Secrets []struct {
			Name, Path, Mode string
			Bytes            int64
			UID, GID         uint32
		}
	}
	text += s.record("list_secrets", args{}, &list)
	if len(list.Secrets) != 2 || list.Secrets[0].UID != 1000 || list.Secrets[0].GID != 1000 || list.Secrets[1].Mode != "0400" || list.Secrets[1].UID != 0 {
		t.Errorf("list_secrets = %+v, want api.key of 1000 and for-root of 0 with 0400", list.Secrets)
	}
	wantText(t, "list_secrets", text, "2 secrets.", "/run/slicer/secrets/api.key, 12 bytes, mode 0600, uid 1000, gid 1000")

	for name, want := range map[string][]string{"api.key": {`a secret named "api.key" exists already`, "list_secrets"}} {
		got := s.fail("create_secret", args{"name": name, "from_file": "key"})
		text += got
		wantText(t, "create_secret again", got, want...)
	}
	wantText(t, "create_secret of an empty file", s.fail("create_secret", args{"name": "x", "from_file": "empty"}), "is empty")
	wantText(t, "create_secret of a large file", s.fail("create_secret", args{"name": "x", "from_file": "large"}), "larger than a secret may be")
	wantText(t, "create_secret of a folder", s.fail("create_secret", args{"name": "x", "from_file": root}), "is a folder")
	if strings.Contains(text, "canary") {
		t.Errorf("an answer holds the secret's value: %q", text)
	}
}
