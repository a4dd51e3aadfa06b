package tools

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// The resources that clients can attach without a tool call.
const (
	uriVMs    = "slicer://vms"
	uriVM     = "slicer://vm/{vm}"
	uriLogs   = "slicer://vm/{vm}/logs"
	uriFile   = "slicer://vm/{vm}/file/{+path}"
	uriPrefix = "slicer://vm/"
)

const (
	// largestResource is how many bytes of a file a resource holds.
	largestResource = 1 << 20

	// resourceLogLines is how much of a console a resource shows.
	resourceLogLines = 1000

	// mostCompletions is what the protocol allows.
	mostCompletions = 100
)

// addResources adds the resources to s.
func (t *Toolset) addResources(s *server.MCPServer) {
	s.AddResource(mcp.NewResource(uriVMs, "vms",
		mcp.WithResourceTitle("microVMs"),
		mcp.WithResourceDescription("Every microVM of the daemon, the owned ones marked"),
		mcp.WithMIMEType("text/plain")), t.resource(func(ctx context.Context, _ string) (mcp.ResourceContents, error) {
		res, err := t.listVMs(ctx, listVMsInput{All: true})
		return plain(res.Text), err
	}))
	for _, template := range []struct {
		uri, name, title, description string
		read                          func(ctx context.Context, uri string) (mcp.ResourceContents, error)
	}{
		{uriVM, "vm", "A microVM", "A microVM's status, size, health, load, memory and disk", t.readVMResource},
		{uriLogs, "vm_logs", "A microVM's console", "What a microVM's boot and userdata printed", t.readLogsResource},
		{uriFile, "vm_file", "A file in a microVM", "A file in a microVM, 1 MiB at most", t.readFileResource},
	} {
		s.AddResourceTemplate(mcp.NewResourceTemplate(template.uri, template.name,
			mcp.WithTemplateTitle(template.title), mcp.WithTemplateDescription(template.description)),
			server.ResourceTemplateHandlerFunc(t.resource(template.read)))
	}
}

// resource makes a handler of read: bounded, and without what must not leave.
func (t *Toolset) resource(read func(ctx context.Context, uri string) (mcp.ResourceContents, error)) server.ResourceHandlerFunc {
	return func(ctx context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		ctx, cancel := context.WithTimeout(ctx, t.limit)
		defer cancel()
		contents, err := read(ctx, req.Params.URI)
		if err != nil {
			return nil, errors.New(t.redactor.text(t.explain(err)))
		}
		switch c := contents.(type) {
		case mcp.TextResourceContents:
			c.URI, c.Text = req.Params.URI, t.redactor.text(c.Text)
			contents = c
		case mcp.BlobResourceContents:
			if t.redactor.inBase64(c.Blob) {
				return nil, refuse("the file is binary and holds the value of a secret, so it is not shown. Copy it with cp_from_vm, or look into it with exec.")
			}
			c.URI = req.Params.URI
			contents = c
		}
		return []mcp.ResourceContents{contents}, nil
	}
}

func plain(text string) mcp.ResourceContents {
	return mcp.TextResourceContents{MIMEType: "text/plain", Text: text}
}

// vmOf splits the URI of a VM's resource into the VM and what comes after it.
func vmOf(uri string) (vm, rest string, err error) {
	tail, ok := strings.CutPrefix(uri, uriPrefix)
	if !ok {
		return "", "", refuse("there is no resource %s. There is %s, %s, %s and %s.", quote(uri), uriVMs, uriVM, uriLogs, uriFile)
	}
	name, rest, _ := strings.Cut(tail, "/")
	vm, err = url.PathUnescape(name)
	if err != nil || vm == "" {
		return "", "", refuse("the URI %s names no VM. It is like slicer://vm/NAME.", quote(uri))
	}
	return vm, rest, nil
}

func (t *Toolset) readVMResource(ctx context.Context, uri string) (mcp.ResourceContents, error) {
	vm, _, err := vmOf(uri)
	if err != nil {
		return nil, err
	}
	res, err := t.getVM(ctx, getVMInput{vmArgument{VM: vm}})
	return plain(res.Text), err
}

