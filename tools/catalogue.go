package tools

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/invopop/jsonschema"
	"github.com/mark3labs/mcp-go/mcp"
)

// Effect is what a tool may do to the world. All four MCP annotations follow
// from it, Idempotent and OpenWorld.
type Effect int

// The effects, from harmless to final.
const (
	Reads    Effect = iota // looks, alters nothing
	Adds                   // makes something new and leaves the rest alone
	Changes                // alters what is there; another call can alter it back
	Destroys               // may end or overwrite what can't be had back
)

// String names the effect in lower case.
func (e Effect) String() string {
	switch e {
	case Reads:
		return "reads"
	case Adds:
		return "adds"
	case Changes:
		return "changes"
	case Destroys:
		return "destroys"
	}
	return fmt.Sprintf("Effect(%d)", int(e))
}

// The toolsets.
const (
	toolsetVMs     = "vms"
	toolsetExec    = "exec"
	toolsetFiles   = "files"
	toolsetSecrets = "secrets"
)

// Tool is one entry of the catalogue.
type Tool struct {
	Name        string // snake_case
	Title       string // for people
	Description string // for the model: verb, lifetime, next step
	Toolset     string // vms, exec, files or secrets
	Effect      Effect

	// Idempotent says that a second equal call changes nothing more. A tool
	// that only reads is idempotent without saying so.
	Idempotent bool

	// OpenWorld says that the tool may reach beyond the daemon and its VMs.
	OpenWorld bool

	// InputSchema is the JSON schema of the arguments: one flat object.
	InputSchema json.RawMessage

	// withValue is the tool that takes the place of this one where secrets'
	// values may be arguments. Nil for most.
	withValue *Tool

	params *jsonschema.Schema
	call   func(ctx context.Context, t *Toolset, args json.RawMessage) (Result, error)
}

// catalogue is filled by define while the package's variables are initialised
// and is not written afterwards.
var catalogue []Tool

// Catalogue lists every tool, ordered by name.
func Catalogue() []Tool {
	return slices.SortedFunc(slices.Values(catalogue), func(a, b Tool) int {
		return cmp.Compare(a.Name, b.Name)
	})
}

// define adds a tool to the catalogue. The schema comes from In, a struct with
// json, jsonschema and jsonschema_description tags; handle is called with
// arguments that keep to it, defaults filled in. It panics on an In that has
// no flat schema.
func define[In any](tool Tool, handle func(t *Toolset, ctx context.Context, in In) (Result, error)) Tool {
	tool = build(tool, handle)
	catalogue = append(catalogue, tool)
	return tool
}

// build is define without the catalogue.
func build[In any](tool Tool, handle func(t *Toolset, ctx context.Context, in In) (Result, error)) Tool {
	tool.params = inputSchema[In]()
	raw, err := marshalJSON(published(tool.params))
	if err != nil {
		panic(fmt.Sprintf("tools: schema of %s: %v", tool.Name, err))
	}
	tool.InputSchema = raw
	tool.call = func(ctx context.Context, t *Toolset, args json.RawMessage) (Result, error) {
		checked, err := checkArguments(tool.Name, tool.params, args)
		if err != nil {
			return Result{}, err
		}
		var in In
		if err := json.Unmarshal(checked, &in); err != nil {
			return Result{}, refuse("the arguments of %s could not be read: %v.", tool.Name, err)
		}
		return handle(t, ctx, in)
	}
	return tool
}

// published is a schema as clients get it: without the bounds of strings, which
// every user would pay for and only an odd call meets. They hold all the same,
// and the error tells them.
func published(s *jsonschema.Schema) *jsonschema.Schema {
	p := *s
	p.MinLength, p.MaxLength = nil, nil
	if s.Items != nil {
		p.Items = published(s.Items)
	}
	if s.Properties != nil {
		p.Properties = jsonschema.NewProperties()
		for pair := s.Properties.Oldest(); pair != nil; pair = pair.Next() {
			if v := pair.Value; v.Type == "string" && v.MaxLength == nil && len(v.Enum) == 0 {
				panic("tools: the string " + pair.Key + " has no bound")
			}
			p.Properties.Set(pair.Key, published(pair.Value))
		}
	}
	return &p
}

// definition is the tool as tools/list says it.
func (t Tool) definition() mcp.Tool {
	def := mcp.NewToolWithRawSchema(t.Name, t.Description, t.InputSchema)
	def.Title = t.Title
	def.Annotations = mcp.ToolAnnotation{
		ReadOnlyHint:    new(t.Effect == Reads),
		DestructiveHint: new(t.Effect == Destroys),
		IdempotentHint:  new(t.Effect == Reads || t.Idempotent),
		OpenWorldHint:   new(t.OpenWorld),
	}
	return def
}

// marshalJSON is json.Marshal without the escaping of <, > and &, which no
// client needs and every model pays for.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}
