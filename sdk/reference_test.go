package slicer_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sharedFile reads a file of the folder of documents that lies beside the
// repository, and skips the test where there is none.
func sharedFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../../shared/" + name)
	if os.IsNotExist(err) {
		t.Skipf("../../shared/%s is not here", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// declarations are exported declarations as text, by name. A method's name is
// T.M; a struct's fields are T.F with their type and tag.
type declarations map[string]string

// TestReference finds every declaration of the reference in this package.
func TestReference(t *testing.T) {
	want := referenceDeclarations(t, string(sharedFile(t, "sdk-reference.txt")))
	got := packageDeclarations(t)
	if len(want) < 195 {
		t.Errorf("the reference has %d declarations and fields, want at least 195; is it whole?", len(want))
	}
	for name, text := range want {
		switch ours, ok := got[name]; {
		case !ok:
			t.Errorf("%s is missing; the reference has: %s", name, text)
		case ours != text:
			t.Errorf("%s is\n\t%s\nwant\n\t%s", name, ours, text)
		}
	}
}

// A heading of the reference names what is declared beneath it.
var referenceHeading = regexp.MustCompile(`^(?:func (?:\(\*?(\w+)\) )?|type )(\w+)(?: added in v[\d.]+)?$`)

// referenceDeclarations reads the declarations out of the reference's page.
func referenceDeclarations(t *testing.T, page string) declarations {
	t.Helper()
	_, page, ok := strings.Cut(page, "\nIndex\n")
	if !ok {
		t.Fatal("the reference has no index")
	}
	decls := pageDeclarations(t, page)
	for line := range strings.Lines(page) {
		m := referenceHeading.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		name := m[2]
		if m[1] != "" {
			name = m[1] + "." + name
		}
		if _, ok := decls[name]; !ok {
			t.Errorf("the reference has a heading %q and no declaration beneath it", name)
		}
	}
	return decls
}

// pageDeclarations reads the declarations out of a page of documentation. A
// heading looks like the beginning of one but isn't Go.
func pageDeclarations(t *testing.T, page string) declarations {
	t.Helper()
	decls := make(declarations)
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if referenceHeading.MatchString(line) {
			continue
		}
		end := ""
		switch {
		case strings.HasPrefix(line, "type ") && strings.HasSuffix(line, " struct {"):
			end = "}"
		case line == "var (" || line == "const (":
			end = ")"
		case strings.HasPrefix(line, "func "), strings.HasPrefix(line, "const "), strings.HasPrefix(line, "var "):
		default:
			continue
		}
		source := line
		for end != "" && lines[i] != end {
			i++
			source += "\n" + lines[i]
		}
		file, err := parser.ParseFile(token.NewFileSet(), "reference", "package slicer\n"+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("a declaration can't be read: %v\n%s", err, source)
		}
		decls.add(file)
	}
	return decls
}

// packageDeclarations reads the declarations out of what go doc says of this
// package.
func packageDeclarations(t *testing.T) declarations {
	t.Helper()
	page, err := exec.CommandContext(t.Context(), "go", "doc", "-all", ".").Output()
	if err != nil {
		t.Fatalf("go doc: %v", err)
	}
	return pageDeclarations(t, string(page))
}

func (d declarations) add(file *ast.File) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			d.addFunc(decl)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					d.addType(spec)
				case *ast.ValueSpec:
					for i, name := range spec.Names {
						text := decl.Tok.String()
						if spec.Type != nil {
							text += " " + source(spec.Type)
						}
						if i < len(spec.Values) {
							text += " = " + source(spec.Values[i])
						}
						d.put(name.Name, text)
					}
				}
			}
		}
	}
}

func (d declarations) put(name, text string) {
	last := name[strings.LastIndex(name, ".")+1:]
	if ast.IsExported(last) {
		d[name] = text
	}
}

// addFunc adds a function or method with the types of its parameters.
func (d declarations) addFunc(decl *ast.FuncDecl) {
	name, text := decl.Name.Name, "func "
	if decl.Recv != nil {
		receiver := source(decl.Recv.List[0].Type)
		name = strings.TrimPrefix(receiver, "*") + "." + name
		text += "(" + receiver + ") "
	}
	d.put(name, text+types(decl.Type.Params)+" "+types(decl.Type.Results))
}

// types lists the types of a field list, one for each name.
func types(list *ast.FieldList) string {
	if list == nil {
		return "()"
	}
	var all []string
	for _, field := range list.List {
		all = append(all, slices.Repeat([]string{source(field.Type)}, max(1, len(field.Names)))...)
	}
	return "(" + strings.Join(all, ", ") + ")"
}

// addType adds a type, and a struct's fields one by one: a struct may have more
// of them than the reference's.
func (d declarations) addType(spec *ast.TypeSpec) {
	text := "type"
	if spec.Assign.IsValid() {
		text += " ="
	}
	body, ok := spec.Type.(*ast.StructType)
	if !ok {
		d.put(spec.Name.Name, text+" "+source(spec.Type))
		return
	}
	d.put(spec.Name.Name, text+" struct")
	if !ast.IsExported(spec.Name.Name) {
		return
	}
	for _, field := range body.Fields.List {
		text := source(field.Type)
		if field.Tag != nil {
			text += " " + field.Tag.Value
		}
		if len(field.Names) == 0 {
			embedded := strings.TrimPrefix(source(field.Type), "*")
			d.put(spec.Name.Name+"."+embedded, "embedded "+text)
		}
		for _, name := range field.Names {
			d.put(spec.Name.Name+"."+name.Name, text)
		}
	}
}

// source is an expression as gofmt writes it.
func source(expr ast.Expr) string {
	var text bytes.Buffer
	if err := format.Node(&text, token.NewFileSet(), expr); err != nil {
		return err.Error()
	}
	return text.String()
}
