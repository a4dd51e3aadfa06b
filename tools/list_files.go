package tools

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "list_files",
	Title:       "List files",
	Description: "List a folder in a microVM, hidden files too. With glob it finds files at any depth.",
	Toolset:     toolsetFiles,
	Effect:      Reads,
}, (*Toolset).listFiles)

type listFilesInput struct {
	Path string `json:"path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"Folder in the VM"`
	vmArgument
	Depth int    `json:"depth,omitempty" jsonschema:"minimum=1,maximum=20" jsonschema_description:"Default: 1, with glob 20"`
	Glob  string `json:"glob,omitempty" jsonschema:"maxLength=500" jsonschema_description:"Such as *.go or src/**/*.{ts,tsx}"`
}

// mostCounted is how many entries are looked at.
const mostCounted = 100_000

func (t *Toolset) listFiles(ctx context.Context, in listFilesInput) (Result, error) {
	if err := checkVMPath("path", in.Path); err != nil {
		return Result{}, err
	}
	only, err := parseGlob(in.Glob)
	if err != nil {
		return Result{}, err
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	if in.Depth == 0 {
		in.Depth = 1
		if in.Glob != "" {
			in.Depth = 20
		}
	}
	w := &walk{client: t.client, vm: vm.Hostname, root: in.Path, depth: in.Depth}
	l := listing{vm: vm, in: in}
	for f, err := range w.folders(limited) {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && l.seen > 0 {
			w.unfinished = true
			break
		}
		if err != nil {
			return Result{}, t.listFailed(ctx, err, vm, in.Path)
		}
		l.add(f, only)
		if l.seen > mostCounted {
			w.unfinished = true
			break
		}
	}
	return l.result(w), nil
}

// listing is the answer of list_files on its way.
type listing struct {
	vm slicer.SlicerNode
	in listFilesInput

	rows    strings.Builder
	used    int // characters of rows
	shown   int64
	folders int64 // that match, shown or not
	others  int64
	seen    int    // entries that were looked at
	within  string // the first folder with something that isn't shown
}

func (l *listing) add(f folder, only glob) {
	for _, e := range f.entries {
		l.seen++
		if !only.matches(f.from(e.Name)) {
			continue
		}
		if e.IsDir() {
			l.folders++
		} else {
			l.others++
		}
		row := fileRow(e, f.from(e.Name))
		width := utf8.RuneCountInString(row)
		if l.within != "" || l.used+width > mostCharacters {
			l.within = orElse(l.within, f.path)
			continue
		}
		l.rows.WriteString(row)
		l.used += width
		l.shown++
	}
}

// fileRow is one line of a listing, as ls -l has it.
func fileRow(e slicer.SlicerFSInfo, name string) string {
	mode, length, mark := "-", thousands(e.Size), ""
	switch e.Type {
	case "directory":
		mode, length, mark = "d", "-", "/"
	case "symlink":
		mode, length, mark = "l", "-", " (symlink)"
	case "file":
	default:
		mode = "?"
	}
	mode += e.FileMode().Perm().String()[1:]
	changed := strings.Repeat(" ", len("2006-01-02 15:04"))
	if !e.ModTime.IsZero() {
		changed = e.ModTime.UTC().Format("2006-01-02 15:04")
	}
	return fmt.Sprintf("%s %13s  %s  %s%s\n", mode, length, changed, fileName(name), mark)
}

func (l *listing) result(w *walk) Result {
	name, total := quote(l.in.Path), l.folders+l.others
	what := ""
	if l.in.Glob != "" {
		what = " that match " + quote(l.in.Glob)
	}
	counted := ""
	if w.unfinished {
		counted = "at least "
	}
	text := fmt.Sprintf("%s in VM %s: %s%s and %s%s; size in bytes, time in UTC\n%s",
		name, quote(handle(l.vm)), counted, count(l.folders, "folder"), count(l.others, "file"), what, l.rows.String())
	switch {
	case total == 0 && what == "":
		text = fmt.Sprintf("%s in VM %s is an empty folder.\n", name, quote(handle(l.vm)))
	case total == 0:
		text = fmt.Sprintf("nothing below %s in VM %s matches %s, %s deep.\n", name, quote(handle(l.vm)), quote(l.in.Glob), count(int64(l.in.Depth), "level"))
	}
	if more := total - l.shown; more > 0 {
		text += fmt.Sprintf("… %s more, from the folder %s on. Name a folder below as path, or narrow with glob: list_files(vm=%s, path=%s, glob=\"*.x\").\n",
			counted+thousands(more), quote(l.within), quote(handle(l.vm)), quote(l.within))
	}
	if w.unfinished {
		text += "Not all folders were looked into: there are too many for one call. Name a folder further down as path.\n"
	}
	text += w.notes()
	return Result{Text: strings.TrimSuffix(text, "\n")}
}

// notes says what a walk left out, in lines of their own.
func (w *walk) notes() string {
	text := ""
	if w.passed.n > 0 {
		text += fmt.Sprintf("Not looked into: %s. Name one as path for that.\n", w.passed.String())
	}
	if w.unreadable.n > 0 {
		text += fmt.Sprintf("Could not be read: %s.\n", w.unreadable.String())
	}
	return text
}

// listFailed says why a folder can't be listed or searched.
func (t *Toolset) listFailed(ctx context.Context, err error, vm slicer.SlicerNode, p string) error {
	name, machine := quote(p), quote(handle(vm))
	var api *slicer.APIError
	switch {
	case errors.As(err, &api) && says(api, "not a directory"):
		return refuse("%s in VM %s is a file, not a folder. Read it with read_file(vm=%s, file_path=%s).", name, machine, machine, name)
	case isMissing(err):
		return t.notThere(vm, p)
	case errors.Is(err, context.DeadlineExceeded):
		if s := t.standingOf(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("%s in VM %s was not listed in time. Name a folder further down as path, or look with exec.", name, machine)
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: p,
		instead: fmt.Sprintf("Look with exec(vm=%s, user=%q, command=%s), or use another path.", machine, "root", quote("ls -la -- "+shellWord(p))),
	})
}

// notThere says that a VM has no such path, and whether the host has.
func (t *Toolset) notThere(vm slicer.SlicerNode, p string) error {
	name, machine := quote(p), quote(handle(vm))
	if t.roots.has(p) {
		return refuse("VM %s has no %s, but the host has it. Copy it with cp_to_vm(vm=%s, host_path=%s, vm_path=…) if you want it in the VM.", machine, name, machine, name)
	}
	return refuse("VM %s has no %s. List the folder above it with list_files(vm=%s, path=%s).", machine, name, machine, quote(folderOf(p)))
}
