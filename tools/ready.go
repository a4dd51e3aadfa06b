package tools

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// What create_vm waits for beside the agent.
const (
	waitUserdata = "userdata"
	waitNone     = "none"
)

const (
	// firstAsk and lastAsk bound the time between two questions whether a VM
	// is ready. A VM is up after half a second, a userdata script after minutes.
	firstAsk = 10 * time.Millisecond
	lastAsk  = 500 * time.Millisecond

	// oneAsk is how long a VM's agent has for an answer.
	oneAsk = 5 * time.Second
)

// readiness is how far a VM has come up.
type readiness struct {
	agent    bool // it takes commands
	userdata bool // its userdata script was waited for
	ran      bool // the script has ended
	exitCode *int // of the script, nil if that isn't known
}

// awaitReady waits until a VM's agent answers, and with userdata until its
// userdata script has ended. That ctx's time is over is no error: the VM comes
// up later. The error is ctx's when it was cancelled, or says that the VM won't
// come up.
func (t *Toolset) awaitReady(ctx context.Context, vm slicer.SlicerNode, userdata bool, began time.Time) (readiness, error) {
	saw, stop := t.progress(ctx, began)
	defer stop()
	tell := func(line string) {
		if saw != nil {
			saw(line)
		}
	}
	tell("waiting for the VM's agent")
	r := readiness{userdata: userdata}
	for pause := firstAsk; ; pause = min(pause*3/2, lastAsk) {
		health, err := t.askHealth(ctx, vm)
		switch {
		case err == nil:
			if !r.agent {
				tell("waiting for the userdata")
			}
			r.agent, r.ran, r.exitCode = true, health.UserdataRan, health.UserdataExitCode
			if !userdata || r.ran {
				return r, nil
			}
		case slicer.IsAPIStatus(err, http.StatusUnauthorized):
			return r, err
		case slicer.IsAPIStatus(err, http.StatusNotFound), slicer.IsAPIStatus(err, http.StatusConflict):
			if s := t.standingOf(ctx, vm); s.text != "" {
				return r, &refusal{text: s.text}
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return r, nil
			}
			return r, ctx.Err()
		}
	}
}

func (t *Toolset) askHealth(ctx context.Context, vm slicer.SlicerNode) (*slicer.SlicerAgentHealthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, oneAsk)
	defer cancel()
	return t.client.GetAgentHealth(ctx, vm.Hostname, true)
}

// status is the VM's status in a word.
func (r readiness) status() string {
	if r.agent {
		return "Running"
	}
	return "starting"
}

// note says what isn't as it was wanted, or nothing.
func (r readiness) note(vm slicer.SlicerNode) string {
	name := quote(handle(vm))
	switch {
	case !r.agent:
		return "Its agent doesn't answer yet; the VM goes on starting."
	case !r.userdata:
		return ""
	case !r.ran:
		return fmt.Sprintf("Its userdata still runs: vm_logs(vm=%s) shows what it writes, get_vm(vm=%s) whether it has ended.", name, name)
	case r.exitCode != nil && *r.exitCode != 0:
		return fmt.Sprintf("Its userdata failed with exit code %d: vm_logs(vm=%s) shows what it wrote.", *r.exitCode, name)
	}
	return "Its userdata has ended."
}

// next is what to call now.
func (r readiness) next(vm slicer.SlicerNode) string {
	if !r.agent {
		return fmt.Sprintf("Call get_vm(vm=%s) until it is ready, then exec.", quote(handle(vm)))
	}
	return fmt.Sprintf("Use exec(vm=%s, command=…).", quote(handle(vm)))
}
