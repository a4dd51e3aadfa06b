package slicer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// The actions of a SlicerShutdownRequest.
const (
	actionShutdown = "shutdown"
	actionReboot   = "reboot"
)

// SlicerShutdownRequest says how a VM is to end.
type SlicerShutdownRequest struct {
	// Action is "shutdown" to power the guest off or "reboot" to restart it;
	// "" is "shutdown".
	Action string `json:"action,omitempty"`
}

// RestoreOptions says how long a restore call waits. Its zero value returns as
// soon as the daemon has accepted it.
type RestoreOptions struct {
	// Wait is what to wait for: "agent" until the VM takes commands again,
	// "" for nothing.
	Wait string

	// Timeout bounds the wait; 0 is the daemon's own bound. It needs Wait.
	Timeout time.Duration
}

// Shutdown asks a VM's guest to end or to restart (POST /vm/{vm}/shutdown). A
// nil request means the action "shutdown". It returns when the guest has been
// told, not when it has ended; then an ephemeral VM is gone with its disk and a
// persistent one is Stopped.
//
// What ends a VM depends on the daemon's hypervisor. A Firecracker VMM doesn't
// notice that its guest powered off: the guest halts and the VM stays listed. It
// ends when the guest reboots, so there the action "reboot" is what stops a VM,
// and nothing restarts it. Other hypervisors take both words at their meaning.
func (c *SlicerClient) Shutdown(ctx context.Context, hostname string, request *SlicerShutdownRequest) error {
	action := actionShutdown
	if request != nil && request.Action != "" {
		action = request.Action
	}
	if action != actionShutdown && action != actionReboot {
		return fmt.Errorf("shut down VM %q: the action must be shutdown or reboot, not %q", hostname, action)
	}
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", hostname, "shutdown"}, query: url.Values{"action": {action}}, prompt: true,
	}, nil)
	if err != nil {
		return fmt.Errorf("shut down VM %q: %w", hostname, err)
	}
	return nil
}

// SuspendVM saves a VM's memory to disk and ends its hypervisor process, which
// frees the memory (POST /vm/{vm}/suspend). RestoreVM brings the VM back;
// until then calls that need its agent are refused with 409. A daemon whose
// hypervisor can't do that answers 501.
func (c *SlicerClient) SuspendVM(ctx context.Context, hostname string) error {
	return c.changeState(ctx, hostname, "suspend")
}

// RestoreVM brings a suspended VM back as it was (POST /vm/{vm}/restore),
// without waiting for its agent. It is RestoreVMWithOptions with the zero
// RestoreOptions.
func (c *SlicerClient) RestoreVM(ctx context.Context, hostname string) error {
	return c.RestoreVMWithOptions(ctx, hostname, RestoreOptions{})
}

// RestoreVMWithOptions brings a suspended VM back and waits as opts asks (POST
// /vm/{vm}/restore).
func (c *SlicerClient) RestoreVMWithOptions(ctx context.Context, hostname string, opts RestoreOptions) error {
	query, err := waitQuery(opts.Wait, opts.Timeout)
	if err != nil {
		return fmt.Errorf("restore VM %q: %w", hostname, err)
	}
	err = c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", hostname, "restore"}, query: query,
	}, nil)
	if err != nil {
		return fmt.Errorf("restore VM %q: %w", hostname, err)
	}
	return nil
}

// RelaunchVM starts a stopped persistent VM again, with the disk that it had
// (POST /vm/{vm}/relaunch). A VM that runs is refused with 409.
func (c *SlicerClient) RelaunchVM(ctx context.Context, hostname string) (*SlicerCreateNodeResponse, error) {
	var node SlicerCreateNodeResponse
	err := c.call(ctx, apiRequest{method: http.MethodPost, path: []string{"vm", hostname, "relaunch"}}, &node)
	if err != nil {
		return nil, fmt.Errorf("relaunch VM %q: %w", hostname, err)
	}
	return &node, nil
}

// waitQuery returns the query of a call that waits for something.
func waitQuery(wait string, timeout time.Duration) (url.Values, error) {
	query := url.Values{}
	setText(query, "wait", wait)
	switch {
	case timeout < 0:
		return nil, fmt.Errorf("negative timeout %s", timeout)
	case timeout > 0 && wait == "":
		return nil, errors.New("a timeout needs something to wait for")
	case timeout > 0:
		query.Set("timeout", timeout.String())
	}
	return query, nil
}
