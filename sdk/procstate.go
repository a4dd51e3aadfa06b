package slicer

import "fmt"

// RemoteProcessState tells how the process of a RemoteCmd ended. As with
// os.ProcessState its methods can be called on nil.
type RemoteProcessState struct {
	pid        int // 0 if unknown
	code       int // -1 if unknown
	exited     bool
	signal     string
	notStarted bool
	reason     string // why it was not started, or why nobody knows how it ended
}

// ExitCode returns the process's exit code: -1 if a signal ended it, if it was
// ended because the context was, or if nobody knows how it ended. Where it could
// not be started this is the code that the VM's agent gives for that, such as
// 127.
func (p *RemoteProcessState) ExitCode() int {
	if p == nil {
		return -1
	}
	return p.code
}

// Exited reports whether the process ended by itself, and not by a signal.
func (p *RemoteProcessState) Exited() bool { return p != nil && p.exited }

// NotStarted reports whether the command could not be started; String says why.
func (p *RemoteProcessState) NotStarted() bool { return p != nil && p.notStarted }

// Pid returns the process id that the process had in the VM, or -1 if the VM's
// agent doesn't tell.
func (p *RemoteProcessState) Pid() int {
	if p == nil || p.pid <= 0 {
		return -1
	}
	return p.pid
}

// Signal returns the signal that ended the process, such as "KILL", or "".
func (p *RemoteProcessState) Signal() string {
	if p == nil {
		return ""
	}
	return p.signal
}

// String returns how the process ended: "exit status 42", "signal: KILL", or
// why it was not started.
func (p *RemoteProcessState) String() string {
	switch {
	case p == nil:
		return "<nil>"
	case p.notStarted:
		return "not started: " + p.reason
	case p.signal != "":
		return "signal: " + p.signal
	case p.exited:
		return fmt.Sprintf("exit status %d", p.code)
	}
	return p.reason
}

// Success reports whether the process exited with 0.
func (p *RemoteProcessState) Success() bool { return p != nil && p.exited && p.code == 0 }

// Error is String. It makes errors.As find the state in an ExitError.
func (p *RemoteProcessState) Error() string { return p.String() }

// ExitError is the error of a RemoteCmd whose process ended otherwise than with
// 0, or could not be started.
type ExitError struct {
	*RemoteProcessState

	// Stderr is the error output, if the error comes from Output and the
	// command's Stderr was nil. Of more than 64 KiB it holds the first and
	// the last 32 KiB and between them a line that says how much is missing.
	Stderr []byte
}

// Error returns how the process ended, as RemoteProcessState's String does.
func (e *ExitError) Error() string { return e.String() }

// Unwrap returns the *RemoteProcessState, or nil if there is none.
func (e *ExitError) Unwrap() error {
	if e.RemoteProcessState == nil {
		return nil
	}
	return e.RemoteProcessState
}