func (t *Toolset) readLogsResource(ctx context.Context, uri string) (mcp.ResourceContents, error) {
	vm, _, err := vmOf(uri)
	if err != nil {
		return nil, err
	}
	res, err := t.vmLogs(ctx, vmLogsInput{vmArgument{VM: vm}, resourceLogLines})
	return plain(res.Text), err
}

// readFileResource reads a whole file: text as it is, else base64.
func (t *Toolset) readFileResource(ctx context.Context, uri string) (mcp.ResourceContents, error) {
	name, rest, err := vmOf(uri)
	if err != nil {
		return nil, err
	}
	escaped, _ := strings.CutPrefix(rest, "file/")
	file, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, refuse("the path in %s is not escaped as URIs are.", quote(uri))
	}
	file = "/" + strings.TrimLeft(file, "/")
	if err := checkVMPath("path", file); err != nil {
		return nil, err
	}
	vm, err := t.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := t.client.OpenFile(ctx, vm.Hostname, file)
	if err != nil {
		return nil, t.readFailed(ctx, err, vm, readFileInput{FilePath: file})
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, largestResource+1))
	if err != nil {
		return nil, t.readFailed(ctx, err, vm, readFileInput{FilePath: file})
	}
	if len(data) > largestResource {
		return nil, refuse("%s in VM %s is larger than a resource may be, which is 1 MiB. Read a part with read_file(vm=%s, file_path=%s).",
			quote(file), quote(handle(vm)), quote(handle(vm)), quote(file))
	}
	if utf8.Valid(data) && !slices.Contains(data, 0) {
		kind := mime.TypeByExtension(path.Ext(file))
		if !strings.HasPrefix(kind, "text/") {
			kind = "text/plain"
		}
		return mcp.TextResourceContents{MIMEType: kind, Text: string(data)}, nil
	}
	return mcp.BlobResourceContents{MIMEType: http.DetectContentType(data), Blob: base64.StdEncoding.EncodeToString(data)}, nil
}

// ServerOptions are what a server needs, beside Register, to offer resources,
// prompts and the completion of VM names.
func (t *Toolset) ServerOptions() []server.ServerOption {
	return []server.ServerOption{
		server.WithToolCapabilities(false),
		server.WithResourceCapabilities(false, false),
		server.WithPromptCapabilities(false),
		server.WithCompletions(),
		server.WithResourceCompletionProvider(completer{t}),
		server.WithPromptCompletionProvider(completer{t}),
	}
}

// completer completes the names of VMs.
type completer struct{ t *Toolset }

// CompleteResourceArgument implements server.ResourceCompletionProvider.
func (c completer) CompleteResourceArgument(ctx context.Context, _ string, arg mcp.CompleteArgument, _ mcp.CompleteContext) (*mcp.Completion, error) {
	return c.complete(ctx, arg)
}

// CompletePromptArgument implements server.PromptCompletionProvider.
func (c completer) CompletePromptArgument(ctx context.Context, _ string, arg mcp.CompleteArgument, _ mcp.CompleteContext) (*mcp.Completion, error) {
	return c.complete(ctx, arg)
}

// complete offers the VMs whose name begins as arg does, owned ones first.
// Where the daemon can't be asked there is nothing to offer.
func (c completer) complete(ctx context.Context, arg mcp.CompleteArgument) (*mcp.Completion, error) {
	none := &mcp.Completion{Values: []string{}}
	if arg.Name != "vm" {
		return none, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	vms, err := c.t.client.ListVMs(ctx)
	if err != nil {
		return none, nil //nolint:nilerr // a completion is an offer; whoever uses the name gets the error
	}
	var mine, others []string
	for _, vm := range vms {
		name := handle(vm)
		switch {
		case !strings.HasPrefix(name, arg.Value) || oneLine(name, 253) != name:
		case c.t.owned(vm):
			mine = append(mine, name)
		default:
			others = append(others, name)
		}
	}
	slices.Sort(mine)
	slices.Sort(others)
	names := slices.Concat(mine, others)
	if len(names) == 0 {
		return none, nil
	}
	return &mcp.Completion{Values: names[:min(len(names), mostCompletions)], Total: len(names), HasMore: len(names) > mostCompletions}, nil
}
