package app

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon"
)

const (
	// maxGroupsFile bounds a groups file, in bytes.
	maxGroupsFile = 64 << 10
	// maxCPUs and minRAM bound a group's sizes; minRAM is what a guest's own
	// agent needs, in bytes.
	maxCPUs = 1024
	minRAM  = 64 << 20
)

// groupFlags are the flags that name host groups.
type groupFlags struct {
	file  string
	specs []string
}

func (f *groupFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "groups", "", "YAML `file` with host groups (default one group, sbox, of the machine's size)")
	flags.StringArrayVar(&f.specs, "group", nil, "host `group` as name=sbox,cpus=2,ram=4GiB,count=0, all but the name optional;\nmay be repeated, also beside --groups")
}

// load returns the groups of the file, then those of the flags; none for the
// daemon's default. A relative file is one of dir.
func (f *groupFlags) load(dir string) ([]daemon.HostGroup, error) {
	var groups []daemon.HostGroup
	if f.file != "" {
		var err error
		if groups, err = readGroups(under(dir, f.file)); err != nil {
			return nil, fmt.Errorf("--groups: %w", err)
		}
	}
	for _, spec := range f.specs {
		g, err := parseGroup(spec)
		if err == nil {
			groups, err = addGroup(groups, g)
		}
		if err != nil {
			return nil, usageError{fmt.Sprintf("--group %q: %v", spec, err)}
		}
	}
	return groups, nil
}

func addGroup(groups []daemon.HostGroup, g daemon.HostGroup) ([]daemon.HostGroup, error) {
	if g.Name == "" {
		return nil, errors.New("a host group needs a name, such as name: sbox in a file, name=sbox in a flag")
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	for _, other := range groups {
		if other.Name == g.Name {
			return nil, fmt.Errorf("host group %q is there twice", g.Name)
		}
	}
	return append(groups, g), nil
}

// parseGroup reads a group as --group takes it.
func parseGroup(spec string) (daemon.HostGroup, error) {
	var g daemon.HostGroup
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(spec, ",") {
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		if !ok {
			return g, fmt.Errorf("%q is not key=value; write name=sbox,cpus=2,ram=4GiB,count=0", pair)
		}
		if err := setOnce(&g, seen, key, strings.TrimSpace(value)); err != nil {
			return g, err
		}
	}
	return g, nil
}

// setOnce sets one of a group's keys from its text.
func setOnce(g *daemon.HostGroup, seen map[string]bool, key, value string) error {
	what := key
	if key == "ram_bytes" {
		what = "ram"
	}
	if seen[what] {
		return fmt.Errorf("%s is there twice", what)
	}
	seen[what] = true
	var err error
	switch key {
	case "name":
		g.Name = value
	case "count":
		if g.Count, err = strconv.Atoi(value); err != nil || g.Count < 0 {
			err = fmt.Errorf("count is a whole number, 0 or more, not %q", value)
		}
	case "cpus":
		if g.CPUs, err = strconv.Atoi(value); err != nil || g.CPUs < 1 || g.CPUs > maxCPUs {
			err = fmt.Errorf("cpus is a whole number from 1 to %d, not %q", maxCPUs, value)
		}
	case "ram", "ram_bytes":
		g.RAMBytes, err = parseSize(value)
		if err == nil && g.RAMBytes < minRAM {
			err = errors.New("64MiB is the least")
		}
		if err != nil {
			err = fmt.Errorf("%s %q: %w", key, value, err)
		}
	default:
		err = fmt.Errorf("unknown key %q; a host group has name, count, cpus and ram (or ram_bytes)", key)
	}
	return err
}

// parseSize reads a size in bytes, or with one of the units KiB to TiB.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = strings.TrimSpace(rest), 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, errors.New("a size is written like 4GiB, 512MiB or 1073741824 (bytes)")
	}
	return int64(n) << shift, nil
}

// readGroups reads a groups file. Its errors name the file and the line.
func readGroups(name string) ([]daemon.HostGroup, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxGroupsFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxGroupsFile {
		return nil, fmt.Errorf("%s has more than %d KiB, which no list of groups needs", name, maxGroupsFile>>10)
	}
	groups, line, err := parseGroups(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", filepath.Base(name), line, err)
	}
	return groups, nil
}

// parseGroups reads a groups file's text. line is where an error is.
func parseGroups(data []byte) (_ []daemon.HostGroup, line int, err error) {
	const form = "write groups: and below it, a group each, - name: sbox with count, cpus and ram"
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		var at *yaml.LoadError
		if errors.As(err, &at) {
			return nil, max(at.Mark.Line, 1), fmt.Errorf("%s; %s", at.Message, form)
		}
		return nil, 1, fmt.Errorf("%w; %s", err, form)
	}
	top := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		top = doc.Content[0]
	}
	if top.Kind != yaml.MappingNode || len(top.Content) != 2 || top.Content[0].Value != "groups" ||
		top.Content[1].Kind != yaml.SequenceNode || len(top.Content[1].Content) == 0 {
		return nil, max(top.Line, 1), errors.New(form)
	}
	var groups []daemon.HostGroup
	for _, node := range top.Content[1].Content {
		if node.Kind != yaml.MappingNode {
			return nil, node.Line, errors.New(form)
		}
		var g daemon.HostGroup
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			if key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode {
				return nil, value.Line, fmt.Errorf("%q takes one plain value", key.Value)
			}
			if err := setOnce(&g, seen, key.Value, value.Value); err != nil {
				return nil, value.Line, err
			}
		}
		if groups, err = addGroup(groups, g); err != nil {
			return nil, node.Line, err
		}
	}
	return groups, 0, nil
}
