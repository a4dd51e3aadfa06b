package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/internal/app"
	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

func TestGroupsFile(t *testing.T) {
	tests := []struct {
		name, text string
		want       []daemon.HostGroup
	}{
		{"a name alone", "groups:\n- name: a\n", []daemon.HostGroup{{Name: "a"}}},
		{
			"all keys", "groups:\n- {name: a, count: 2, cpus: 3, ram: 4GiB}\n- {name: b, ram_bytes: 1073741824}\n",
			[]daemon.HostGroup{{Name: "a", Count: 2, CPUs: 3, RAMBytes: 4 << 30}, {Name: "b", RAMBytes: 1 << 30}},
		},
		{
			"sizes in every unit", "groups:\n- {name: a, ram: 65536KiB}\n- {name: b, ram: 64 MiB}\n- {name: c, ram: 1TiB}\n- {name: d, ram: '67108864'}\n",
			[]daemon.HostGroup{{Name: "a", RAMBytes: 64 << 20}, {Name: "b", RAMBytes: 64 << 20}, {Name: "c", RAMBytes: 1 << 40}, {Name: "d", RAMBytes: 64 << 20}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "groups.yaml")
			write(t, name, tt.text)
			got, err := app.ReadGroups(name)
			if err != nil {
				t.Fatalf("ReadGroups(%q) = %v", tt.text, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ReadGroups(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestGroupsFileMistakes(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", "", "groups.yaml:1: "},
		{"a comment alone", "# none\n", "groups.yaml:1: "},
		{"another key", "hosts:\n- name: a\n", "groups.yaml:1: write groups:"},
		{"a key beside groups", "groups:\n- name: a\nnet: host\n", "groups.yaml:1: write groups:"},
		{"no group", "groups: []\n", "groups.yaml:1: write groups:"},
		{"names alone", "groups:\n- a\n- b\n", "groups.yaml:2: write groups:"},
		{"a group without a name", "groups:\n- name: a\n- cpus: 2\n", "groups.yaml:3: a host group needs a name"},
		{"an unknown key", "groups:\n- name: a\n  vcpu: 2\n", `groups.yaml:3: unknown key "vcpu"; a host group has name, count, cpus and ram`},
		{"a key twice", "groups:\n- name: a\n  cpus: 2\n  cpus: 3\n", "groups.yaml:4: "},
		{"two sizes", "groups:\n- name: a\n  ram: 1GiB\n  ram_bytes: 1073741824\n", "groups.yaml:4: ram is there twice"},
		{"a size that is none", "groups:\n- name: a\n  ram: much\n", `groups.yaml:3: ram "much": a size is written like 4GiB`},
		{"no value", "groups:\n- name: a\n  cpus:\n", "groups.yaml:3: cpus is a whole number"},
		{"a list for a value", "groups:\n- name: a\n  cpus: [1]\n", `groups.yaml:3: "cpus" takes one plain value`},
		{"an alias", "groups:\n- &x\n  name: a\n- *x\n", "groups.yaml:4: write groups:"},
		{"a group twice", "groups:\n- name: a\n- name: a\n", `groups.yaml:3: host group "a" is there twice`},
		{"two documents", "groups:\n- name: a\n---\ngroups:\n- name: b\n", "groups.yaml:"},
		{"what is no YAML", "groups:\n\t- name: a\n", "groups.yaml:2: "},
		{"too much", "groups:\n- name: a\n" + strings.Repeat("# more\n", 10000), "more than 64 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			write(t, filepath.Join(w.dir, "groups.yaml"), tt.text)
			got := w.run("", "daemon", "--groups", "groups.yaml")
			if got.code != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("groups %q = %+v, want exit 1 and one line with %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestGroupsFileThatIsNotThere(t *testing.T) {
	got := newWorld(t).run("", "daemon", "--groups", "none.yaml")
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "none.yaml") {
		t.Errorf("--groups none.yaml = %+v, want exit 1 and the file's name", got)
	}
}

func TestGroupsExample(t *testing.T) {
	const example = "../../examples/daemon/groups.yaml"
	got, err := app.ReadGroups(example)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 2 || got[0].Name != daemon.DefaultGroup {
		t.Errorf("ReadGroups(%s) = %+v, want %s and another", example, got, daemon.DefaultGroup)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name:", "cpus:", "ram:", "ram_bytes", "count:"} {
		if !strings.Contains(string(text), key) {
			t.Errorf("%s says nothing of %s", example, key)
		}
	}
}

func TestImageName(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a release", "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n", "host:debian-12"},
		{"one without versions", "ID=arch\n", "host:arch"},
		{"nothing", "", "host"},
		{"a version alone", "VERSION_ID=1\n", "host"},
		{"characters that no name has", "ID=\"De bi/an\x1b[0m\"\nVERSION_ID='1 2;3'\n", "host:debian0m-123"},
		{"words that are too long", "ID=" + strings.Repeat("a", 99) + "\nVERSION_ID=" + strings.Repeat("1", 99), "host:" + strings.Repeat("a", 32) + "-" + strings.Repeat("1", 32)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := app.ImageName(strings.NewReader(tt.text)); got != tt.want {
				t.Errorf("ImageName(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}
