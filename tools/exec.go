package tools

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "exec",
	Title:       "Run a command",
	Description: "Run a shell command in a microVM. The answer's first line is the outcome, then comes its output, stderr marked. A non-zero exit is a result, no error. What outlasts yield_seconds goes on as a process for read_process. Nothing answers prompts.",
	Toolset:     toolsetExec,
	Effect:      Destroys,
	OpenWorld:   true,
}, (*Toolset).exec)

type execInput struct {
	Command string `json:"command" jsonschema:"required,minLength=1,maxLength=1048576" jsonschema_description:"Script for bash -lc; passed on as it is"`
	vmArgument
	Cwd            string   `json:"cwd,omitempty" jsonschema:"maxLength=4096" jsonschema_description:"Working folder. Default: the user's home"`
	Env            []string `json:"env,omitempty" jsonschema:"maxItems=100" jsonschema_description:"KEY=VALUE each"`
	User           string   `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"User name or uid; root for root"`
	Stdin          string   `json:"stdin,omitempty" jsonschema:"maxLength=1048576" jsonschema_description:"Its input. Default: empty"`
	TimeoutSeconds int      `json:"timeout_seconds,omitempty" jsonschema:"minimum=1,maximum=86400,default=600" jsonschema_description:"Seconds it may live"`
	YieldSeconds   int      `json:"yield_seconds,omitempty" jsonschema:"minimum=1,maximum=50,default=30" jsonschema_description:"Seconds this call waits"`
	Background     bool     `json:"background,omitempty" jsonschema:"default=false" jsonschema_description:"Don't wait"`
}

// killTime is what is left of a call for ending what it began.
const killTime = 2 * time.Second

// quietEnvironment keeps programs from asking, paging and colouring.
func quietEnvironment() []string {
	return []string{
		"GIT_TERMINAL_PROMPT=0", "PAGER=cat", "GIT_PAGER=cat", "DEBIAN_FRONTEND=noninteractive",
		"NEEDRESTART_MODE=a", "TERM=dumb", "NO_COLOR=1",
	}
}

func (t *Toolset) exec(ctx context.Context, in execInput) (Result, error) {
	req, err := execRequest(in)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	// The deadline covers finding the VM and dialling too.
	yield := min(time.Duration(in.YieldSeconds)*time.Second, t.within(killTime))
	limited, cancel := context.WithTimeout(ctx, yield)
	defer cancel()

	vm, err := t.resolve(limited, in.VM)
	if err != nil {
		return Result{}, err
	}
	if req.UID, req.GID, err = t.lookupUser(limited, vm, in.User); err != nil {
		return Result{}, err
	}
	lifetime := time.Duration(in.TimeoutSeconds) * time.Second
	p, err := t.launch(limited, vm, req, in.Stdin, lifetime)
	if errors.Is(err, context.DeadlineExceeded) {
		return Result{}, refuse("the daemon had not answered after %s, so it isn't known whether the command runs. Call list_processes(vm=%s) before a retry.", seconds(yield), quote(handle(vm)))
	}
	if err != nil {
		return Result{}, t.execRefused(ctx, err, vm)
	}
	a := processAnswer{vm: vm, named: in.VM != "", process: p, lifetime: lifetime}
	if in.Background {
		return t.begun(ctx, a)
	}
	saw, stop := t.progress(ctx, began)
	how := reader{follow: true, saw: saw}
	a.reading, err = t.await(limited, how, p, cursor{})
	stop()
	a.took = time.Since(began)
	if ctx.Err() != nil {
		return t.cutOff(ctx, a)
	}
	if err != nil {
		return t.readBroke(ctx, err, a)
	}
	return t.outcome(ctx, a)
}

// abandoned ends a process if the client has taken back the call that began it,
// and returns ctx's error, with which that call ends.
func (t *Toolset) abandoned(ctx context.Context, p process) error {
	if cancelled(ctx) {
		t.end(ctx, p)
	}
	return ctx.Err()
}

// ErrCancelled is the cause with which the context of a call ends that its
// client has taken back. A command that such a call has begun is ended; one
// whose client has merely gone goes on.
var ErrCancelled = errors.New("the client cancelled the call")

func cancelled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), ErrCancelled)
}

// end ends a process for good, also when ctx has ended.
func (t *Toolset) end(ctx context.Context, p process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := p.signal(ctx, "TERM"); err != nil {
		t.log.Warn("a cancelled command could not be ended", "process", p.id(), "reason", explanation(err))
	}
}

// execRefused says why a command was not begun.
func (t *Toolset) execRefused(ctx context.Context, err error, vm slicer.SlicerNode) error {
	var api *slicer.APIError
	if !errors.As(err, &api) && brokenOff(err) {
		if s := t.standingAfter(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
	}
	if api != nil && api.StatusCode == http.StatusBadRequest && says(api, "could not be started") {
		return refuse("the command could not be started%s. Check cwd and user, and that the VM has /bin/sh and %s.", daemonSaid(api), shell)
	}
	return onVM(handle(vm), err)
}

// execRequest is in as the SDK takes it, but for the user.
func execRequest(in execInput) (slicer.SlicerExecRequest, error) {
	req := slicer.SlicerExecRequest{Command: in.Command, Cwd: in.Cwd, Stdout: true, Stderr: true}
	if strings.TrimSpace(in.Command) == "" {
		return req, refuse("command must not be empty.")
	}
	if in.Cwd != "" {
		if err := checkVMPath("cwd", in.Cwd); err != nil {
			return req, err
		}
	}
	if !userName.MatchString(in.User) {
		if _, _, err := parseUser(in.User); err != nil {
			return req, err
		}
	}
	var err error
	req.Env, err = environment(in.Env)
	return req, err
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// environment is the quiet environment with entries over it.
func environment(entries []string) ([]string, error) {
	env := quietEnvironment()
	place := make(map[string]int)
	for i, entry := range env {
		key, _, _ := strings.Cut(entry, "=")
		place[key] = i
	}
	total := 0
	for i, entry := range entries {
		if !variable.MatchString(entry) {
			// What stands there may be a value, so it isn't repeated.
			return nil, refuse("env[%d] can't be used: it must read KEY=VALUE, the key being letters, digits and _.", i)
		}
		total += len(entry)
		key, _, _ := strings.Cut(entry, "=")
		if at, ok := place[key]; ok {
			env[at] = entry
			continue
		}
		place[key] = len(env)
		env = append(env, entry)
	}
	if total > longestArgument {
		return nil, refuse("env has %d bytes in all; %d is the most. Put large values in a file with cp_to_vm.", total, longestArgument)
	}
	return env, nil
}

// meaning says which signal an exit code of the shell stands for.
func meaning(code int) string {
	names := map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM"}
	if name, ok := names[code-128]; ok {
		return " (SIG" + name + ")"
	}
	return ""
}
