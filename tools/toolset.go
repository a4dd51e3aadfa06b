// Package tools holds the MCP tools that drive Slicer microVMs: each a name, a
// description, an input struct and a handler over the SDK, in a file of its
// own.
//
// A tool is added with define, which derives its JSON schema from the input
// struct and appends it to the catalogue. Arguments are checked against that
// schema before a handler sees them, and errors become plain text for a model
// in one place.
package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// defaultCallLimit bounds every call. Clients give up at 60 seconds and say
// nothing to the server, so an answer has to be out well before.
const defaultCallLimit = 52 * time.Second

// Config says what the tools work with. Client and Owner must be set.
type Config struct {
	// Client reaches the daemon.
	Client *slicer.SlicerClient

	// Owner is the value of the tag owner=… on the VMs that these tools
	// create, and by which they know them again.
	Owner string

	// Roots are the host folders that files may be copied from and to. With
	// none, the tools that use host files refuse and say how to allow a folder.
	Roots []string

	// SecretEnv are the names of the environment variables that secrets may be
	// made from. Their values are known to be secret from the start.
	SecretEnv []string

	// Getenv looks up an environment variable, "" for one that isn't set. Nil
	// stands for an empty environment.
	Getenv func(name string) string

	// AllowSecretValues lets create_secret and update_secret take a value as
	// an argument, so that it passes through the model.
	AllowSecretValues bool

	// Known are further values that no answer and no log may show, by the
	// name to show in their place, such as the daemon's token.
	Known map[string]string

	// MaxVMs is how many VMs this owner may have at a time. Zero stands for
	// 20.
	MaxVMs int

	// VMsEnd says that the daemon ends with this server, and with it every VM
	// and what runs there.
	VMsEnd bool

	// Log takes one record for each call, without arguments or output. Nil
	// discards.
	Log *slog.Logger

	// CallLimit bounds one call of any tool. Zero stands for 52 seconds,
	// which is also the most that common MCP clients wait for.
	CallLimit time.Duration
}

// Toolset is the catalogue's tools bound to one daemon. It is safe for
// concurrent use.
type Toolset struct {
	client *slicer.SlicerClient
	owner  string
	roots  *hostRoots
	log    *slog.Logger
	limit  time.Duration

	secrets  secretSources
	redactor *redactor

	waits    context.Context // done when no call is to wait any more
	endWaits context.CancelFunc
	vmsEnd   bool

	maxVMs       int
	admission    admission
	sightings    sightings
	locals       *locals
	timers       timers
	readOut      handles     // processes of daemons that were read to their end
	makingRoom   sync.Mutex  // held while processes are forgotten to make room
	noBackground atomic.Bool // the daemon is known to have no background exec
}

// New binds the tools to cfg and opens its roots. The error says in plain
// words which root can't be opened, or what is missing from cfg. Close
// releases the roots.
func New(cfg Config) (*Toolset, error) {
	if cfg.Client == nil {
		return nil, errors.New("the tools need a client for the daemon")
	}
	if cfg.Owner == "" {
		return nil, errors.New("the tools need an owner, by which they know their own VMs again")
	}
	if err := checkTag("owner=" + cfg.Owner); err != nil {
		return nil, fmt.Errorf("owner %q can't be used: %w", cfg.Owner, err)
	}
	roots, err := openRoots(cfg.Roots)
	if err != nil {
		return nil, err
	}
	t := &Toolset{client: cfg.Client, owner: cfg.Owner, roots: roots, log: cfg.Log, limit: cfg.CallLimit, maxVMs: cfg.MaxVMs, vmsEnd: cfg.VMsEnd, locals: newLocals()}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.waits, t.endWaits = context.WithCancel(context.Background())
	t.secrets, t.redactor = newSecretSources(cfg), knownAtStart(cfg)
	t.log = slog.New(t.RedactLog(t.log.Handler()))
	if t.limit <= 0 {
		t.limit = defaultCallLimit
	}
	if t.maxVMs <= 0 {
		t.maxVMs = defaultMaxVMs
	}
	t.admission.turn = make(chan struct{}, 1)
	return t, nil
}

// Close ends the processes that this server itself holds, and releases the
// roots. Calls that run may still end with an error. Background processes of
// the daemon go on.
func (t *Toolset) Close() error {
	t.endWaits()
	t.timers.close()
	t.locals.close()
	return t.roots.Close()
}

// Register adds every tool of the catalogue to s, and the resources and prompts.
func (t *Toolset) Register(s *server.MCPServer) {
	for _, tool := range Catalogue() {
		if tool.withValue != nil && t.secrets.values {
			tool = *tool.withValue
		}
		s.AddTool(tool.definition(), t.handler(tool))
	}
	t.addResources(s)
	t.addPrompts(s)
}

// handler is what the MCP server calls for tool. It never returns a Go error:
// a model sees a JSON-RPC error badly or not at all, a tool error always.
func (t *Toolset) handler(tool Tool) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(ctx, t.limit)
		defer cancel()

		res, err := t.call(withProgress(ctx, req), tool, req)
		var out *mcp.CallToolResult
		if err != nil {
			out = errorResult(t.explain(err) + endingAdvice(tool, err))
		} else {
			out = res.callResult()
		}
		t.redactor.answer(out)
		t.log.Info("tool call", "tool", tool.Name, "error", err != nil, "took", time.Since(began))
		return out, nil
	}
}

// call checks the arguments and runs the tool. A panic comes back as an error.
func (t *Toolset) call(ctx context.Context, tool Tool, req mcp.CallToolRequest) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("tool panicked", "tool", tool.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = refuse("%s ran into a fault of this MCP server (a bug, not your call's fault). Retry once; if it happens again, tell the user, who finds the details in the server's log.", tool.Name)
		}
	}()
	if t.ending() && tool.Effect != Reads {
		return Result{}, refuse("this server is ending, so %s has not begun. Retry when it is back.", tool.Name)
	}
	raw := req.Params.RawArguments
	if len(raw) == 0 && req.Params.Arguments != nil {
		if raw, err = json.Marshal(req.Params.Arguments); err != nil {
			return Result{}, refuse("the arguments of %s must be a JSON object.", tool.Name)
		}
	}
	return tool.call(ctx, t, raw)
}

// within is the time that a part of a call may take so that margin of the
// call's own is left; of a call that is shorter than usual the margin takes its
// share.
func (t *Toolset) within(margin time.Duration) time.Duration {
	share := time.Duration(float64(margin) / float64(defaultCallLimit) * float64(t.limit))
	return t.limit - min(margin, share)
}
