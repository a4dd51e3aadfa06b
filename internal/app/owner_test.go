package app_test

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestRoots(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name string
		dir  string
		args []string
		want string
	}{
		{"the working folder", w.dir, nil, "[" + w.dir + "]"},
		{"none in the home folder", w.home, nil, "[]"},
		{"none above the home folder", filepath.Dir(w.home), nil, "[]"},
		{"none at the top", filepath.VolumeName(w.dir) + string(filepath.Separator), nil, "[]"},
		{"the one that is named", w.home, []string{"--root", w.home}, "[" + w.home + "]"},
		{"relative to the working folder", w.home, []string{"--root", "project"}, "[" + w.dir + "]"},
		{"several", w.dir, []string{"--root", ".", "--root", w.root}, "[" + w.dir + " " + w.root + "]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{root: w.root, home: w.home, dir: tt.dir, env: w.env}
			got := w.run(hello, append(tt.args, "--url", nowhere)...)
			if roots := logged(t, got, "roots"); got.code != 0 || roots != tt.want {
				t.Errorf("in %s, %q allows %s, want %s", tt.dir, tt.args, roots, tt.want)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	w := newWorld(t)
	owner := func(args ...string) string {
		return logged(t, w.run(hello, append(args, "--url", nowhere)...), "owner")
	}
	first := owner()
	if again := owner(); first == "" || again != first {
		t.Errorf("the owner is %q and then %q, want the same", first, again)
	}
	if strings.Contains(first, "project") {
		t.Errorf("the owner %q tells the folder's name", first)
	}
	if other := owner("--root", w.root); other == first {
		t.Errorf("the owner is %q for another project too", other)
	}
	if got := owner("--owner", "me"); got != "me" {
		t.Errorf("--owner me gives %q", got)
	}
}
