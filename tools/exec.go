package tools

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "exec",
	Title:       "Run a command in a microVM",
	Description: "Run a shell command in a microVM and return its outcome, then its output in order, stderr lines marked, the middle of a long one left out. A non-zero exit is a result, not an error. Nothing answers prompts; stdin is empty. At the timeout its process group is killed; what began a session of its own (setsid) runs on. Start a server with nohup in the background, its output in a file.",
	Toolset:     toolsetExec,
	Effect:      Destroys,
	OpenWorld:   true,
}, (*Toolset).exec)

type execInput struct {
	Command string `json:"command" jsonschema:"required,minLength=1,maxLength=100000" jsonschema_description:"Script for bash -lc, any number of lines; passed on as it is"`
	vmArgument
	Cwd            string   `json:"cwd,omitempty" jsonschema:"maxLength=4096" jsonschema_description:"Working folder in the VM, absolute or from ~. Default: the user's home"`
	Env            []string `json:"env,omitempty" jsonschema:"maxItems=100" jsonschema_description:"Environment as KEY=VALUE"`
	User           string   `json:"user,omitempty" jsonschema:"maxLength=32,default=ubuntu" jsonschema_description:"Who runs it: ubuntu, root or a uid"`
	TimeoutSeconds int      `json:"timeout_seconds,omitempty" jsonschema:"minimum=1,maximum=50,default=30" jsonschema_description:"Seconds it may run before its process group is killed"`
}

const (
	shell = "/bin/bash"

	// longestArgument is what Linux takes as one argument of a program.
	longestArgument = 128<<10 - 1

	// killTime bounds the wait for a killed command's stream to end.
	killTime = 2 * time.Second
)

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
	timeout := min(time.Duration(in.TimeoutSeconds)*time.Second, t.within(killTime))
	began := time.Now()
	// The deadline covers finding the VM and dialling too. It ends the
	// stream, at which the daemon kills the command.
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	vm, err := t.resolve(limited, in.VM)
	if err != nil {
		return Result{}, err
	}
	frames, err := t.client.ExecWithReader(limited, vm.Hostname, req, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return Result{}, refuse("the daemon had not answered after %s, so the command was given up; if it had begun, it was killed. Call list_vms to see whether the daemon answers, then retry.", seconds(timeout))
	}
	if err != nil {
		return Result{}, t.execRefused(ctx, err, vm)
	}
	out := newTranscript()
	last := collect(limited, frames, out)
	res, err := execOutcome(limited, last, timeout, time.Since(began))
	if err != nil {
		return Result{}, err
	}
	t.explainEnd(ctx, &res, last, vm, timeout)
	more := fmt.Sprintf("to see it, run the command with its output in a file (… > /tmp/out.log 2>&1) and call read_file(vm=%s, file_path=\"/tmp/out.log\", offset=…)", quote(handle(vm)))
	res.Text += "\n" + out.text(more)
	return res, nil
}

// execRefused says why a command was not begun.
func (t *Toolset) execRefused(ctx context.Context, err error, vm slicer.SlicerNode) error {
	if !errors.As(err, new(*slicer.APIError)) && brokenOff(err) {
		if s := t.standingAfter(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
	}
	return onVM(handle(vm), err)
}

// explainEnd adds to the first line of an answer how the VM stands, where that
// is why the command ended as it did.
func (t *Toolset) explainEnd(ctx context.Context, res *Result, last slicer.SlicerExecWriteResult, vm slicer.SlicerNode, timeout time.Duration) {
	var s standing
	switch {
	case res.Failed, last.Signal == "KILL", last.Signal == "TERM", last.ExitCode == 128+9:
		s = t.standingAfter(ctx, vm)
	case res.Text == timedOut(timeout):
		s = t.standingOf(ctx, vm)
		if s.paused {
			res.Text = fmt.Sprintf("timed out after %v s;", timeout.Seconds())
			s.text = fmt.Sprintf("VM %s is paused: the command stands still, and is killed at resume(vm=%s). Output so far:", quote(handle(vm)), quote(handle(vm)))
		}
	}
	if s.text == "" {
		return
	}
	// That a VM has gone is not something that a command can tell.
	res.Failed = res.Failed || s.gone
	res.Text += "\n" + s.text
}

// execRequest is in as the SDK takes it.
func execRequest(in execInput) (slicer.SlicerExecRequest, error) {
	req := slicer.SlicerExecRequest{Shell: shell, Command: in.Command, Cwd: in.Cwd, Stdout: true, Stderr: true}
	if len(in.Command) > longestArgument {
		return req, refuse("command has %d bytes, and Linux takes %d at most. Put the script in a host file, copy it with cp_to_vm and run that.", len(in.Command), longestArgument)
	}
	if strings.TrimSpace(in.Command) == "" {
		return req, refuse("command must not be empty.")
	}
	if in.Cwd != "" {
		if err := checkVMPath("cwd", in.Cwd); err != nil {
			return req, err
		}
	}
	var err error
	if req.UID, req.GID, err = parseUser(in.User); err != nil {
		return req, err
	}
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

// collect reads a command's stream to its end, and gives up on one that
// doesn't end soon after ctx has. It returns the last piece that tells how the
// command ended, or a zero one.
func collect(ctx context.Context, frames <-chan slicer.SlicerExecWriteResult, out *transcript) (last slicer.SlicerExecWriteResult) {
	done := ctx.Done()
	var overdue <-chan time.Time
	for {
		select {
		case frame, ok := <-frames:
			if !ok {
				return last
			}
			out.write(stdout, frame.Stdout)
			out.write(stderr, frame.Stderr)
			if frame.Type != "stdout" && frame.Type != "stderr" {
				last = frame
			}
		case <-done:
			done = nil
			timer := time.NewTimer(killTime)
			defer timer.Stop()
			overdue = timer.C
		case <-overdue:
			return last
		}
	}
}

// execOutcome is the first line of the answer, or an error when the command
// was not run. A known end counts more than a deadline that has just passed;
// an old agent's pieces say nothing certain once it has.
func execOutcome(ctx context.Context, last slicer.SlicerExecWriteResult, timeout, took time.Duration) (Result, error) {
	known := last.Type == "exit" || last.Type == "" && ctx.Err() == nil
	switch {
	case known && last.NotStarted:
		return Result{}, refuse("the command could not be started: %s. Check cwd and user, and that the VM has %s.", strings.TrimRight(oneLine(last.Error, 300), ". "), shell)
	case known && last.Signal != "":
		return Result{Text: fmt.Sprintf("killed by SIG%s after %s", strings.TrimPrefix(oneLine(last.Signal, 16), "SIG"), seconds(took))}, nil
	case known:
		return Result{Text: fmt.Sprintf("exit %d%s in %s", last.ExitCode, meaning(last.ExitCode), seconds(took))}, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Text: timedOut(timeout)}, nil
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	}
	return Result{
		Failed: true,
		Text:   fmt.Sprintf("the connection to the VM broke after %s, so how the command ended is not known. Call list_vms to see the VM's status before a retry. Output so far:", seconds(took)),
	}, nil
}

// timedOut is the first line about a command that was killed for its time.
func timedOut(timeout time.Duration) string {
	return fmt.Sprintf("timed out after %v s and was killed; output so far:", timeout.Seconds())
}

// meaning says which signal an exit code of the shell stands for.
func meaning(code int) string {
	names := map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM"}
	if name, ok := names[code-128]; ok {
		return " (SIG" + name + ")"
	}
	return ""
}
