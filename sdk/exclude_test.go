package slicer_test

import (
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestExcludePatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		name    string // a trailing slash is a folder
		want    bool
	}{
		{"*.o", "a.o", true},
		{"*.o", "src/deep/a.o", true},
		{"*.o", "a.c", false},
		{"*.o", "a.o/inside", true},
		{"build", "build/", true},
		{"build", "build/x/y", true},
		{"build", "src/build", true},
		{"build", "builder", false},
		{"build/", "build", false},
		{"build/", "build/", true},
		{"build/", "build/x", true},
		{"/build", "build/", true},
		{"/build", "src/build/", false},
		{"./build", "build/", true},
		{"./build", "src/build/", false},
		{"src/*.c", "src/a.c", true},
		{"src/*.c", "src/deep/a.c", false},
		{"src/*.c", "other/src/a.c", false},
		{"**/test", "test/", true},
		{"**/test", "a/b/test/", true},
		{"a/**/z", "a/z", true},
		{"a/**/z", "a/b/c/z", true},
		{"a/**/z", "b/a/z", false},
		{"a/**", "a/", false},
		{"a/**", "a/b", true},
		{"a/**", "a/b/c", true},
		{"**", "a", true},
		{"**", "a/b", true},
		{"a/**/b/**/c", "a/x/b/y/z/c", true},
		{"a/**/b/**/c", "a/x/c/y/z/b", false},
		{"file?.txt", "file1.txt", true},
		{"file?.txt", "file12.txt", false},
		{"[ab].txt", "b.txt", true},
		{"[!ab].txt", "b.txt", false},
		{"[!ab].txt", "c.txt", true},
		{"[^ab].txt", "c.txt", true},
		{`\*`, "*", true},
		{`\*`, "x", false},
		{`\[!a]`, "[!a]", true},
		{"*", ".", false},
		{"", "a", false},
		{"/", "a", false},
		{".git", ".git/", true},
		{".git", ".gitignore", false},
	} {
		isDir := strings.HasSuffix(tt.name, "/")
		got, err := slicer.MatchExclude([]string{tt.pattern}, strings.TrimSuffix(tt.name, "/"), isDir)
		if err != nil || got != tt.want {
			t.Errorf("%q excludes %q = %v, %v, want %v", tt.pattern, tt.name, got, err, tt.want)
		}
	}
	for _, pattern := range []string{"!keep", "[", "a/[", "../x", "a/../b", `x\`} {
		if _, err := slicer.MatchExclude([]string{pattern}, "a", false); err == nil {
			t.Errorf("the exclude pattern %q = nil, want an error", pattern)
		}
	}
}

func FuzzExclude(f *testing.F) {
	f.Add("**/*.o", "a/b.o")
	f.Add("a/**/b/**/c", "a/x/b/c")
	f.Add("[!a-z]/", "A")
	f.Add(strings.Repeat("**/", 20)+"x", strings.Repeat("a/", 40)+"b")
	f.Add(strings.Repeat("*a", 20), strings.Repeat("a", 60))
	f.Fuzz(func(t *testing.T, pattern, name string) {
		start := time.Now()
		file, err := slicer.MatchExclude([]string{pattern}, name, false)
		if err != nil {
			return
		}
		dir, err := slicer.MatchExclude([]string{pattern}, name, true)
		if err != nil {
			t.Fatalf("%q is refused for a folder only: %v", pattern, err)
		}
		if file && !dir {
			t.Errorf("%q excludes %q as a file and not as a folder", pattern, name)
		}
		if name != "" && name != "." && dir {
			if inside, _ := slicer.MatchExclude([]string{pattern}, name+"/x", false); !inside {
				t.Errorf("%q excludes the folder %q and not what is inside", pattern, name)
			}
		}
		if took := time.Since(start); len(pattern)+len(name) < 1000 && took > 5*time.Second {
			t.Errorf("%q took %s for %q", pattern, took, name)
		}
	})
}
